"""Is there room in the queue?"""

from panda.brokerage.subjects import Kind, Queue
from panda.names import counted


class Occupancy:
    """A queue with a limit gets no more jobs than that in `assigned` and `activated`; a policy may want no more to
    wait than a multiple of what runs there."""

    name = "occupancy"

    def __init__(self, *, per_running: float = 0, at_least: int = 100) -> None:
        """`per_running`: jobs that may wait for each one that runs, but `at_least` so many in any case; 0: no limit."""
        if isinstance(per_running, bool) or not isinstance(per_running, int | float) or per_running < 0:
            raise ValueError("per_running is a number from 0 on")
        if isinstance(at_least, bool) or not isinstance(at_least, int) or at_least < 1:
            raise ValueError("at_least is a whole number from 1 on")
        self._per_running, self._at_least = per_running, at_least

    def refuse(self, kind: Kind, queue: Queue) -> str | None:
        room = self.room(queue)
        if room is None or room > 0:
            return None
        load = queue.load
        if queue.max_ready and load.assigned + load.activated >= queue.max_ready:
            return f"{_wait(load.assigned + load.activated)} there already, its limit is {queue.max_ready}"
        return f"{_wait(load.waiting)} there already, and only {load.running} run"

    def room(self, queue: Queue) -> int | None:
        load = queue.load
        limits = []
        if queue.max_ready:
            limits.append(queue.max_ready - load.assigned - load.activated)
        if self._per_running:
            limits.append(max(self._at_least, int(self._per_running * load.running)) - load.waiting)
        return max(0, min(limits)) if limits else None


def _wait(n: int) -> str:
    return f"{counted(n, 'job')} {'waits' if n == 1 else 'wait'}"
