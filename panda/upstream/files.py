"""Files by name: sandboxes that panda-client uploads and payloads fetch, and payload runners.

The bytes are sandboxes of the spool, known by their hash; a row gives them the name that the client chose. What is
fetched is public, as with upstream: payloads have no token. Whoever knows a name may read.
"""

import hashlib
import struct
import tempfile
from typing import Any, BinaryIO, NamedTuple, cast

import falcon
import msgspec
from falcon.errors import HTTPError
from falcon.media.multipart import MultipartFormHandler

from panda.auth.access import ANY_PARAMETER, public
from panda.db.session import rows, run
from panda.errors import Conflict, Invalid, NotFound, TooLarge
from panda.names import checked
from panda.settings import Upstream
from panda.upstream import payloads
from panda.upstream.calls import Asked, House, given
from panda.upstream.faces import Answer
from panda.upstream.wire import MULTIPART, content_type

NAMED = "SELECT sha256, size_bytes, owner FROM upstream_files WHERE name = %(name)s"
NAME = """
INSERT INTO upstream_files (name, sha256, size_bytes, checksum, owner, created_at)
VALUES (%(name)s, %(sha256)s, %(size_bytes)s, %(checksum)s, %(owner)s, panda_now())
ON CONFLICT (name) DO UPDATE SET sha256 = excluded.sha256, size_bytes = excluded.size_bytes,
    checksum = excluded.checksum, created_at = excluded.created_at
WHERE upstream_files.owner = excluded.owner
"""
#: What the client goes by is kept from now on as if it had been sent now.
SAME = """
UPDATE upstream_files SET created_at = panda_now() WHERE name = ANY(ARRAY(
    SELECT name FROM upstream_files
    WHERE owner = %(owner)s AND size_bytes = %(size_bytes)s AND checksum = %(checksum)s
    ORDER BY created_at DESC LIMIT 1))
RETURNING name
"""
BLOCK_BYTES = 1 << 18
#: More of these than one is no upload of a file.
MAX_PARTS = 8
#: An upload of up to this size stays in memory on its way into the spool.
IN_MEMORY_BYTES = 1_000_000


class Validate(msgspec.Struct, kw_only=True):
    file_size: int
    checksum: int


def validate_cache_file(asked: Asked) -> Answer:
    """Whether the caller uploaded these bytes before, under which name."""
    said, host = given(asked, Validate), asked.req.netloc
    with asked.house.begin() as connection:
        values = {"owner": asked.identity.subject, "size_bytes": said.file_size, "checksum": said.checksum}
        found = rows(connection, SAME, values)
    return Answer(None, f"FOUND:{host}:{found[0].name}") if found else Answer(None, "NOTFOUND:", False)


class Received(NamedTuple):
    """A file that came whole. `checksum`: gzip's own of what it packed, if it is one."""

    name: str
    sha256: str
    size_bytes: int
    checksum: int | None


def upload_cache_file(asked: Asked) -> Answer:
    """Store a file under the name that the client gave it; the same name again is the same client's alone."""
    house, limits, owner = asked.house, asked.house.settings.upstream, asked.identity.subject
    if content_type(asked.req) != MULTIPART:
        raise Invalid("a file comes as multipart/form-data, in a part named `file`")
    with tempfile.SpooledTemporaryFile(max_size=IN_MEMORY_BYTES) as spooled:
        content = cast(BinaryIO, spooled)
        file = _received(asked.req, content, limits)
        content.seek(0)
        house.spool.put_sandbox(house.begin, file.sha256, content, owner=owner, cap_bytes=file.size_bytes)
    with house.begin() as connection:
        if not run(connection, NAME, file._asdict() | {"owner": owner}):
            raise Conflict(f"{file.name} belongs to somebody else", code="file_exists")
    return Answer(None, "File uploaded successfully")


class CacheResource:
    """/cache/{name}: what was uploaded under a name, or a sandbox by its hash."""

    def __init__(self, house: House) -> None:
        self._house = house

    @public(ANY_PARAMETER)
    def on_get(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """The bytes."""
        known = payloads.SANDBOX_NAME.match(name)
        with self._house.begin() as connection:
            if known:
                sha256 = known.group(1)
                size_bytes = self._house.spool.sandbox_size(connection, sha256)
            else:
                found = rows(connection, NAMED, {"name": name.replace("\0", "")})
                if not found:
                    raise NotFound("file", name[:100])
                sha256, size_bytes = found[0].sha256, found[0].size_bytes
        resp.content_type = "application/octet-stream"
        resp.set_header("X-Content-Type-Options", "nosniff")
        resp.set_stream(self._house.spool.open_sandbox(sha256), size_bytes)


class TrfResource:
    """/trf/user/{name}: payload runners: ours, and those that the operator put into `DATA/trf`."""

    def __init__(self, house: House) -> None:
        self._house = house

    @public(ANY_PARAMETER)
    def on_get(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """The script."""
        own = self._house.settings.data_dir / "trf" / checked(name, "name")
        if not own.is_file() and not payloads.VERSIONED.match(name):
            raise NotFound("payload runner", name)
        resp.content_type = falcon.MEDIA_TEXT
        resp.set_header("X-Content-Type-Options", "nosniff")
        resp.data = (own if own.is_file() else payloads.RUNNER_FILE).read_bytes()


def _received(req: falcon.Request, content: BinaryIO, limits: Upstream) -> Received:
    """The part named `file`, written to `content`. Read to the end: half an upload is none.

    Raises:
        TooLarge: there is more than its cap. Invalid: no such part, no name, or the body is broken."""
    handler = MultipartFormHandler()
    handler.parse_options.max_body_part_count = MAX_PARTS
    found = None
    try:
        for part in handler.deserialize(req.stream, req.content_type, req.content_length):
            if part.name == "file" and found is None:
                name = checked((part.filename or "").rpartition("/")[2], "file")
                cap_mb = limits.max_sources_mb if name.startswith("sources.") else limits.max_file_mb
                found = _copied(name, part.stream, content, cap_mb * 1_000_000)
    except HTTPError as problem:
        raise Invalid(f"the multipart body is broken: {problem.description or problem.title}") from None
    if found is None:
        raise Invalid("there is no part named `file`")
    return found


def _copied(name: str, stream: Any, content: BinaryIO, cap_bytes: int) -> Received:
    digest, size_bytes, tail = hashlib.sha256(), 0, b""
    while block := stream.read(BLOCK_BYTES):
        size_bytes += len(block)
        if size_bytes > cap_bytes:
            raise TooLarge(f"an upload of this kind has at most {cap_bytes} bytes")
        digest.update(block)
        content.write(block)
        tail = (tail + block)[-8:]
    checksum = struct.unpack("<II", tail)[0] if len(tail) == 8 else None
    return Received(name, digest.hexdigest(), size_bytes, checksum)
