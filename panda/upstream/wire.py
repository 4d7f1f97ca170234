"""How upstream's clients write a request: forms, query strings, JSON that may be packed with or without saying so.

A tolerant reader. What is unknown is ignored further on; what cannot be read is refused in a sentence. Nothing is
ever unpickled. Bodies are read up to a cap, packed and unpacked.
"""

import zlib
from typing import Any
from urllib.parse import parse_qs

import falcon
import msgspec

from panda.errors import Invalid, TooLarge

GZIP = b"\x1f\x8b"
#: First byte of a binary pickle; the older, text ones are no JSON and no form either.
PICKLE = b"\x80"
JSON, FORM, MULTIPART = "application/json", "application/x-www-form-urlencoded", "multipart/form-data"
#: Fields that one form may have.
MAX_FIELDS = 2_000


class Unread(Invalid):
    """A body that is not what it should be."""

    code = "unread"


def words_of(req: falcon.Request, cap_bytes: int) -> dict[str, Any]:
    """Everything that the caller says, by name: the query first, the body over it.

    A word that stands there more than once is a list. A multipart body is left for who expects an upload.
    Raises:
        Unread: no JSON, no form, half a gzip stream, a pickle. TooLarge.
    """
    words = {name: value for name, value in req.params.items()}
    kind = content_type(req)
    if req.method in ("POST", "PUT") and kind != MULTIPART:
        words |= _body(kind, _read(req, cap_bytes), cap_bytes)
    return {str(name): storable(value) for name, value in words.items()}


def content_type(req: falcon.Request) -> str:
    """The type of the body, in lower case and without its parameters."""
    return (req.content_type or "").partition(";")[0].strip().lower()


def speaks_json(req: falcon.Request) -> bool:
    """Whether the caller can read JSON; older ones read forms."""
    return JSON in (req.get_header("Accept") or "") or content_type(req) == JSON


def storable(value: Any) -> Any:
    """The same without NULs, which cannot be stored: the report of a job that ended must not be lost for one."""
    if isinstance(value, str):
        return value.replace("\x00", "")
    if isinstance(value, list):
        return [storable(each) for each in value]
    if isinstance(value, dict):
        return {storable(name): storable(each) for name, each in value.items()}
    return value


def decoded(text: str | bytes, where: str) -> Any:
    """JSON within a word. Raises Unread."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise Unread(f"no JSON: {str(problem)[:200]}", where=where) from None


def _read(req: falcon.Request, cap_bytes: int) -> bytes:
    length = req.content_length
    if length is not None and length > cap_bytes:
        raise TooLarge(f"a body here has at most {cap_bytes} bytes")
    is_endless = length is None and (req.env.get("wsgi.input_terminated") or req.get_header("Transfer-Encoding"))
    wanted = cap_bytes + 1 if is_endless else length or 0
    blocks, n_read = [], 0
    while n_read < wanted and (block := req.stream.read(min(1 << 18, wanted - n_read))):
        blocks.append(block)
        n_read += len(block)
    if n_read > cap_bytes:
        raise TooLarge(f"a body here has at most {cap_bytes} bytes")
    if length is not None and n_read < length:
        raise Unread("the body ended before its announced length")
    return b"".join(blocks)


def _body(kind: str, raw: bytes, cap_bytes: int) -> dict[str, Any]:
    if raw.startswith(GZIP):
        raw, kind = _unpacked(raw, cap_bytes), JSON
    if not raw:
        return {}
    if raw.startswith(PICKLE):
        raise Unread("the body is a pickle; those are never loaded here")
    if kind == JSON:
        words = decoded(raw, "body")
        if not isinstance(words, dict):
            raise Unread("the body is JSON, but no object")
        return words
    if kind not in ("", FORM):
        raise Unread(f"a body of type {kind[:60]!r} is not read here; JSON and forms are")
    return _form(raw)


def _form(raw: bytes) -> dict[str, Any]:
    try:
        fields = parse_qs(raw.decode("ascii"), keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="replace")
    except (UnicodeDecodeError, ValueError):
        raise Unread("the body is no form; pickles and other formats are not read here") from None
    return {name: values[0] if len(values) == 1 else values for name, values in fields.items()}


def _unpacked(raw: bytes, cap_bytes: int) -> bytes:
    stream = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        body = stream.decompress(raw, cap_bytes + 1)
    except zlib.error as problem:
        raise Unread(f"the body is no gzip stream: {problem}") from None
    if len(body) > cap_bytes:
        raise TooLarge(f"a body here has at most {cap_bytes} bytes, unpacked")
    if not stream.eof:
        raise Unread("the gzip stream of the body is cut short")
    return body
