"""Checksums of the catalogue, in one pass over the bytes: of a file on disk, and of what comes over the wire."""

import hashlib
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from panda.client.errors import Invalid

BLOCK_BYTES = 1 << 20
Moved = Callable[[int], None]
"""Hears how many more bytes have moved."""


@dataclass(frozen=True)
class Content:
    """What a file holds, as far as it is known."""

    size_bytes: int
    adler32: str
    """Eight hex digits, lower case."""
    sha256: str | None = None
    """None: nobody said it."""

    def __str__(self) -> str:
        return f"{self.size_bytes} bytes, adler32 {self.adler32}" + (f", SHA-256 {self.sha256}" if self.sha256 else "")


class Tally:
    """Size and checksums of the bytes so far; the SHA-256 only if it is wanted."""

    def __init__(self, *, with_sha256: bool) -> None:
        self.n_bytes = 0
        self._adler32 = 1
        self._sha256 = hashlib.sha256() if with_sha256 else None

    def count(self, block: bytes) -> None:
        """Bytes that follow."""
        self.n_bytes += len(block)
        self._adler32 = zlib.adler32(block, self._adler32)
        if self._sha256 is not None:
            self._sha256.update(block)

    @property
    def content(self) -> Content:
        """What the bytes so far are."""
        sha256 = self._sha256.hexdigest() if self._sha256 is not None else None
        return Content(self.n_bytes, f"{self._adler32:08x}", sha256)


def content_of(path: Path, *, with_sha256: bool) -> Content:
    """What a file on disk holds."""
    tally = Tally(with_sha256=with_sha256)
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            tally.count(block)
    return tally.content


def is_intact(path: Path, wanted: Content) -> bool:
    """Whether `path` is already the file that the catalogue describes."""
    if not path.is_file() or path.stat().st_size != wanted.size_bytes:
        return False
    return content_of(path, with_sha256=wanted.sha256 is not None) == wanted


def safe_name(lfn: str) -> str:
    """`lfn`, if it can be the name of a file in a folder. Raises Invalid: it would lead elsewhere."""
    if lfn in ("", ".", "..") or "/" in lfn or "\\" in lfn or "\0" in lfn:
        raise Invalid(f"{lfn!r} cannot be the name of a local file", code="bad_name")
    return lfn
