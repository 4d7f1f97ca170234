"""/v1/users, /v1/tokens/{token_id}: who may do what here."""

import falcon

from panda.api import schemas
from panda.api.access import allowed
from panda.api.answers import show
from panda.api.body import Body
from panda.api.described import Page, gives
from panda.api.listing import CURSOR, LIST, LIST_PROBLEMS, found_one, show_list
from panda.auth import policy, users
from panda.auth.nouns import TOKENS, USERS
from panda.auth.policy import Action
from panda.db.session import Begin
from panda.query import EVERYTHING, equal_to


class UsersResource:
    """/v1/users"""

    def __init__(self, begin: Begin, max_mb: int) -> None:
        self._begin = begin
        self._body = Body(schemas.UserRequest, max_mb)

    @allowed(Action.CREATE_TOKEN)
    @gives(
        schemas.User,
        status=201,
        takes=schemas.UserRequest,
        problems={409: "user_exists", 422: "bad_name unknown_role"},
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Make a user, whose tokens may carry these roles and no others."""
        asked = self._body.read(req)
        with self._begin() as connection:
            users.create(
                connection, asked.name, asked.roles, by=req.context.identity.subject, reason=asked.reason,
                request_id=req.context.request_id,
            )  # fmt: skip
        resp.status = falcon.HTTP_201
        resp.set_header("Location", f"/v1/users/{asked.name}")
        show(resp, schemas.User(**found_one(self._begin, USERS, asked.name)._asdict()))

    @allowed(Action.READ_USERS, *LIST)
    @gives(Page(schemas.User, is_list=True), parameters={"after": CURSOR}, problems=LIST_PROBLEMS)
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Users that fit, by name."""
        name = policy.scope(req.context.identity, Action.READ_USERS, None)
        also = EVERYTHING if name is None else equal_to(USERS.fields["name"], name)
        show_list(self._begin, req, resp, USERS, schemas.User, also=also)


class UserResource:
    """/v1/users/{name}"""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    @allowed(Action.READ_USERS)
    @gives(schemas.User)
    def on_get(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """A user."""
        policy.require(req.context.identity, Action.READ_USERS, name)
        show(resp, schemas.User(**found_one(self._begin, USERS, name)._asdict()))


class TokenResource:
    """/v1/tokens/{token_id}"""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    @allowed(Action.READ_TOKENS)
    @gives(schemas.Token)
    def on_get(self, req: falcon.Request, resp: falcon.Response, token_id: int) -> None:
        """What a token is for."""
        found = found_one(self._begin, TOKENS, token_id)
        policy.require(req.context.identity, Action.READ_TOKENS, found.owner)
        show(resp, schemas.Token(**found._asdict()))
