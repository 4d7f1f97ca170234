"""Does the queue have a place for files?"""

from panda.brokerage.subjects import Kind, Queue


class Storage:
    """Inputs of jobs go through the queue's storage, so it must be online, and have room for those that are not there
    yet; outputs go to the one that it writes to, where their owner must be allowed to keep more."""

    name = "storage"

    def refuse(self, kind: Kind, queue: Queue) -> str | None:
        if queue.storage_status != "online":
            return f"its storage {queue.storage} is {queue.storage_status}"
        if queue.storage_full is not None and _brings(kind, queue):
            return f"its storage {queue.storage} is full: {queue.storage_full}"
        return _why_it_cannot_write(kind, queue) if kind.writes else None


def _brings(kind: Kind, queue: Queue) -> bool:
    """Whether such a job has inputs that are not there."""
    return kind.locality is not None and kind.locality.fraction_at(queue.storage) < 1


def _why_it_cannot_write(kind: Kind, queue: Queue) -> str | None:
    if queue.write_status != "online":
        return f"storage {queue.write_storage}, which it writes to, is {queue.write_status}"
    if queue.write_full is not None:
        return f"its storage {queue.write_storage} is full: {queue.write_full}"
    if kind.owner in queue.overdrawn:
        return f"{kind.owner} may keep no more on {queue.write_storage}: {queue.overdrawn[kind.owner]}"
    return None
