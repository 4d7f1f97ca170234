"""Is a node of the queue large enough?"""

from panda.brokerage.snapshot import Kind, Queue


class Resources:
    """Cores, memory, disk and wall time of one job fit one node; the queue offers every tag that it needs."""

    name = "resources"

    def refuse(self, kind: Kind, queue: Queue) -> str | None:
        for needed, has, words in (
            (kind.cores, queue.cores, "cores"),
            (kind.memory_mb, queue.memory_mb, "MB of memory"),
            (kind.disk_mb, queue.disk_mb, "MB of disk"),
            (kind.walltime_s, queue.walltime_s, "s of wall time"),
        ):
            if needed > has:
                return f"needs {needed} {words}, the queue has {has}"
        lacking = sorted(kind.tags - queue.tags)
        return f"needs {', '.join(lacking)}, which the queue does not offer" if lacking else None
