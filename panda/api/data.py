"""/v1/datasets: datasets, their files, and the bytes of these."""

from typing import Any

import falcon

from panda.api import data_schemas, schemas
from panda.api.access import allowed
from panda.api.answers import show, show_page
from panda.api.body import Body, Upload
from panda.api.described import Page, Raw, gives
from panda.api.errors import BadRequest
from panda.api.listing import CURSOR, LIST, LIST_PROBLEMS, found_one, show_list
from panda.api.parameters import NAME, page_limit, word
from panda.api.ranges import Part, asked_part, skip
from panda.auth import policy
from panda.auth.policy import Action
from panda.dataservice import catalog, containers, deletion
from panda.dataservice.digests import Told
from panda.dataservice.lineage import lineage
from panda.dataservice.nouns import DATASETS, FILES
from panda.db.session import Begin
from panda.errors import Invalid, Unavailable
from panda.names import ADLER32, GUID, MD5, SHA256
from panda.sites import siteinfo

#: What an uploader may say of the bytes, and how it is written.
TOLD = {
    "X-Adler32": (ADLER32, "eight hexadecimal digits in lower case"),
    "X-Sha256": (SHA256, "64 hexadecimal digits in lower case"),
    "X-Md5": (MD5, "32 hexadecimal digits in lower case"),
    "X-Guid": (GUID, "32 hexadecimal digits in five groups, as 8-4-4-4-12"),
}


