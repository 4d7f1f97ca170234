"""Is there room in the queue?"""

from panda.brokerage.snapshot import Kind, Queue


class Occupancy:
    """A queue with a limit gets no more jobs than that in `assigned` and `activated`."""

    name = "occupancy"

    def refuse(self, kind: Kind, queue: Queue) -> str | None:
        if queue.room is None or queue.room > 0:
            return None
        waiting = queue.load.assigned + queue.load.activated
        return f"{waiting} jobs wait there already, its limit is {queue.max_ready}"
