"""Is the queue open?"""

from panda.brokerage.subjects import Kind, Queue
from panda.states import QueueStatus


class Status:
    """An online queue takes everything; one in test only jobs that ask for it, or for its site, by name."""

    name = "status"

    def refuse(self, kind: Kind, queue: Queue) -> str | None:
        if queue.status == QueueStatus.ONLINE:
            return None
        if queue.status == QueueStatus.TEST and {queue.name, queue.site} & set(kind.wishes.sites):
            return None
        because = f" ({queue.status_reason})" if queue.status_reason else ""
        return f"the queue is {queue.status}{because}"
