"""Does the queue have a place for files?"""

from panda.brokerage.subjects import Kind, Queue


class Storage:
    """Inputs and outputs of jobs go through the queue's storage, so it must be online."""

    name = "storage"

    def refuse(self, kind: Kind, queue: Queue) -> str | None:
        if queue.storage_status == "online":
            return None
        return f"its storage {queue.storage} is {queue.storage_status}"
