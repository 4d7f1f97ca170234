"""Adler32, the checksum of the catalogue: of a file on disk, and of what comes over the wire."""

import zlib
from collections.abc import Callable
from pathlib import Path

from panda.client.errors import Invalid

BLOCK_BYTES = 1 << 20
Moved = Callable[[int], None]
"""Hears how many more bytes have moved."""


def adler32_of(path: Path) -> tuple[str, int]:
    """Checksum (8 hex digits) and size in bytes of a file."""
    value, size_bytes = 1, 0
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            value = zlib.adler32(block, value)
            size_bytes += len(block)
    return f"{value:08x}", size_bytes


def is_intact(path: Path, size_bytes: int, adler32: str) -> bool:
    """Whether `path` is already the file that the catalogue describes."""
    return path.is_file() and path.stat().st_size == size_bytes and adler32_of(path)[0] == adler32.lower()


def safe_name(lfn: str) -> str:
    """`lfn`, if it can be the name of a file in a folder. Raises Invalid: it would lead elsewhere."""
    if lfn in ("", ".", "..") or "/" in lfn or "\\" in lfn or "\0" in lfn:
        raise Invalid(f"{lfn!r} cannot be the name of a local file", code="bad_name")
    return lfn
