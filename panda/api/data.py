"""/v1/datasets: datasets, their files, and the bytes of these."""

import falcon

from panda.api import schemas
from panda.api.access import allowed
from panda.api.answers import show, show_page
from panda.api.body import Body, Upload
from panda.api.errors import BadRequest
from panda.api.parameters import page_limit, word
from panda.auth import policy
from panda.auth.policy import Action
from panda.brokerage import siteinfo
from panda.dataservice import catalog
from panda.db.session import Begin
from panda.errors import Invalid
from panda.names import ADLER32


class DatasetsResource:
    """/v1/datasets"""

    def __init__(self, begin: Begin, max_mb: int) -> None:
        self._begin = begin
        self._body = Body(schemas.DatasetRequest, max_mb)

    @allowed(Action.WRITE_DATA)
    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Make an empty dataset of the caller's; the caller's own, made again, stays as it is."""
        did = self._body.read(req).dataset
        with self._begin() as connection:
            catalog.create(connection, did, owner=req.context.identity.subject)
            dataset = catalog.show(connection, did)
        resp.status = falcon.HTTP_201
        resp.set_header("Location", f"/v1/datasets/{did}")
        show(resp, schemas.Dataset(**dataset._asdict()))

    @allowed(Action.READ_DATA, "after", "limit")
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """All datasets, by name."""
        limit = page_limit(req)
        with self._begin() as connection:
            found = catalog.datasets(connection, word(req, "after") or "", limit)
        items = [schemas.Dataset(**row._asdict()) for row in found]
        show_page(resp, items, items[-1].dataset if len(items) == limit else None)


class DatasetResource:
    """/v1/datasets/{did}"""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    @allowed(Action.READ_DATA)
    def on_get(self, req: falcon.Request, resp: falcon.Response, did: str) -> None:
        with self._begin() as connection:
            dataset = catalog.show(connection, did)
        show(resp, schemas.Dataset(**dataset._asdict()))


class DatasetCloseResource:
    """/v1/datasets/{did}/close"""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    @allowed(Action.WRITE_DATA)
    def on_post(self, req: falcon.Request, resp: falcon.Response, did: str) -> None:
        """No more files join it. Closing a closed one changes nothing."""
        with self._begin() as connection:
            policy.require(req.context.identity, Action.WRITE_DATA, catalog.show(connection, did).owner)
            catalog.close(connection, did)
            dataset = catalog.show(connection, did)
        show(resp, schemas.Dataset(**dataset._asdict()))


class DatasetFilesResource:
    """/v1/datasets/{did}/files"""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    @allowed(Action.READ_DATA, "after", "limit")
    def on_get(self, req: falcon.Request, resp: falcon.Response, did: str) -> None:
        """The files of a dataset, by name."""
        limit = page_limit(req)
        with self._begin() as connection:
            found = catalog.files_of(connection, did, after=word(req, "after") or "", limit=limit)
        items = [schemas.DatasetFile(**row._asdict()) for row in found]
        show_page(resp, items, items[-1].lfn if len(items) == limit else None)


class DatasetFileResource:
    """/v1/datasets/{did}/files/{lfn}"""

    def __init__(self, begin: Begin, max_mb: int) -> None:
        self._begin = begin
        self._max_mb = max_mb

    @allowed(Action.WRITE_DATA, "storage")
    def on_put(self, req: falcon.Request, resp: falcon.Response, did: str, lfn: str) -> None:
        """Store the body on `storage` and register it; `X-Adler32`, if given, must fit the bytes."""
        adler32 = req.get_header("X-Adler32")
        if adler32 is not None and not ADLER32.match(adler32):
            raise BadRequest("eight hexadecimal digits in lower case", where="X-Adler32")
        upload = Upload(req, self._max_mb)
        if adler32 is None and not upload.has_length:
            # A chunked body that breaks off looks like one that ended.
            raise BadRequest("a body of unknown length needs X-Adler32", where="X-Adler32", code="length_required")
        identity = req.context.identity
        with self._begin() as connection:
            policy.require(identity, Action.WRITE_DATA, catalog.show(connection, did).owner)
            storage = word(req, "storage") or _only([row.name for row in siteinfo.storages(connection)])
        file = catalog.put(
            self._begin, did, lfn, upload, storage=storage, owner=identity.subject, cap_bytes=upload.cap_bytes,
            adler32=adler32,
        )  # fmt: skip
        resp.status = falcon.HTTP_201
        show(resp, schemas.DatasetFile(**file._asdict()))

    @allowed(Action.READ_DATA)
    def on_get(self, req: falcon.Request, resp: falcon.Response, did: str, lfn: str) -> None:
        """The bytes of a file; `X-Adler32` is their checksum."""
        stream, size_bytes, adler32 = catalog.open_file(self._begin, did, lfn)
        resp.content_type = "application/octet-stream"
        resp.set_header("X-Content-Type-Options", "nosniff")
        resp.set_header("Content-Disposition", f'attachment; filename="{lfn}"')
        resp.set_header("X-Adler32", adler32)
        resp.set_stream(stream, size_bytes)


def _only(storages: list[str]) -> str:
    if len(storages) != 1:
        known = ", ".join(storages) or "there is none"
        raise Invalid(f"say which storage takes the file: {known}", where="storage", code="storage_missing")
    return storages[0]
