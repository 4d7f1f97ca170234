"""/v1/queues, /v1/sites, /v1/storages: where jobs may run, and whether they may now."""

from typing import Any

import falcon
from sqlalchemy.engine import Row

from panda.api import site_schemas
from panda.api.access import allowed
from panda.api.answers import show
from panda.api.body import Body
from panda.api.described import Page, gives
from panda.api.listing import CURSOR, LIST, LIST_PROBLEMS, found_one, show_list
from panda.auth.policy import Action
from panda.db.lists import MAX_PAGE
from panda.db.session import Begin
from panda.dispatcher import mismatches
from panda.sites import removing
from panda.sites.nouns import QUEUES, SITES, STORAGES
from panda.sites.status import set_queue_status


class QueuesResource:
    """/v1/queues"""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    @allowed(Action.READ_SITES, *LIST)
    @gives(Page(site_schemas.Queue, is_list=True), parameters={"after": CURSOR}, problems=LIST_PROBLEMS)
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Queues that fit, by name."""
        show_list(self._begin, req, resp, QUEUES, site_schemas.Queue, default=MAX_PAGE)


class QueueResource:
    """/v1/queues/{name}"""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    @allowed(Action.READ_SITES)
    @gives(site_schemas.Queue)
    def on_get(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """A queue."""
        show(resp, site_schemas.Queue(**found_one(self._begin, QUEUES, name)._asdict()))


class QueueMismatchesResource:
    """/v1/queues/{name}/mismatches"""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    @allowed(Action.READ_PILOTS)
    @gives(site_schemas.QueueMismatches)
    def on_get(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """How the asks of pilots at a queue ended in the last 24 hours, and what pilots had too little of for the jobs
        that were ready there: the ten commonest, by what jobs of one shape need."""
        with self._begin() as connection:
            found = mismatches.of_queue(connection, name)
        show(
            resp,
            site_schemas.QueueMismatches(
                queue=name,
                asks=[site_schemas.Asks(outcome=ask.word, n=ask.n, last_at=ask.last_at) for ask in found.asks],
                mismatches=[_mismatch(row) for row in found.misfits],
            ),
        )


def _mismatch(row: Row[Any]) -> site_schemas.Mismatch:
    facts = row._asdict()
    what = facts.pop("word")
    return site_schemas.Mismatch(what=what, needed=None if what == "tags" else facts[what], **facts)


class SitesResource:
    """/v1/sites"""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    @allowed(Action.READ_SITES, *LIST)
    @gives(Page(site_schemas.Site, is_list=True), parameters={"after": CURSOR}, problems=LIST_PROBLEMS)
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Sites that fit, by name."""
        show_list(self._begin, req, resp, SITES, site_schemas.Site, default=MAX_PAGE)


class SiteResource:
    """/v1/sites/{name}"""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    @allowed(Action.READ_SITES)
    @gives(site_schemas.Site)
    def on_get(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """A site."""
        show(resp, site_schemas.Site(**found_one(self._begin, SITES, name)._asdict()))


class StoragesResource:
    """/v1/storages"""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    @allowed(Action.READ_SITES, *LIST)
    @gives(Page(site_schemas.Storage, is_list=True), parameters={"after": CURSOR}, problems=LIST_PROBLEMS)
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Storages that fit, by name."""
        show_list(self._begin, req, resp, STORAGES, site_schemas.Storage, default=MAX_PAGE)


class StorageResource:
    """/v1/storages/{name}"""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    @allowed(Action.READ_SITES)
    @gives(site_schemas.Storage)
    def on_get(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """A storage."""
        show(resp, site_schemas.Storage(**found_one(self._begin, STORAGES, name)._asdict()))


class QueueStatusResource:
    """/v1/queues/{name}/status"""

    def __init__(self, begin: Begin, max_mb: int) -> None:
        self._begin = begin
        self._body = Body(site_schemas.QueueStatusRequest, max_mb)

    @allowed(Action.SET_QUEUE)
    @gives(
        site_schemas.QueueStatusSet,
        takes=site_schemas.QueueStatusRequest,
        problems={409: "queue_removed", 422: "unknown_queue_status no_reason bad_until not_in_test"},
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Open or close a queue; who, why and what it was before is written to the audit log."""
        asked = self._body.read(req)
        with self._begin() as connection:
            n_woken = set_queue_status(
                connection,
                name,
                asked.status,
                by=req.context.identity.subject,
                reason=asked.reason,
                request_id=req.context.request_id,
                until=asked.until,
                then=asked.then,
                tried=asked.tried,
            )
        show(resp, site_schemas.QueueStatusSet(queue=name, status=asked.status, n_woken=n_woken))


class QueueRemoveResource:
    """/v1/queues/{name}/remove"""

    def __init__(self, begin: Begin, max_mb: int) -> None:
        self._begin = begin
        self._body = Body(site_schemas.QueueRemoveRequest, max_mb)

    @allowed(Action.CHANGE_SITES)
    @gives(
        site_schemas.QueueRemoved,
        status=202,
        takes=site_schemas.QueueRemoveRequest,
        problems={409: "queue_removed", 422: "no_reason"},
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Take a queue away: it is offline at once, jobs that no pilot has taken are brokered again, and it goes when
        the others have ended and can no longer be retried."""
        asked = self._body.read(req)
        with self._begin() as connection:
            removal = removing.remove_queue(
                connection, name, by=req.context.identity.subject, reason=asked.reason,
                request_id=req.context.request_id,
            )  # fmt: skip
        resp.status = falcon.HTTP_202
        show(resp, site_schemas.QueueRemoved(queue=removal.queue, n_live=removal.n_live))