class DatasetsResource:
    """/v1/datasets"""

    def __init__(self, begin: Begin, max_mb: int) -> None:
        self._begin = begin
        self._body = Body(schemas.DatasetRequest, max_mb)

    @allowed(Action.WRITE_DATA)
    @gives(
        schemas.Dataset,
        status=201,
        takes=schemas.DatasetRequest,
        problems={409: "dataset_exists dataset_closed dataset_deleting", 422: "bad_name"},
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Make an empty dataset or container of the caller's; the caller's own, made again, stays as it is."""
        said, owner = self._body.read(req), req.context.identity.subject
        did = said.dataset
        with self._begin() as connection:
            if said.kind == "container":
                containers.create(connection, did, owner=owner)
            else:
                catalog.create(connection, did, owner=owner)
            dataset = catalog.show(connection, did)
        resp.status = falcon.HTTP_201
        resp.set_header("Location", f"/v1/datasets/{did}")
        show(resp, schemas.Dataset(**dataset._asdict()))

    @allowed(Action.READ_DATA, *LIST)
    @gives(Page(schemas.Dataset, is_list=True), parameters={"after": CURSOR}, problems=LIST_PROBLEMS)
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Datasets that fit, by name; with `sort=-created` the newest first."""
        show_list(self._begin, req, resp, DATASETS, schemas.Dataset, make=_dataset)


class DatasetResource:
    """/v1/datasets/{did}"""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    @allowed(Action.READ_DATA)
    @gives(schemas.Dataset, problems={422: "bad_name"})
    def on_get(self, req: falcon.Request, resp: falcon.Response, did: str) -> None:
        """A dataset."""
        with self._begin() as connection:
            dataset = catalog.show(connection, did)
        show(resp, schemas.Dataset(**dataset._asdict()))

    @allowed(Action.WRITE_DATA)
    @gives(schemas.Dataset, status=202, problems={409: "dataset_pinned", 422: "bad_name"})
    def on_delete(self, req: falcon.Request, resp: falcon.Response, did: str) -> None:
        """Let a dataset go: no new reader comes, those that are there are waited for, then its files are removed."""
        with self._begin() as connection:
            policy.require(req.context.identity, Action.WRITE_DATA, catalog.show(connection, did).owner)
            deletion.delete(connection, did)
            dataset = catalog.show(connection, did)
        resp.status = falcon.HTTP_202
        show(resp, schemas.Dataset(**dataset._asdict()))


class DatasetLifetimeResource:
    """/v1/datasets/{did}/lifetime"""

    def __init__(self, begin: Begin, max_mb: int) -> None:
        self._begin = begin
        self._body = Body(data_schemas.KeepRequest, max_mb)

    @allowed(Action.WRITE_DATA)
    @gives(schemas.Dataset, takes=data_schemas.KeepRequest, problems={409: "dataset_deleting", 422: "bad_name"})
    def on_put(self, req: falcon.Request, resp: falcon.Response, did: str) -> None:
        """Say how long a dataset is kept, and pin it or not."""
        said = self._body.read(req)
        with self._begin() as connection:
            policy.require(req.context.identity, Action.WRITE_DATA, catalog.show(connection, did).owner)
            deletion.keep(connection, did, lifetime_s=said.lifetime_s, pinned=said.pinned)
            dataset = catalog.show(connection, did)
        show(resp, schemas.Dataset(**dataset._asdict()))


class LineageResource:
    """/v1/datasets/{did}/files/{lfn}/lineage"""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    @allowed(Action.READ_DATA)
    @gives(data_schemas.FileLineage, problems={422: "bad_name"})
    def on_get(self, req: falcon.Request, resp: falcon.Response, did: str, lfn: str) -> None:
        """Which job wrote a file, from what, and which jobs read it."""
        with self._begin() as connection:
            found = lineage(connection, did, lfn)
        made_from = [data_schemas.LineageFile(**row._asdict()) for row in found.made_from]
        read_by = [data_schemas.LineageJob(**row._asdict()) for row in found.read_by]
        show(resp, data_schemas.FileLineage(**found.file._asdict(), made_from=made_from, read_by=read_by))


class DatasetFilesResource:
    """/v1/datasets/{did}/files"""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    @allowed(Action.READ_DATA, "after", "limit")
    @gives(Page(schemas.DatasetFile), parameters={"after": NAME}, problems={409: "is_container", 422: "bad_name"})
    def on_get(self, req: falcon.Request, resp: falcon.Response, did: str) -> None:
        """The files of a dataset, by name."""
        limit = page_limit(req)
        with self._begin() as connection:
            found = catalog.files_of(connection, did, after=word(req, "after") or "", limit=limit)
        items = [schemas.DatasetFile(**row._asdict()) for row in found]
        show_page(resp, items, items[-1].lfn if len(items) == limit else None)


class FilesResource:
    """/v1/files"""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    @allowed(Action.READ_DATA, *LIST)
    @gives(Page(schemas.File, is_list=True), parameters={"after": CURSOR}, problems=LIST_PROBLEMS)
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Files that fit, newest first; those of one dataset (`filter=dataset:SCOPE:NAME`) by name."""
        show_list(self._begin, req, resp, FILES, schemas.File)


class FileResource:
    """/v1/files/{file_id}"""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    @allowed(Action.READ_DATA)
    @gives(schemas.File)
    def on_get(self, req: falcon.Request, resp: falcon.Response, file_id: int) -> None:
        """A file, and the storages that it lies on."""
        show(resp, schemas.File(**found_one(self._begin, FILES, file_id)._asdict()))


class DatasetFileResource:
    """/v1/datasets/{did}/files/{lfn}"""

    def __init__(self, begin: Begin, max_mb: int) -> None:
        self._begin = begin
        self._max_mb = max_mb

    @allowed(Action.WRITE_DATA, "storage")
    @gives(
        schemas.DatasetFile,
        status=201,
        takes=Raw("application/octet-stream"),
        headers=tuple(TOLD),
        problems={
            400: "length_required",
            409: "dataset_closed dataset_deleting file_exists is_container storage_quota_reached",
            422: "bad_name storage_missing wrong_checksum",
            507: "no_room",
        },
    )
    def on_put(self, req: falcon.Request, resp: falcon.Response, did: str, lfn: str) -> None:
        """Store the body on `storage` and register it; checksums that are given must fit the bytes."""
        told = _told(req)
        upload = Upload(req, self._max_mb)
        if told.adler32 is None and not upload.has_length:
            # A chunked body that breaks off looks like one that ended.
            raise BadRequest("a body of unknown length needs X-Adler32", where="X-Adler32", code="length_required")
        identity = req.context.identity
        with self._begin() as connection:
            policy.require(identity, Action.WRITE_DATA, catalog.show(connection, did).owner)
            storage = word(req, "storage") or _only([row.name for row in siteinfo.storages(connection)])
        file = catalog.put(
            self._begin, did, lfn, upload, storage=storage, owner=identity.subject, cap_bytes=upload.cap_bytes,
            told=told, announced_bytes=upload.announced_bytes,
        )  # fmt: skip
        resp.status = falcon.HTTP_201
        show(resp, schemas.DatasetFile(**file._asdict()))

    @allowed(Action.READ_DATA)
    @gives(
        Raw("application/octet-stream"),
        status=(200, 206),
        headers=("Range",),
        problems={416: "invalid", 422: "bad_name", 503: "on_tape"},
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response, did: str, lfn: str) -> None:
        """The bytes of a file; `X-Adler32` is the checksum of all of them.

        `Range: bytes=…` asks for a part: 206, so that a download that broke off can go on. A file
        that lies on tape is brought online meanwhile: ask again.
        """
        stream, size_bytes, adler32 = catalog.open_file(self._begin, did, lfn)
        try:
            part = asked_part(req, size_bytes)
            if part is not None:
                skip(stream, part[0])
        except (BadRequest, falcon.HTTPError):
            stream.close()
            raise
        except OSError as problem:
            stream.close()
            raise Unavailable(f"{did}/{lfn} cannot be read now: {problem}") from problem
        resp.content_type = "application/octet-stream"
        resp.set_header("X-Content-Type-Options", "nosniff")
        resp.set_header("Content-Disposition", f'attachment; filename="{lfn}"')
        resp.set_header("X-Adler32", adler32)
        resp.set_header("Accept-Ranges", "bytes")
        if part is None:
            resp.set_stream(stream, size_bytes)
            return
        first, end = part
        resp.status = falcon.HTTP_206
        resp.set_header("Content-Range", f"bytes {first}-{end - 1}/{size_bytes}")
        resp.set_stream(Part(stream, end - first), end - first)  # type: ignore[arg-type]


def _told(req: falcon.Request) -> Told:
    """Raises BadRequest: a header that is none."""
    words = {}
    for header, (pattern, how) in TOLD.items():
        word = req.get_header(header)
        if word is not None and not pattern.match(word):
            raise BadRequest(how, where=header)
        words[header.removeprefix("X-").lower()] = word
    return Told(**words)


def _dataset(row: Any) -> schemas.Dataset:
    return schemas.Dataset(**{name: getattr(row, name) for name in schemas.Dataset.__struct_fields__})


def _only(storages: list[str]) -> str:
    if len(storages) != 1:
        known = ", ".join(storages) or "there is none"
        raise Invalid(f"say which storage takes the file: {known}", where="storage", code="storage_missing")
    return storages[0]
