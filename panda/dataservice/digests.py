"""Checksums that somebody gives along with bytes, compared with those of what came."""

import hashlib
from dataclasses import dataclass

from panda.dataservice.movers.base import Content, Stream
from panda.errors import Invalid


@dataclass(frozen=True, kw_only=True)
class Told:
    """What an uploader says of the bytes; hexadecimal, lower case. None: nothing."""

    adler32: str | None = None
    sha256: str | None = None
    md5: str | None = None
    guid: str | None = None
    """The file's; None: it gets one."""


class Hashed:
    """A stream, and the SHA-256 of what was read from it; the MD5 only where somebody told one."""

    def __init__(self, stream: Stream, told: Told) -> None:
        self._stream, self._told = stream, told
        self._sha256 = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False) if told.md5 is not None else None

    def read(self, size: int, /) -> bytes:
        block = self._stream.read(size)
        self._sha256.update(block)
        if self._md5 is not None:
            self._md5.update(block)
        return block

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()

    def check(self, content: Content, lfn: str) -> None:
        """Compare what came (`content`: as the mover measured it) with what was told.

        Raises:
            Invalid: they differ (`wrong_checksum`)."""
        md5 = self._md5.hexdigest() if self._md5 is not None else None
        found = {"adler32": content.adler32, "sha256": self.sha256, "md5": md5}
        for name, value in found.items():
            if getattr(self._told, name) not in (None, value):
                raise Invalid(f"the bytes that came have {name} {value}", where=lfn, code="wrong_checksum")
