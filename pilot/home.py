"""A pilot's home: its own folder inside `--work`, with a lock that tells whether the pilot lives.

    WORK/pilot-<mark>/lock       held with flock for as long as the pilot lives, however it ends
                      jobs/      work folders of jobs
                      sandboxes/
                      results/   final reports that the server has not answered yet
                      pilot.log

Several pilots may share WORK. A home whose lock is free belongs to a dead pilot: whoever takes the
lock ends what that pilot left running, delivers its results and removes it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import secrets
import time
from typing import Any, Dict, Iterator, Optional

from pilot import guard
from pilot.folders import remove_tree
from pilot.node import name as node_name

log = logging.getLogger("pilot.home")

PREFIX = "pilot-"
YOUNG_S = 600.0
"""A home without a readable lock may be one that is being made; older than this it is debris."""

FOREIGN_S = 86_400.0
"""On a shared file system a lock of another node may not be seen here: its home counts as dead only
when nothing touched the lock for so long (a pilot touches it every few minutes)."""

TOUCH_S = 300.0


class Home:
    """A folder whose lock is ours: our own, or a dead pilot's that is being cleared."""

    def __init__(self, path: str, lock: int, facts: Dict[str, Any]) -> None:
        self.path = path
        self.facts = facts
        self.mark = str(facts.get("mark", ""))
        self.jobs = os.path.join(path, "jobs")
        self.sandboxes = os.path.join(path, "sandboxes")
        self.results = os.path.join(path, "results")
        self.log = os.path.join(path, "pilot.log")
        self._lock = lock
        self._touched_at = time.monotonic()

    @classmethod
    def make(cls, work: str, **facts: str) -> Home:
        """A new home in `work`. Raises OSError."""
        mark = secrets.token_hex(8)
        path = os.path.join(work, PREFIX + mark)
        os.mkdir(path, 0o700)
        lock = os.open(os.path.join(path, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)  # a neighbour that looks at it just now lets go at once
        except OSError as error:
            log.warning("the work folder has no locks (%s): what this pilot leaves stays there", error.strerror)
        facts = {"mark": mark, "node": node_name(), "pid": str(os.getpid()), **facts}
        os.write(lock, json.dumps(facts).encode())
        home = cls(path, lock, facts)
        for folder in (home.jobs, home.results):
            os.mkdir(folder, 0o700)
        return home

    def touch(self) -> None:
        """Tell other nodes from time to time that the pilot lives."""
        now = time.monotonic()
        if now - self._touched_at > TOUCH_S:
            self._touched_at = now
            with contextlib.suppress(OSError):
                os.utime(self._lock)

    def has_results(self) -> bool:
        """There is something that the server has not answered yet."""
        try:
            return bool(os.listdir(self.results))
        except OSError:
            return False

    def leave(self) -> None:
        """Give the lock back. What the next pilot has to deliver stays; else everything goes."""
        if self.has_results():
            remove_tree(self.sandboxes)
        else:
            remove_tree(self.path)
        os.close(self._lock)

    def end_leftovers(self) -> None:
        """Kill what a dead pilot of this node left running (its guard may have been killed too)."""
        if self.mark and self.facts.get("node") == node_name():
            n_killed = guard.kill_all(self.mark, set())
            if n_killed:
                log.warning("killed %d processes that a dead pilot left running", n_killed)


def dead_homes(work: str, own: Home) -> Iterator[Home]:
    """Homes of dead pilots of this user in `work`, each with its lock taken; `leave` gives it back."""
    for name in sorted(os.listdir(work)):
        path = os.path.join(work, name)
        if not name.startswith(PREFIX) or path == own.path:
            continue
        try:
            stat = os.lstat(path)
            if stat.st_uid != os.geteuid() or os.path.islink(path) or not os.path.isdir(path):
                continue
            home = _take(path, time.time() - stat.st_mtime)
        except OSError as error:
            log.warning("cannot look at %s: %s", path, error.strerror)
            continue
        if home is not None:
            yield home


def _take(path: str, age_s: float) -> Optional[Home]:
    """The home, if its pilot is dead."""
    try:
        lock = os.open(os.path.join(path, "lock"), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        if age_s > YOUNG_S:
            remove_tree(path)
        return None
    facts = _read(lock) if _try_lock(lock) else None
    stat = os.fstat(lock)
    quiet_s = time.time() - stat.st_mtime
    if facts is None or stat.st_nlink == 0 or quiet_s < _patience_s(facts):
        os.close(lock)
        return None
    return Home(path, lock, facts)


def _patience_s(facts: Dict[str, Any]) -> float:
    if not facts:
        return YOUNG_S
    return 0.0 if facts.get("node") == node_name() else FOREIGN_S


def _read(lock: int) -> Dict[str, Any]:
    try:
        facts = json.loads(os.pread(lock, 10_000, 0))
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}


def _try_lock(lock: int) -> bool:
    """Whether the lock is ours now. On a file system without locks it never is: nothing is removed there."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            log.warning("this file system has no locks (%s): homes of dead pilots stay", error.strerror)
        return False
