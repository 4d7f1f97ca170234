"""Will the queue be there while the job runs?"""

from panda.brokerage.criteria.resources import wall_s_at
from panda.brokerage.subjects import Kind, Queue

#: A planned downtime that begins later than this keeps no job away, in seconds: half a day's work may still be done.
AHEAD_S = 12 * 3600


class Downtime:
    """Neither the queue nor its site or storage is in downtime, nor goes into one before the job would be done."""

    name = "downtime"

    def __init__(self, *, ahead_s: float = AHEAD_S) -> None:
        """`ahead_s`: a downtime that begins later than this keeps no job away, however long it may take."""
        if isinstance(ahead_s, bool) or not isinstance(ahead_s, int | float) or ahead_s < 0:
            raise ValueError("ahead_s is a number of seconds, 0 or more")
        self._ahead_s = ahead_s

    def refuse(self, kind: Kind, queue: Queue) -> str | None:
        planned = queue.downtime
        if planned is None:
            return None
        because = f" ({planned.reason})" if planned.reason else ""
        until = f"until {planned.ends_at:%Y-%m-%d %H:%M} UTC{because}"
        if planned.starts_in_s <= 0:
            return f"{planned.what} is in downtime {until}"
        wall_s = wall_s_at(kind.walltime_s, queue.corepower)
        if planned.starts_in_s >= min(wall_s, self._ahead_s):
            return None
        soon = f"{planned.what} goes into downtime in {_hours(planned.starts_in_s)}"
        return f"{soon}, {until}; the job may take {_hours(wall_s)}"


def _hours(seconds: float) -> str:
    return f"{max(1, round(seconds / 60))} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
