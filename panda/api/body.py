"""Bodies: read up to a cap, never beyond; decoded strictly; uploads as streams that know their limit."""

import re
import zlib
from difflib import get_close_matches
from typing import Any, Generic, TypeVar, get_args

import falcon
import msgspec

from panda.api.errors import BadRequest, UnsupportedMedia
from panda.errors import Invalid, TooLarge

T = TypeVar("T")

BLOCK_BYTES = 1 << 18
JSON = "application/json"


class Body(Generic[T]):
    """A kind of JSON body; made once per route."""

    def __init__(self, kind: type[T], max_mb: int, *, may_be_empty: bool = False) -> None:
        self.kind = kind
        self._decoder = msgspec.json.Decoder(kind)
        self._cap_bytes = max_mb * 1_000_000
        self._places = _places_of(kind)
        self.may_be_empty = may_be_empty

    def read(self, req: falcon.Request) -> T:
        """The message.

        Raises:
            UnsupportedMedia: not JSON in UTF-8, or packed other than with gzip.
            TooLarge: above the cap, before or after unpacking.
            BadRequest: no JSON, or a NUL in it. Invalid: JSON that says something else than it should.
        """
        return self.read_raw(req)[0]

    def read_raw(self, req: falcon.Request) -> tuple[T, bytes]:
        """The message, and the bytes (unpacked) that it was decoded from."""
        raw = _unpacked(req, _all_of(req, self._cap_bytes), self._cap_bytes)
        if not raw and self.may_be_empty:
            raw = b"{}"
        else:
            _check_type(req)
        try:
            message = self._decoder.decode(raw)
        except msgspec.ValidationError as problem:
            raise self._explained(str(problem)) from None
        except (msgspec.DecodeError, UnicodeDecodeError) as problem:
            raise BadRequest(f"the body is no JSON: {problem}") from None
        except RecursionError:
            raise BadRequest("the body is nested too deeply") from None
        if b"\\u0000" in raw and _holds_nul(msgspec.json.decode(raw)):
            raise BadRequest("a string holds a NUL, which cannot be stored")
        return message, raw

    def _explained(self, problem: str) -> Invalid:
        message, _, path = problem.partition(" - at `")
        where = path.rstrip("`").removeprefix("$").removeprefix(".")
        if message.startswith("Object contains unknown field `"):
            name = message.split("`")[1]
            message = f"unknown field {name!r}{self._better(name, where)}"
        return Invalid(message, where=where)

    def _better(self, name: str, where: str) -> str:
        """The place where this name stands, or a name that is near: of this place, else of any."""
        if name in self._places:
            place = min(self._places[name])
            return f"; it belongs in {place!r}" if place else "; it belongs in the outermost object"
        here = re.sub(r"\[[^]]*\]", "", where)
        near = get_close_matches(name, [each for each, places in self._places.items() if here in places], n=1)
        near = near or get_close_matches(name, self._places, n=1)
        return f"; did you mean {near[0]!r}?" if near else ""


