"""Is a node of the queue large enough, and the job not too small for it?"""

import math

from panda.brokerage.subjects import Kind, Queue

#: The corepower that wall times are meant for, in HS23.
REFERENCE_COREPOWER = 10.0


class Resources:
    """Cores, memory, disk, wall time and GPUs of one job fit one node."""

    name = "resources"

    def __init__(self, *, memory_per_core: bool = False) -> None:
        """`memory_per_core`: refuse also what needs more memory for each of its cores than a node has for each of
        its own, so that no core stays idle for want of memory."""
        if not isinstance(memory_per_core, bool):
            raise ValueError("memory_per_core is true or false")
        self._is_strict = memory_per_core

    def refuse(self, kind: Kind, queue: Queue) -> str | None:
        wall_s = wall_s_at(kind.walltime_s, queue.corepower)
        for needed, has, words in (
            (kind.cores, queue.cores, "cores"),
            (kind.memory_mb, queue.memory_mb, "MB of memory"),
            (kind.disk_mb, queue.disk_mb, "MB of disk"),
            (kind.gpus, queue.gpus, "GPUs"),
        ):
            if needed > has:
                return f"needs {needed} {words}, the queue has {has}"
        if wall_s > queue.walltime_s:
            scaled = "" if wall_s == kind.walltime_s else f" there (its cores have a power of {queue.corepower:g})"
            return f"needs {wall_s} s of wall time{scaled}, the queue has {queue.walltime_s}"
        return self._per_core(kind, queue) or _too_small(kind, queue, wall_s)

    def _per_core(self, kind: Kind, queue: Queue) -> str | None:
        if not self._is_strict or kind.memory_mb * queue.cores <= queue.memory_mb * kind.cores:
            return None
        needed, has = kind.memory_mb / kind.cores, queue.memory_mb / queue.cores
        return f"needs {needed:.0f} MB of memory for each core, the queue has {has:.0f}"


def _too_small(kind: Kind, queue: Queue, wall_s: int) -> str | None:
    for needed, least, words in (
        (kind.cores, queue.min_cores, "cores"),
        (kind.memory_mb, queue.min_memory_mb, "MB of memory"),
        (wall_s, queue.min_walltime_s, "s of wall time"),
    ):
        if needed < least:
            return f"needs only {needed} {words}, the queue takes jobs from {least} on"
    return None


def wall_s_at(walltime_s: int, corepower: float) -> int:
    """The seconds that a job takes on cores of this power; its own wall time is meant for the reference."""
    if corepower == REFERENCE_COREPOWER:
        return walltime_s
    return math.ceil(walltime_s * REFERENCE_COREPOWER / corepower)
