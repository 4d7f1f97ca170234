"""Is the queue open?"""

from panda.brokerage.subjects import Kind, Queue
from panda.states import QueueStatus


class Status:
    """An online queue takes everything; one in test only test jobs, and, if it was an operator who put it there, jobs
    that ask for it, or for its site, by name."""

    name = "status"

    def refuse(self, kind: Kind, queue: Queue) -> str | None:
        if queue.status == QueueStatus.ONLINE:
            return None
        if queue.status == QueueStatus.TEST and (kind.wishes.is_test or _is_asked_for(kind, queue)):
            return None
        if queue.is_paused:
            return queue.status_reason
        because = f" ({queue.status_reason})" if queue.status_reason else ""
        return f"the queue is {queue.status}{because}"


def _is_asked_for(kind: Kind, queue: Queue) -> bool:
    return not queue.status_rule and bool({queue.name, queue.site} & set(kind.wishes.sites))
