"""/v1/switches: what operators paused, and to pause and resume it."""

import falcon

from panda.api import schemas
from panda.api.access import allowed
from panda.api.answers import show
from panda.api.body import Body
from panda.api.described import Page, gives
from panda.api.listing import SHORT_LIST, SHORT_LIST_PROBLEMS, show_short_list
from panda.auth.policy import Action
from panda.db.session import Begin
from panda.jobs import switches
from panda.jobs.switches import Place, What
from panda.sites.waking import look_again


class SwitchesResource:
    """/v1/switches"""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    @allowed(Action.READ_SITES, *SHORT_LIST)
    @gives(Page(schemas.Switch, is_list=True), problems=SHORT_LIST_PROBLEMS)
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Everything that is paused, the newest first."""
        with self._begin() as connection:
            found = switches.current(connection)
        shown = [
            schemas.Switch(
                what=each.what, **each.place._asdict(), by=each.by, reason=each.reason, at=each.at, until=each.until
            )
            for each in found
        ]
        show_short_list(req, resp, schemas.Switch, shown)


class SwitchResource:
    """/v1/switches/{what}"""

    def __init__(self, begin: Begin, max_mb: int) -> None:
        self._begin = begin
        self._body = Body(schemas.SwitchRequest, max_mb)

    @allowed(Action.SET_SWITCH)
    @gives(schemas.SwitchSet, takes=schemas.SwitchRequest, problems={422: "unknown_switch no_reason bad_place"})
    def on_post(self, req: falcon.Request, resp: falcon.Response, what: str) -> None:
        """Pause `brokerage` or `dispatch`, or resume it, at a place: nothing named is everywhere. It counts within a
        second; who and why is written to the audit log."""
        asked = self._body.read(req)
        place = Place(asked.site, asked.queue, asked.node)
        by, request_id, n_woken = req.context.identity.subject, req.context.request_id, 0
        with self._begin() as connection:
            if asked.paused:
                switches.pause(
                    connection, what, place, by=by, reason=asked.reason, for_s=asked.for_s, request_id=request_id
                )
            else:
                switches.resume(connection, what, place, by=by, reason=asked.reason, request_id=request_id)
                if what == What.BROKERAGE:
                    n_woken = look_again(connection)
        show(resp, schemas.SwitchSet(what=what, **place._asdict(), paused=asked.paused, n_woken=n_woken))
