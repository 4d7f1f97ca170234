"""Is a node of the queue large enough, and the job not too small for it?"""

import math

from panda.brokerage.subjects import Kind, Queue
from panda.names import amount, amount_of

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
        for needed, has, word in (
            (kind.cores, queue.cores, "cores"),
            (kind.memory_mb, queue.memory_mb, "memory_mb"),
            (kind.disk_mb, queue.disk_mb, "disk_mb"),
            (kind.gpus, queue.gpus, "gpus"),
        ):
            if needed > has:
                return f"needs {amount_of(word, needed)}, the queue has {amount(word, has)}"
        if wall_s > queue.walltime_s:
            scaled = "" if wall_s == kind.walltime_s else f" there (its cores have a power of {queue.corepower:g})"
            return f"needs {wall_s} s of wall time{scaled}, the queue has {queue.walltime_s} s"
        return self._per_core(kind, queue) or _too_small(kind, queue, wall_s)

    def _per_core(self, kind: Kind, queue: Queue) -> str | None:
        if not self._is_strict or kind.memory_mb * queue.cores <= queue.memory_mb * kind.cores:
            return None
        needed, has = kind.memory_mb / kind.cores, queue.memory_mb / queue.cores
        needs = amount_of("memory_mb", round(needed))
        return f"needs {needs} for each core, the queue has {amount('memory_mb', round(has))}"


def _too_small(kind: Kind, queue: Queue, wall_s: int) -> str | None:
    for needed, least, word in (
        (kind.cores, queue.min_cores, "cores"),
        (kind.memory_mb, queue.min_memory_mb, "memory_mb"),
        (wall_s, queue.min_walltime_s, "walltime_s"),
    ):
        if needed < least:
            return f"needs only {amount_of(word, needed)}, the queue takes jobs from {amount(word, least)} on"
    return None


def wall_s_at(walltime_s: int, corepower: float) -> int:
    """The seconds that a job takes on cores of this power; its own wall time is meant for the reference."""
    if corepower == REFERENCE_COREPOWER:
        return walltime_s
    return math.ceil(walltime_s * REFERENCE_COREPOWER / corepower)
