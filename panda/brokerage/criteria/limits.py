"""Does the site let so many jobs run?"""

from panda.brokerage.subjects import Kind, Queue


class Limits:
    """Where only so many jobs may run at once, no more than that are sent ahead to wait for their turn."""

    name = "limits"

    def refuse(self, kind: Kind, queue: Queue) -> str | None:
        room = self.room(queue)
        if room is None or room > 0:
            return None
        return f"only {queue.max_running} jobs may run there, and {queue.load.waiting} wait for that already"

    def room(self, queue: Queue) -> int | None:
        return max(0, queue.max_running - queue.load.waiting) if queue.max_running else None
