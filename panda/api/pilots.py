"""/v1/pilots: what pilots ask and report. The hot path: nothing here is made per request.

A pilot is let in by its own token; each job's lease token fences what is said about that job.
"""

import falcon

from panda.api import schemas
from panda.api.access import allowed
from panda.api.answers import show
from panda.api.body import Body, raw_body
from panda.api.described import Raw, gives
from panda.api.errors import BadRequest
from panda.api.parameters import whole, whole_number
from panda.auth.policy import Action
from panda.db.session import Begin
from panda.dispatcher import dispatch, reports
from panda.errors import Forbidden
from panda.jobs.spool import MAX_CHUNK_BYTES, MAX_LOG_BYTES, Spool
from panda.settings import Settings


class AcquireResource:
    """/v1/pilots/acquire"""

    def __init__(self, begin: Begin, settings: Settings) -> None:
        self._begin = begin
        self._settings = settings
        self._body = Body(schemas.AcquireRequest, settings.api.max_body_mb)

    @allowed(Action.PILOT)
    @gives(schemas.AcquireReply, takes=schemas.AcquireRequest, problems={404: "not_found", 409: "pilot_moved"})
    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Jobs for a pilot; with `wait_s` the answer may take that long."""
        request = self._body.read(req)
        identity = req.context.identity
        if identity.queue is not None and identity.queue != request.queue:
            raise Forbidden(identity.subject, f"take jobs of queue {request.queue}; its token is for {identity.queue}")
        show(resp, dispatch.acquire(self._begin, request, self._settings))


class UpdateResource:
    """/v1/pilots/update"""

    def __init__(self, begin: Begin, settings: Settings) -> None:
        self._begin = begin
        self._settings = settings
        self._body = Body(schemas.UpdateRequest, settings.api.max_body_mb)

    @allowed(Action.PILOT)
    @gives(schemas.UpdateReply, takes=schemas.UpdateRequest)
    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """News of a pilot's jobs; one outcome for each report."""
        show(resp, reports.update(self._begin, self._body.read(req), self._settings))


class HeartbeatResource:
    """/v1/pilots/heartbeat"""

    def __init__(self, begin: Begin, settings: Settings) -> None:
        self._begin = begin
        self._settings = settings
        self._body = Body(schemas.HeartbeatRequest, settings.api.max_body_mb)

    @allowed(Action.PILOT)
    @gives(schemas.HeartbeatReply, takes=schemas.HeartbeatRequest)
    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Prolong the leases of a pilot's jobs; hear whom to kill."""
        show(resp, reports.heartbeat(self._begin, self._body.read(req), self._settings))


class PilotLogResource:
    """/v1/pilots/logs/{panda_id}/{attempt_nr}/{name}?offset=N"""

    def __init__(self, begin: Begin, spool: Spool) -> None:
        self._begin = begin
        self._spool = spool

    @allowed(Action.PILOT, "offset")
    @gives(
        schemas.LogAccepted,
        takes=Raw("application/octet-stream"),
        headers=("X-Lease-Token",),
        parameters={"offset": whole_number(0, MAX_LOG_BYTES, "Byte of the log that the chunk begins with.")},
        problems={409: "log_gap stale_lease", 422: "bad_name", 503: "spool_down", 507: "storage_full"},
    )
    def on_put(self, req: falcon.Request, resp: falcon.Response, panda_id: int, attempt_nr: int, name: str) -> None:
        """A chunk of a log. 409 `log_gap` with `size_bytes`: go on from there; 409 `stale_lease`: stop."""
        offset = whole(req, "offset", 0, 0, MAX_LOG_BYTES)
        token = req.env.get("HTTP_X_LEASE_TOKEN", "")
        if not token:
            raise BadRequest("the lease token of the job is needed", where="X-Lease-Token")
        chunk = raw_body(req, MAX_CHUNK_BYTES)
        with self._begin() as connection:
            size_bytes = self._spool.append_log(
                connection, panda_id, attempt_nr, name, token=token, offset=offset, chunk=chunk
            )
            is_watched = self._spool.is_watched(connection, panda_id, attempt_nr, name)
        show(resp, schemas.LogAccepted(size_bytes=size_bytes, watched=is_watched))
