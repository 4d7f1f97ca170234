"""A download on disk: a hidden file beside the one that it becomes, which a later try goes on from."""

import fcntl
import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from panda.client.checksums import BLOCK_BYTES, Content, Moved, Tally
from panda.client.errors import ChecksumMismatch


class PartFile:
    """The bytes of `path` that have come so far. It belongs to one process at a time: a second one that fetches the
    same file writes a copy of its own, and keeps nothing of it.

    What broke off (Ctrl-C, a lost server) stays for the next try; what cannot be right, or has no room on the disk,
    goes.
    """

    def __init__(self, path: Path, wanted: Content) -> None:
        self._path, self._wanted = path, wanted
        # Named by its content: parts of two files that had one name never become one.
        self._part = path.with_name(f".{path.name}.{wanted.adler32}.part")
        self._is_shared = True
        self._tally = self._nothing()

    @property
    def n_bytes(self) -> int:
        """Bytes that are there."""
        return self._tally.n_bytes

    def _nothing(self) -> Tally:
        return Tally(with_sha256=self._wanted.sha256 is not None)

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
        if os.fstat(self._file).st_size > self._wanted.size_bytes:
            self.start_over()
        while block := os.read(self._file, BLOCK_BYTES):
            self._tally.count(block)

    def start_over(self) -> None:
        """Forget what is there."""
        os.ftruncate(self._file, 0)
        os.lseek(self._file, 0, os.SEEK_SET)
        self._tally = self._nothing()

    def append(self, blocks: Iterable[bytes], moved: Moved) -> None:
        """Write what comes next. Raises OSError, with the file's name and what it wants; what `blocks` raises."""
        for block in blocks:
            self._write(block)
            self._tally.count(block)
            moved(len(block))

    def _write(self, block: bytes) -> None:
        view = memoryview(block)
        try:
            while view:
                view = view[os.write(self._file, view) :]
        except OSError as problem:
            message = f"{problem.strerror} (it has {self._wanted.size_bytes} bytes, {self.n_bytes} were written)"
            raise OSError(problem.errno, message, str(self._path)) from problem

    def finish(self) -> None:
        """Give the file its name.

        Raises:
            ChecksumMismatch: it is not what the catalogue says.
        """
        found = self._tally.content
        if found != self._wanted:
            raise ChecksumMismatch(f"{self._path.name} arrived with {found}; the catalogue says {self._wanted}")
        self._part.replace(self._path)
