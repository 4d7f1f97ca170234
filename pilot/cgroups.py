"""Limits that the kernel itself keeps: a cgroup (version 2) per job, where the pilot may make one.

That is so in a delegated subtree: a systemd unit with `Delegate=yes`, a batch system or a container
that hands its group on. Elsewhere there are no groups, and the watchdog alone keeps the limits.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from typing import List, Optional

log = logging.getLogger("pilot.cgroups")

WANTED = ("memory", "pids", "cpu")
PERIOD_US = 100_000
MOUNTS = "/proc/self/mountinfo"
OWN = "/proc/self/cgroup"


class Group:
    """The cgroup of one job."""

    def __init__(self, path: str) -> None:
        self.path = path

    def add(self, pid: int) -> None:
        """Move a process in; all that it starts from now on stays in."""
        _write(os.path.join(self.path, "cgroup.procs"), str(pid))

    def pids(self) -> List[int]:
        """Its processes, whatever they did to their session and environment."""
        try:
            with open(os.path.join(self.path, "cgroup.procs"), encoding="ascii") as procs:
                return [int(line) for line in procs]
        except (OSError, ValueError):
            return []

    def was_out_of_memory(self) -> bool:
        """The kernel killed a process of it for memory."""
        try:
            with open(os.path.join(self.path, "memory.events"), encoding="ascii") as events:
                return any(line.startswith("oom_kill ") and int(line.split()[1]) > 0 for line in events)
        except OSError:
            return False

    def remove(self) -> None:
        """Kill what is left in it, and remove it."""
        with contextlib.suppress(OSError):
            _write(os.path.join(self.path, "cgroup.kill"), "1")
        for _ in range(20):
            try:
                os.rmdir(self.path)
                return
            except FileNotFoundError:
                return
            except OSError:
                time.sleep(0.005)
        log.warning("cannot remove the cgroup %s", self.path)


class Cgroups:
    """The pilot's subtree. `controllers`: what it can limit."""

    def __init__(self, path: str, controllers: List[str]) -> None:
        self._path = path
        self.controllers = controllers

    def make(self, name: str, *, memory_bytes: int, cores: int, n_processes: int) -> Optional[Group]:
        """A group with limits for a job (`n_processes` 0: no limit); None if the kernel refuses."""
        group = Group(os.path.join(self._path, name))
        try:
            os.mkdir(group.path)
            if "memory" in self.controllers:
                _write(os.path.join(group.path, "memory.max"), str(memory_bytes))
                with contextlib.suppress(OSError):  # not every kernel accounts swap
                    _write(os.path.join(group.path, "memory.swap.max"), "0")
                # One process is as good as dead when another of the job is killed: all go together.
                _write(os.path.join(group.path, "memory.oom.group"), "1")
            if "pids" in self.controllers and n_processes:
                _write(os.path.join(group.path, "pids.max"), str(n_processes))
            if "cpu" in self.controllers:
                # Twice its cores: enough for bursts, and one job cannot starve a node.
                _write(os.path.join(group.path, "cpu.max"), f"{2 * cores * PERIOD_US} {PERIOD_US}")
        except OSError as error:
            log.warning("no cgroup for %s: %s", name, error)
            group.remove()
            return None
        return group


def find(mounts: str = MOUNTS, own: str = OWN) -> Optional[Cgroups]:
    """The subtree that we may write, made ready; None: there is none.

    Processes may not live beside groups with controllers, so the pilot moves to a leaf of its own.
    """
    path = _own_path(mounts, own)
    if path is None or not os.access(os.path.join(path, "cgroup.subtree_control"), os.W_OK):
        return None
    try:
        with open(os.path.join(path, "cgroup.controllers"), encoding="ascii") as file:
            offered = file.read().split()
        controllers = [name for name in WANTED if name in offered]
        if not controllers or not os.access(os.path.join(path, "cgroup.procs"), os.W_OK):
            return None
        with open(os.path.join(path, "cgroup.procs"), encoding="ascii") as procs:
            others = {int(line) for line in procs} - {os.getpid()}
        if others:  # they are not ours to move
            return None
        leaf = os.path.join(path, "pilot")
        os.makedirs(leaf, exist_ok=True)
        _write(os.path.join(leaf, "cgroup.procs"), str(os.getpid()))
        _write(os.path.join(path, "cgroup.subtree_control"), " ".join(f"+{name}" for name in controllers))
    except (OSError, ValueError) as error:
        log.info("no cgroups for jobs: %s", error)
        return None
    return Cgroups(path, controllers)


def _own_path(mounts: str, own: str) -> Optional[str]:
    """Where our own cgroup of version 2 lies in the file system."""
    try:
        with open(own, encoding="utf-8") as lines:
            named = [line.rstrip("\n")[3:] for line in lines if line.startswith("0::")]
        with open(mounts, encoding="utf-8") as lines:
            for line in lines:
                before, _, after = line.partition(" - ")
                if named and after.startswith("cgroup2 "):
                    root, place = before.split()[3:5]
                    below = named[0][len(root) :] if root != "/" and named[0].startswith(root) else named[0]
                    return os.path.normpath(place + "/" + below)
    except OSError:
        return None
    return None


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)
