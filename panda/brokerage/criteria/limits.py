"""Does the site let so many jobs run?"""

from panda.brokerage.subjects import Kind, Queue


class Limits:
    """Where only so many jobs may run at once, at a queue or at all queues of a site together, no more than that are
    sent ahead to wait for their turn."""

    name = "limits"

    def refuse(self, kind: Kind, queue: Queue) -> str | None:
        if self._own_room(queue) == 0:
            return f"only {_jobs(queue.max_running)} may run there, and {_wait(queue.load.waiting)} for that already"
        if self.site_room(queue) == 0:
            cap = f"only {_jobs(queue.site_max_running)} may run at site {queue.site}"
            return f"{cap}, and {_wait(queue.site_waiting)} for that already"
        return None

    def room(self, queue: Queue) -> int | None:
        rooms = [room for room in (self._own_room(queue), self.site_room(queue)) if room is not None]
        return min(rooms, default=None)

    def _own_room(self, queue: Queue) -> int | None:
        return max(0, queue.max_running - queue.load.waiting) if queue.max_running else None

    def site_room(self, queue: Queue) -> int | None:
        return max(0, queue.site_max_running - queue.site_waiting) if queue.site_max_running else None


def _jobs(n: int) -> str:
    return "1 job" if n == 1 else f"{n} jobs"


def _wait(n: int) -> str:
    return "1 waits" if n == 1 else f"{n} wait"
