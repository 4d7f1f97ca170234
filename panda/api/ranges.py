"""A part of a file, as `Range: bytes=…` asks for it (RFC 9110): so a download that broke off goes on where it was."""

from typing import BinaryIO

import falcon

from panda.api.errors import BadRequest

#: What is read at once of bytes that nobody wants.
BLOCK_BYTES = 1 << 20


def asked_part(req: falcon.Request, size_bytes: int) -> tuple[int, int] | None:
    """The first byte that is wanted and the one after the last; None: all of the file.

    Raises:
        BadRequest: no range, or several ones. falcon.HTTPRangeNotSatisfiable: none of the bytes is there.
    """
    if req.get_header("Range") is None:
        return None
    try:
        span = req.range
    except falcon.HTTPInvalidHeader as problem:
        raise BadRequest(problem.description or "not understood", where="Range") from None
    if span is None or req.range_unit != "bytes":  # another unit says nothing to us
        return None
    first, last = span
    if first < 0:
        first, last = max(0, size_bytes + first), -1
    if first >= size_bytes:
        raise falcon.HTTPRangeNotSatisfiable(size_bytes)
    return first, size_bytes if last < 0 else min(last + 1, size_bytes)


def skip(stream: BinaryIO, n_bytes: int) -> None:
    """Go to byte `n_bytes` of a stream; one that cannot jump is read until there. Raises OSError."""
    if stream.seekable():
        stream.seek(n_bytes)
        return
    left = n_bytes
    while left:
        block = stream.read(min(left, BLOCK_BYTES))
        if not block:
            raise OSError(f"the file ends {left} bytes before byte {n_bytes}")
        left -= len(block)


class Part:
    """The next `n_bytes` of a stream, and no more."""

    def __init__(self, stream: BinaryIO, n_bytes: int) -> None:
        self._stream, self._left = stream, n_bytes

    def read(self, size: int = -1) -> bytes:
        block = self._stream.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(block)
        return block

    def close(self) -> None:
        self._stream.close()
