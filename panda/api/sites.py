"""/v1/queues, /v1/sites, /v1/storages: where jobs may run, and whether they may now."""

import falcon

from panda.api import schemas
from panda.api.access import allowed
from panda.api.answers import show, show_page
from panda.api.body import Body
from panda.auth.policy import Action
from panda.brokerage import siteinfo
from panda.db.session import Begin


class QueuesResource:
    """/v1/queues"""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    @allowed(Action.READ_SITES, "limit")
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """All queues by name; there are no pages."""
        with self._begin() as connection:
            found = siteinfo.queues(connection)
        show_page(resp, [schemas.Queue(**row._asdict()) for row in found])


class SitesResource:
    """/v1/sites"""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    @allowed(Action.READ_SITES, "limit")
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """All sites by name; there are no pages."""
        with self._begin() as connection:
            found = siteinfo.sites(connection)
        show_page(resp, [schemas.Site(**row._asdict()) for row in found])


class StoragesResource:
    """/v1/storages"""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    @allowed(Action.READ_SITES, "limit")
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """All storages by name; there are no pages."""
        with self._begin() as connection:
            found = siteinfo.storages(connection)
        show_page(resp, [schemas.Storage(**row._asdict()) for row in found])


class QueueStatusResource:
    """/v1/queues/{name}/status"""

    def __init__(self, begin: Begin, max_mb: int) -> None:
        self._begin = begin
        self._body = Body(schemas.QueueStatusRequest, max_mb)

    @allowed(Action.SET_QUEUE)
    def on_post(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Open or close a queue; who, why and what it was before is written to the audit log."""
        asked = self._body.read(req)
        with self._begin() as connection:
            n_woken = siteinfo.set_queue_status(
                connection,
                name,
                asked.status,
                by=req.context.identity.subject,
                reason=asked.reason,
                request_id=req.context.request_id,
            )
        show(resp, schemas.QueueStatusSet(queue=name, status=asked.status, n_woken=n_woken))
