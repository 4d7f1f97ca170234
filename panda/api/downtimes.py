"""/v1/downtimes: when sites, queues and storages are not to be used."""

import falcon

from panda.api.access import allowed
from panda.api.answers import show
from panda.api.body import Body
from panda.api.described import Page, gives
from panda.api.listing import CURSOR, LIST, LIST_PROBLEMS, found_one, show_list
from panda.api.schemas import Affected
from panda.api.site_schemas import Downtime, DowntimeCancelRequest, DowntimeChangeRequest, DowntimeRequest
from panda.auth.policy import Action
from panda.db.lists import MAX_PAGE
from panda.db.session import Begin
from panda.sites import downtimes
from panda.sites.nouns import DOWNTIMES


class DowntimesResource:
    """/v1/downtimes"""

    def __init__(self, begin: Begin, max_mb: int) -> None:
        self._begin = begin
        self._body = Body(DowntimeRequest, max_mb)

    @allowed(Action.READ_SITES, *LIST)
    @gives(Page(Downtime, is_list=True), parameters={"after": CURSOR}, problems=LIST_PROBLEMS)
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Downtimes that fit, by name; those that are not over with `filter=status:planned,now`."""
        show_list(self._begin, req, resp, DOWNTIMES, Downtime, default=MAX_PAGE)

    @allowed(Action.CHANGE_SITES)
    @gives(
        Downtime,
        status=201,
        takes=DowntimeRequest,
        problems={409: "downtime_exists", 422: "no_reason bad_name bad_downtime"},
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Plan a downtime; without a start it begins now."""
        asked = self._body.read(req)
        with self._begin() as connection:
            name = downtimes.plan(
                connection, kind=asked.kind, target=asked.target, starts_at=asked.starts_at, ends_at=asked.ends_at,
                reason=asked.reason, name=asked.name, by=req.context.identity.subject,
                request_id=req.context.request_id,
            )  # fmt: skip
        resp.status = falcon.HTTP_201
        resp.set_header("Location", f"/v1/downtimes/{name}")
        show(resp, Downtime(**found_one(self._begin, DOWNTIMES, name)._asdict()))


class DowntimeResource:
    """/v1/downtimes/{name}"""

    def __init__(self, begin: Begin, max_mb: int) -> None:
        self._begin = begin
        self._body = Body(DowntimeChangeRequest, max_mb)

    @allowed(Action.READ_SITES)
    @gives(Downtime)
    def on_get(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """A downtime."""
        show(resp, Downtime(**found_one(self._begin, DOWNTIMES, name)._asdict()))

    @allowed(Action.CHANGE_SITES)
    @gives(Downtime, takes=DowntimeChangeRequest, problems={422: "no_reason bad_downtime"})
    def on_post(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Give a downtime another start or end."""
        asked = self._body.read(req)
        with self._begin() as connection:
            downtimes.change(
                connection, name, by=req.context.identity.subject, reason=asked.reason, starts_at=asked.starts_at,
                ends_at=asked.ends_at, request_id=req.context.request_id,
            )  # fmt: skip
        show(resp, Downtime(**found_one(self._begin, DOWNTIMES, name)._asdict()))


class DowntimeCancelResource:
    """/v1/downtimes/{name}/cancel"""

    def __init__(self, begin: Begin, max_mb: int) -> None:
        self._begin = begin
        self._body = Body(DowntimeCancelRequest, max_mb)

    @allowed(Action.CHANGE_SITES)
    @gives(Affected, takes=DowntimeCancelRequest, problems={422: "no_reason"})
    def on_post(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """It does not take place, or is over; the history keeps it."""
        asked = self._body.read(req)
        with self._begin() as connection:
            downtimes.cancel(
                connection,
                name,
                by=req.context.identity.subject,
                reason=asked.reason,
                request_id=req.context.request_id,
            )
        show(resp, Affected(n=1))
