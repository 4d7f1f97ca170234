"""What a node must have before it takes work, and what the server is told about it.

A `problem` keeps the pilot from working; a `warning` only tells. Both go into the pilot's own log
and to the server, so that an empty-handed pilot is explained.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import time
from typing import Any, Dict, List, Sequence

from pilot import __version__, node

MIN_PYTHON = (3, 9)
MIN_FREE_MB = 50
"""Less free disk than this holds not even the logs of one job."""

MAX_SKEW_S = 60.0
"""Clocks further apart than this make signed URLs and certificates fail, and logs hard to read."""


class Findings:
    """Facts of the node, and what is wrong with it."""

    def __init__(self) -> None:
        self.facts: Dict[str, Any] = {}
        self.problems: List[str] = []
        self.warnings: List[str] = []

    def skew(self, server_s: float, asked_at_s: float) -> None:
        """The server said what time it is; half of the way there and back belongs to each direction."""
        now_s = time.time()
        skew_s = (asked_at_s + now_s) / 2 - server_s
        self.facts["clock_skew_s"] = round(skew_s, 3)
        if abs(skew_s) > MAX_SKEW_S:
            self.warnings.append(f"this node's clock is {skew_s:+.0f} s off the server's")


def check(work: str, disk_mb: int, tools: Sequence[str], limits: str) -> Findings:
    """Look at the node. `disk_mb`: what the slot is to have; `tools`: programs that jobs need here."""
    found = Findings()
    free_mb = node.disk_mb(work)
    found.facts = {
        "version": __version__,
        "python": platform.python_version(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "cores": node.cores(),
        "memory_mb": node.memory_mb(),
        "disk_free_mb": free_mb,
        "user": os.geteuid(),
        "work": work,
        "limits": limits,
    }
    if sys.version_info[:2] < MIN_PYTHON:
        found.problems.append(f"Python {platform.python_version()} is too old: 3.9 or newer is needed")
    if free_mb < MIN_FREE_MB:
        found.problems.append(f"{work} has {free_mb} MB free, at least {MIN_FREE_MB} are needed")
    elif free_mb < disk_mb:
        found.warnings.append(f"{work} has {free_mb} MB free, the slot promises {disk_mb}")
    for tool in tools:
        if shutil.which(tool) is None:
            found.problems.append(f"the program {tool!r} is not on the PATH")
    found.problems += _work_folder(work)
    return found


def _work_folder(work: str) -> List[str]:
    """Jobs must be able to write there, and to run what they wrote."""
    path = os.path.join(work, f".check-{os.getpid()}")
    try:
        with open(path, "w", encoding="ascii") as file:
            file.write("#!/bin/sh\nexit 0\n")
        os.chmod(path, 0o700)
        if not os.access(path, os.X_OK) or os.statvfs(work).f_flag & os.ST_NOEXEC:
            return [f"{work} lies on a file system that runs no programs (noexec)"]
    except OSError as error:
        return [f"may not write to the work folder {work}: {error.strerror}"]
    finally:
        _remove(path)
    return []


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        return
