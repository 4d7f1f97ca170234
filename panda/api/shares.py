"""/v1/shares: whose part of the machines is how large, and how each stands to it."""

import falcon

from panda.api import schemas
from panda.api.access import allowed
from panda.api.answers import show
from panda.api.body import Body
from panda.api.described import Page, gives
from panda.api.listing import SHORT_LIST, SHORT_LIST_PROBLEMS, show_short_list
from panda.auth.policy import Action
from panda.db.session import Begin
from panda.jobs import share_changes, share_usage, shares


class SharesResource:
    """/v1/shares"""

    def __init__(self, begin: Begin, max_mb: int) -> None:
        self._begin = begin
        self._body = Body(schemas.ShareRequest, max_mb)

    @allowed(Action.READ_SHARES, *SHORT_LIST)
    @gives(Page(schemas.Share, is_list=True), problems=SHORT_LIST_PROBLEMS)
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """The tree of shares, each one followed by those below it. Running cores are as of
        the last count, which is at most some seconds old."""
        with self._begin() as connection:
            found = share_usage.standings(connection)
        show_short_list(req, resp, schemas.Share, [schemas.Share(**each._asdict()) for each in found])

    @allowed(Action.SET_SHARE)
    @gives(
        schemas.SharePlaced,
        status=201,
        takes=schemas.ShareRequest,
        problems={404: "not_found", 409: "share_exists", 422: "bad_name bad_share bad_weight no_reason"},
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Add a share; it stays until it is taken away, or until the file of shares says something of it."""
        asked = self._body.read(req)
        with self._begin() as connection:
            share_changes.add(
                connection, asked.name, parent=asked.parent or None, weight=asked.weight,
                by=req.context.identity.subject, reason=asked.reason, request_id=req.context.request_id,
            )  # fmt: skip
        resp.status = falcon.HTTP_201
        resp.set_header("Location", f"/v1/shares/{asked.name}")
        show(resp, schemas.SharePlaced(share=asked.name, parent=asked.parent))


class ShareMoveResource:
    """/v1/shares/{name}/move"""

    def __init__(self, begin: Begin, max_mb: int) -> None:
        self._begin = begin
        self._body = Body(schemas.ShareMoveRequest, max_mb)

    @allowed(Action.SET_SHARE)
    @gives(schemas.SharePlaced, takes=schemas.ShareMoveRequest, problems={422: "bad_share no_reason"})
    def on_post(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Put a share, with those below it, below another one, or at the top."""
        asked = self._body.read(req)
        with self._begin() as connection:
            share_changes.move(
                connection, name, parent=asked.parent or None, by=req.context.identity.subject, reason=asked.reason,
                request_id=req.context.request_id,
            )  # fmt: skip
        show(resp, schemas.SharePlaced(share=name, parent=asked.parent))


class ShareRemovalResource:
    """/v1/shares/{name}/remove"""

    def __init__(self, begin: Begin, max_mb: int) -> None:
        self._begin = begin
        self._body = Body(schemas.ShareRemovalRequest, max_mb)

    @allowed(Action.SET_SHARE)
    @gives(schemas.ShareRemoved, takes=schemas.ShareRemovalRequest, problems={409: "share_in_use", 422: "no_reason"})
    def on_post(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Take a share away; jobs that name it still have their turn, at the top of the tree."""
        asked = self._body.read(req)
        with self._begin() as connection:
            share_changes.remove(
                connection, name, by=req.context.identity.subject, reason=asked.reason,
                request_id=req.context.request_id,
            )  # fmt: skip
        show(resp, schemas.ShareRemoved(share=name))


class ShareResource:
    """/v1/shares/{name}"""

    def __init__(self, begin: Begin, max_mb: int) -> None:
        self._begin = begin
        self._body = Body(schemas.ShareWeightRequest, max_mb)

    @allowed(Action.SET_SHARE)
    @gives(
        schemas.ShareWeightSet, takes=schemas.ShareWeightRequest, problems={422: "bad_weight no_reason unknown_share"}
    )
    def on_put(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Give a share another weight; who, why and what it was before is written to the audit log."""
        asked = self._body.read(req)
        with self._begin() as connection:
            was = shares.set_weight(
                connection,
                name,
                asked.weight,
                by=req.context.identity.subject,
                reason=asked.reason,
                request_id=req.context.request_id,
            )
        show(resp, schemas.ShareWeightSet(share=name, weight=asked.weight, was=was))
