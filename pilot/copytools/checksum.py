"""Adler32 over bytes as they go by: one reading serves the copy and the checksum."""

from __future__ import annotations

import threading
import zlib
from typing import BinaryIO, Iterator, NamedTuple

from pilot.errors import Abandoned

CHUNK_BYTES = 1 << 20


class Copied(NamedTuple):
    """What a copy moved; adler32 as 8 lower-case hex digits."""

    size_bytes: int
    adler32: str


class Adler32:
    """A running checksum."""

    def __init__(self) -> None:
        self._value = 1
        self._size_bytes = 0

    def add(self, chunk: bytes) -> None:
        """Count these bytes."""
        self._value = zlib.adler32(chunk, self._value)
        self._size_bytes += len(chunk)

    def copied(self) -> Copied:
        """All bytes so far."""
        return Copied(self._size_bytes, f"{self._value:08x}")


def chunks(source: BinaryIO, adler32: Adler32, stop: threading.Event) -> Iterator[bytes]:
    """The bytes of `source`, each counted in `adler32`. Raises Abandoned when `stop` is set."""
    while True:
        if stop.is_set():
            raise Abandoned
        chunk = source.read(CHUNK_BYTES)
        if not chunk:
            return
        adler32.add(chunk)
        yield chunk
