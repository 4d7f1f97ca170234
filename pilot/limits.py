"""Limits that a process carries by itself (prlimit), set right after it was started.

RLIMIT_AS is not among them: it bounds addresses, not memory, and breaks Java and Go. Memory is for
the cgroup and the watchdog.
"""

from __future__ import annotations

import contextlib
import os
import resource
from typing import Dict


def forbid_core_dumps() -> None:
    """Payloads inherit it: a core of theirs would only fill the node's disk."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))


def set_for(pid: int, file_bytes: int, n_processes: int) -> None:
    """No file of the payload grows beyond `file_bytes`; its user has at most `n_processes` more than now
    (0: no limit). What the kernel refuses is left to the watchdog."""
    with contextlib.suppress(OSError, ValueError):
        _lower(pid, resource.RLIMIT_FSIZE, file_bytes)
        if n_processes:
            # The kernel counts all threads of the user, on all of the node.
            _lower(pid, resource.RLIMIT_NPROC, n_processes + _threads_of_user())


def _lower(pid: int, which: int, most: int) -> None:
    hard = _own_limits.get(which)
    if hard is None:
        hard = _own_limits[which] = resource.getrlimit(which)[1]
    if hard == resource.RLIM_INFINITY or most < hard:
        resource.prlimit(pid, which, (most, most))


#: Our own hard limits, which each payload inherits.
_own_limits: Dict[int, int] = {}


def _threads_of_user() -> int:
    uid, n_threads = os.geteuid(), 0
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if name.isdigit() and os.stat(f"/proc/{name}").st_uid == uid:
                n_threads += len(os.listdir(f"/proc/{name}/task"))
    return n_threads
