"""/v1/sandboxes: what every job of a set unpacks first, named by the hash of its bytes."""

import falcon

from panda.api import schemas
from panda.api.access import allowed
from panda.api.answers import show
from panda.api.body import Upload
from panda.api.described import Raw, gives
from panda.auth.policy import Action
from panda.db.session import Begin
from panda.jobs.spool import Spool


class SandboxResource:
    """/v1/sandboxes/{sha256}

    Whoever knows the hash may read: it can only be known from the bytes, or from a job that names it.
    """

    def __init__(self, begin: Begin, spool: Spool, max_mb: int) -> None:
        self._begin = begin
        self._spool = spool
        self._max_mb = max_mb

    @allowed(Action.WRITE_SANDBOX)
    @gives(
        schemas.SandboxStored,
        status=(200, 201),
        takes=Raw("application/gzip"),
        problems={422: "invalid hash_mismatch", 503: "spool_down", 507: "storage_full"},
    )
    def on_put(self, req: falcon.Request, resp: falcon.Response, sha256: str) -> None:
        """Store the body; 201 if it is new. 422 `hash_mismatch`: these bytes have another hash."""
        upload = Upload(req, self._max_mb)
        owner = req.context.identity.subject
        stored = self._spool.put_sandbox(self._begin, sha256, upload, owner=owner, cap_bytes=upload.cap_bytes)
        resp.status = falcon.HTTP_201 if stored.is_new else falcon.HTTP_200
        show(resp, schemas.SandboxStored(sha256=stored.sha256, size_bytes=stored.size_bytes))

    @allowed(Action.READ_SANDBOX)
    @gives(Raw("application/gzip"), problems={422: "invalid", 503: "spool_down"})
    def on_get(self, req: falcon.Request, resp: falcon.Response, sha256: str) -> None:
        """The bytes."""
        size_bytes = self._size(sha256)
        _describe(resp, sha256)
        resp.set_stream(self._spool.open_sandbox(sha256), size_bytes)

    @allowed(Action.READ_SANDBOX)
    @gives(None, problems={422: "invalid"})
    def on_head(self, req: falcon.Request, resp: falcon.Response, sha256: str) -> None:
        """Whether it is here."""
        resp.content_length = self._size(sha256)
        _describe(resp, sha256)

    def _size(self, sha256: str) -> int:
        with self._begin() as connection:
            return self._spool.sandbox_size(connection, sha256)


def _describe(resp: falcon.Response, sha256: str) -> None:
    resp.content_type = "application/gzip"
    resp.set_header("X-Content-Type-Options", "nosniff")
    resp.set_header("Content-Disposition", f'attachment; filename="{sha256}.tar.gz"')
    resp.etag = sha256
