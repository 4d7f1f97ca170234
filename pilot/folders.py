"""Work folders: one per job, made before it starts and removed after it ended.

Making and removing one takes a third of a millisecond of system time on ext4, more than
starting a process; moving one takes a hundredth. So the folder of a job that left it exactly as
it was becomes the next job's, under its new name.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from typing import List, Optional, Tuple

from pilot.logs import FileLog

LOG_NAMES = ("payload.stdout", "payload.stderr")
UNTOUCHED_NS = 10**18
"""The time (in 2001) that a folder has as long as nobody made or removed anything in it."""


class Folder:
    """A work folder and the payload's two streams in it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.streams: List[FileLog] = []

    def open_streams(self, cap_bytes: int) -> None:
        """Have payload.stdout and payload.stderr ready. Raises OSError."""
        if not self.streams:
            self.streams = [FileLog(name, self.path, cap_bytes) for name in LOG_NAMES]
            for folder in (self.path + "/tmp", self.path):
                os.utime(folder, ns=(UNTOUCHED_NS, UNTOUCHED_NS))

    def is_untouched(self) -> bool:
        """The payload wrote nothing and left nothing; it looks as it did when it was made.

        An entry that comes or goes gives its folder a new time, however short a time it was there."""
        try:
            for folder in (self.path, self.path + "/tmp"):
                found = os.lstat(folder)
                if found.st_mode != stat.S_IFDIR | 0o700 or found.st_mtime_ns != UNTOUCHED_NS:
                    return False
            for stream in self.streams:
                if stream.shipped_bytes or stream.dropped_bytes:
                    return False
                ours = os.fstat(stream.descriptor)
                if ours.st_mode != stat.S_IFREG | 0o600 or (ours.st_nlink, ours.st_size) != (1, 0):
                    return False
        except OSError:
            return False
        return len(self.streams) == len(LOG_NAMES)

    def remove(self) -> None:
        """Close the streams and remove all there is, also where the payload took our rights away."""
        for stream in self.streams:
            stream.close()
        remove_tree(self.path)

    def used_bytes(self) -> int:
        """Disk space of all that is in it; links are not followed, holes do not count."""
        total_bytes = 0
        todo = [self.path]
        while todo:
            try:
                with os.scandir(todo.pop()) as entries:
                    for entry in entries:
                        if entry.is_dir(follow_symlinks=False):
                            todo.append(entry.path)
                            continue
                        with contextlib.suppress(OSError):  # it changes while we look
                            total_bytes += entry.stat(follow_symlinks=False).st_blocks * 512
            except OSError:
                continue
        return total_bytes


class Folders:
    """Makes and takes back work folders; for the loop's thread only, but for `make_new`."""

    def __init__(self, root: str, n_spare: int) -> None:
        self._root = root
        self._n_spare = n_spare
        self._spare: List[Folder] = []

    def path(self, key: Tuple[int, int]) -> str:
        """Where the job (panda_id, attempt_nr) works."""
        return os.path.join(self._root, f"{key[0]}.{key[1]}")

    def make(self, path: str) -> Folder:
        """A folder at `path`, a spare one if there is one. Raises OSError."""
        spare: Optional[Folder] = self._spare.pop() if self._spare else None
        if spare is None:
            return self.make_new(path)
        try:
            os.rename(spare.path, path)
        except OSError:
            spare.remove()
            return self.make_new(path)
        spare.path = path
        return spare

    def make_new(self, path: str) -> Folder:
        """A new folder at `path`. Raises OSError."""
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            # Of a pilot that died here with the same attempt.
            remove_tree(path)
            os.mkdir(path, 0o700)
        os.mkdir(path + "/tmp", 0o700)
        return Folder(path)

    def keep(self, folder: Folder) -> None:
        """Take back an untouched folder of a job that left no process behind."""
        if len(self._spare) < self._n_spare:
            self._spare.append(folder)
        else:
            folder.remove()

    def clear(self) -> None:
        """Remove the spare ones."""
        while self._spare:
            self._spare.pop().remove()


def remove_tree(path: str) -> None:
    """Remove a folder and all below it."""
    shutil.rmtree(path, ignore_errors=True)
    if not os.path.lexists(path):
        return
    for parent, folders, _files in os.walk(path):
        for name in folders:
            below = os.path.join(parent, name)
            if not os.path.islink(below):
                with contextlib.suppress(OSError):
                    os.chmod(below, 0o700)
    shutil.rmtree(path, ignore_errors=True)