class Upload:
    """The raw body as a stream; `read` raises as soon as there is more than the cap, or less than announced."""

    def __init__(self, req: falcon.Request, max_mb: int) -> None:
        """Raises TooLarge: the body is announced to be too large; nothing of it was read."""
        self.cap_bytes = max_mb * 1_000_000
        self._left = _announced(req, self.cap_bytes)
        self.has_length = self._left is not None
        self.announced_bytes = self._left or 0
        self._stream = req.stream
        self._n_read = 0

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes; b"" at the end. Raises TooLarge, BadRequest (`cut_short`)."""
        if size < 0:
            return b"".join(iter(lambda: self.read(BLOCK_BYTES), b""))
        wanted = size if self._left is None else min(size, self._left)
        block: bytes = self._stream.read(wanted) if wanted else b""
        self._n_read += len(block)
        if self._left is not None:
            if wanted and not block:
                raise BadRequest("the body ended before its announced length", code="cut_short")
            self._left -= len(block)
        elif self._n_read > self.cap_bytes:
            raise TooLarge(f"a body here has at most {self.cap_bytes} bytes")
        return block


def raw_body(req: falcon.Request, cap_bytes: int) -> bytes:
    """A small raw body, whole. Raises TooLarge, BadRequest (`cut_short`)."""
    return _all_of(req, cap_bytes)


def _announced(req: falcon.Request, cap_bytes: int) -> int | None:
    """Bytes that will come; None: as many as come (chunked)."""
    try:
        length: int | None = req.content_length
    except falcon.HTTPInvalidHeader:
        raise BadRequest("Content-Length is no number", where="Content-Length") from None
    if length is not None:
        if length > cap_bytes:
            raise TooLarge(f"a body here has at most {cap_bytes} bytes")
        return length
    # Without either, a server that does not end its stream by itself would wait for ever.
    return None if req.env.get("wsgi.input_terminated") or req.env.get("HTTP_TRANSFER_ENCODING") else 0


def _all_of(req: falcon.Request, cap_bytes: int) -> bytes:
    length = _announced(req, cap_bytes)
    if length is None:
        return _until_end(req, cap_bytes)
    body: bytes = req.stream.read(length) if length else b""
    while len(body) < length:
        block = req.stream.read(length - len(body))
        if not block:
            raise BadRequest("the body ended before its announced length", code="cut_short")
        body += block
    return body


def _until_end(req: falcon.Request, cap_bytes: int) -> bytes:
    blocks, n_read = [], 0
    while block := req.stream.read(min(BLOCK_BYTES, cap_bytes + 1 - n_read)):
        blocks.append(block)
        n_read += len(block)
        if n_read > cap_bytes:
            raise TooLarge(f"a body here has at most {cap_bytes} bytes")
    return b"".join(blocks)


def _unpacked(req: falcon.Request, raw: bytes, cap_bytes: int) -> bytes:
    encoding = req.env.get("HTTP_CONTENT_ENCODING", "").strip().lower()
    if encoding in ("", "identity"):
        return raw
    if encoding != "gzip":
        raise UnsupportedMedia(f"Content-Encoding {encoding[:50]!r} is not read here; gzip is")
    stream = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        body = stream.decompress(raw, cap_bytes + 1)
    except zlib.error as problem:
        raise BadRequest(f"the body is no gzip: {problem}") from None
    if len(body) > cap_bytes:
        raise TooLarge(f"a body here has at most {cap_bytes} bytes, unpacked")
    if not stream.eof or stream.unused_data:
        raise BadRequest("the body is no whole gzip stream")
    return body


def _check_type(req: falcon.Request) -> None:
    given: str = req.env.get("CONTENT_TYPE") or ""
    if given == JSON:
        return
    kind, _, parameters = given.partition(";")
    if kind.strip().lower() != JSON:
        raise UnsupportedMedia(f"Content-Type is {given[:100]!r}; {JSON} is read here")
    name, _, charset = parameters.strip().lower().partition("=")
    if name == "charset" and charset.strip("\"' ") not in ("utf-8", "utf8", "us-ascii"):
        raise UnsupportedMedia(f"charset {charset[:50]} is not read here; utf-8 is")


def _holds_nul(document: Any) -> bool:
    todo = [document]
    while todo:
        each = todo.pop()
        if isinstance(each, str):
            if "\x00" in each:
                return True
        elif isinstance(each, dict):
            todo.extend(each)
            todo.extend(each.values())
        elif isinstance(each, list):
            todo.extend(each)
    return False


def _places_of(kind: Any) -> dict[str, set[str]]:
    """Each field of a struct and of the structs in it -> where it stands: "" outermost, else as `brokerage`."""
    found: dict[str, set[str]] = {}

    def walk(kind: Any, where: str) -> None:
        if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
            for inner in get_args(kind):
                walk(inner, where)
            return
        for each in msgspec.structs.fields(kind):
            found.setdefault(each.encode_name, set()).add(where)
            walk(each.type, f"{where}.{each.encode_name}".removeprefix("."))

    walk(kind, "")
    return found
