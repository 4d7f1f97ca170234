"""A download on disk: a hidden file beside the one that it becomes, which a later try goes on from."""

import fcntl
import os
import zlib
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from panda.client.checksums import BLOCK_BYTES, Moved
from panda.client.errors import ChecksumMismatch


class PartFile:
    """The bytes of `path` that have come so far. It belongs to one process at a time: a second one that fetches the
    same file writes a copy of its own, and keeps nothing of it.

    What broke off (Ctrl-C, a lost server) stays for the next try; what cannot be right, or has no room on the disk,
    goes.
    """

    def __init__(self, path: Path, size_bytes: int, adler32: str) -> None:
        self._path, self._size_bytes, self._adler32 = path, size_bytes, adler32.lower()
        # Named by its content: parts of two files that had one name never become one.
        self._part = path.with_name(f".{path.name}.{self._adler32}.part")
        self._is_shared = True
        self._value = 1
        self.n_bytes = 0  #: that are there

    def __enter__(self) -> Self:
        self._file = os.open(self._part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # somebody is at it, or there are no locks here
            os.close(self._file)
            self._is_shared = False
            self._part = self._path.with_name(f".{self._path.name}.{os.getpid()}.part")
            self._file = os.open(self._part, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        self._look()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._is_shared or not self.n_bytes or isinstance(problem, OSError | ChecksumMismatch):
            self._part.unlink(missing_ok=True)
        os.close(self._file)

    def _look(self) -> None:
        """Count what is there; more than the whole file is none of it."""
        if os.fstat(self._file).st_size > self._size_bytes:
            self.start_over()
        while block := os.read(self._file, BLOCK_BYTES):
            self._count(block)

    def _count(self, block: bytes) -> None:
        self._value = zlib.adler32(block, self._value)
        self.n_bytes += len(block)

    def start_over(self) -> None:
        """Forget what is there."""
        os.ftruncate(self._file, 0)
        os.lseek(self._file, 0, os.SEEK_SET)
        self._value, self.n_bytes = 1, 0

    def append(self, blocks: Iterable[bytes], moved: Moved) -> None:
        """Write what comes next. Raises OSError; what `blocks` raises."""
        for block in blocks:
            view = memoryview(block)
            while view:
                view = view[os.write(self._file, view) :]
            self._count(block)
            moved(len(block))

    def finish(self) -> None:
        """Give the file its name.

        Raises:
            ChecksumMismatch: it is not what the catalogue says.
        """
        if (self.n_bytes, f"{self._value:08x}") != (self._size_bytes, self._adler32):
            raise ChecksumMismatch(
                f"{self._path.name} arrived with {self.n_bytes} bytes and adler32 {self._value:08x}; "
                f"the catalogue says {self._size_bytes} and {self._adler32}"
            )
        self._part.replace(self._path)
