"""Does the queue have a place for files?"""

from panda.brokerage.subjects import Kind, Queue


class Storage:
    """Inputs and outputs of jobs go through the queue's storage, so it must be online, and have room for those that
    are not there yet."""

    name = "storage"

    def refuse(self, kind: Kind, queue: Queue) -> str | None:
        if queue.storage_status != "online":
            return f"its storage {queue.storage} is {queue.storage_status}"
        if queue.storage_full is not None and _brings(kind, queue):
            return f"its storage {queue.storage} is full: {queue.storage_full}"
        if kind.writes and kind.owner in queue.overdrawn:
            return f"{kind.owner} may keep no more on {queue.storage}: {queue.overdrawn[kind.owner]}"
        return None


def _brings(kind: Kind, queue: Queue) -> bool:
    """Whether such a job brings anything to the queue's storage."""
    return kind.writes or (kind.locality is not None and kind.locality.fraction_at(queue.storage) < 1)
