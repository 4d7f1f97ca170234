"""/v1/users, /v1/tokens: people are made, banned and let in again; tokens are ended."""

import falcon

from panda.api import schemas
from panda.api.access import allowed
from panda.api.answers import show
from panda.api.body import Body
from panda.api.described import gives
from panda.auth import policy, users
from panda.auth.policy import Action
from panda.db.session import Begin
from panda.jobs import bulk
from panda.settings import Settings

#: The jobs of somebody that pilots have.
RUNNING = "owner:{0} status:sent,starting,running"


class UserBanResource:
    """/v1/users/{name}/ban"""

    def __init__(self, begin: Begin, settings: Settings, max_mb: int) -> None:
        self._begin = begin
        self._settings = settings
        self._body = Body(schemas.BanRequest, max_mb)

    @allowed(Action.BAN_USER)
    @gives(schemas.Affected, takes=schemas.BanRequest, problems={422: "no_reason own_account"})
    def on_post(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Refuse every token of a user, within five seconds, and start none of their jobs any more. `n` is 0 if they
        were banned already."""
        asked = self._body.read(req)
        by, request_id = req.context.identity.subject, req.context.request_id
        with self._begin() as connection:
            is_new = users.ban(connection, name, by=by, reason=asked.reason, request_id=request_id)
            if (asked.running or self._settings.quotas.banned_running) == "kill":
                bulk.begin_at_once(
                    connection, "cancel", RUNNING.format(name), stage=None, by=by,
                    reason=f"{name} is banned: {asked.reason}", request_id=request_id,
                )  # fmt: skip
        show(resp, schemas.Affected(n=int(is_new)))


class UserUnbanResource:
    """/v1/users/{name}/unban"""

    def __init__(self, begin: Begin, max_mb: int) -> None:
        self._begin = begin
        self._body = Body(schemas.UnbanRequest, max_mb)

    @allowed(Action.BAN_USER)
    @gives(schemas.Affected, takes=schemas.UnbanRequest, problems={422: "no_reason"})
    def on_post(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Let a user in again, with the tokens that they have. `n` is 0 if they were not banned."""
        asked = self._body.read(req)
        with self._begin() as connection:
            was_banned = users.unban(
                connection, name, by=req.context.identity.subject, reason=asked.reason,
                request_id=req.context.request_id,
            )  # fmt: skip
        show(resp, schemas.Affected(n=int(was_banned)))


class UserRevokeResource:
    """/v1/users/{name}/revoke-tokens"""

    def __init__(self, begin: Begin, max_mb: int) -> None:
        self._begin = begin
        self._body = Body(schemas.RevokeRequest, max_mb, may_be_empty=True)

    @allowed(Action.REVOKE_TOKEN)
    @gives(schemas.Affected, takes=schemas.RevokeRequest, takes_nothing_too=True)
    def on_post(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Revoke every token of a user; each is refused within five seconds. `n` counts those that were good."""
        asked = self._body.read(req)
        policy.require(req.context.identity, Action.REVOKE_TOKEN, name)
        with self._begin() as connection:
            n = users.revoke_all(
                connection, name, by=req.context.identity.subject, reason=asked.reason,
                request_id=req.context.request_id,
            )  # fmt: skip
        show(resp, schemas.Affected(n=n))


class TokenRevokeResource:
    """/v1/tokens/{token_id}/revoke"""

    def __init__(self, begin: Begin, max_mb: int) -> None:
        self._begin = begin
        self._body = Body(schemas.RevokeRequest, max_mb, may_be_empty=True)

    @allowed(Action.REVOKE_TOKEN)
    @gives(schemas.Affected, takes=schemas.RevokeRequest, takes_nothing_too=True)
    def on_post(self, req: falcon.Request, resp: falcon.Response, token_id: int) -> None:
        """Revoke a token; it is refused within five seconds. `n` is 0 if it was revoked before."""
        asked = self._body.read(req)
        identity = req.context.identity
        with self._begin() as connection:
            policy.require(identity, Action.REVOKE_TOKEN, users.owner_of_token(connection, token_id))
            was_good = users.revoke(
                connection, token_id, by=identity.subject, reason=asked.reason, request_id=req.context.request_id
            )
        show(resp, schemas.Affected(n=int(was_good)))
