"""When beat sends a tick: by a clock that never leaps, and not while many of them wait.

Celery's own way is to date each message: one that waited for too long expires. But the date is of beat's clock, and
the worker asks its own; with the clocks of two machines some seconds apart no tick would ever run. And Celery's beat
waits for an hour if its clock is set back by one. Here the time between two ticks is counted by the monotonic clock,
and whether ticks pile up is seen from their lane.
"""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

from celery.beat import ScheduleEntry, Scheduler
from celery.schedules import schedule

#: So many ticks in their lane, and the frequent ones wait for their next turn: nobody works there, or too slowly.
MOST_WAITING = 30
#: A tick that comes less often than this is sent all the same: it is few messages, and its next turn is far.
FREQUENT_S = 30.0

_BEGAN = datetime(2000, 1, 1, tzinfo=UTC)


def steady_now() -> datetime:
    """A time that only goes on. It says how much passed, not what time it is."""
    return _BEGAN + timedelta(seconds=time.monotonic())


def every(seconds: float) -> schedule:
    """A schedule that goes by `steady_now`."""
    return schedule(timedelta(seconds=seconds), nowfun=steady_now)


class Pace(Scheduler):
    """Beat's scheduler (`-S workflows.pacing:Pace`). It keeps no file: ticks ask the database what is due."""

    _is_closed = False

    def __init__(self, app: Any, *args: Any, **kwargs: Any) -> None:
        # Ticks are many and alike: with events of their own they would hide the stages in Flower, and cost as much.
        app.conf.task_send_sent_event = False
        super().__init__(app, *args, **kwargs)

    def tick(self, *args: Any, **kwargs: Any) -> Any:
        """Send what is due. Raises SystemExit: the process was told to end, and the end of a connection that was in
        use at that moment came in place of the end of the process."""
        if self._is_closed:
            raise SystemExit
        return super().tick(*args, **kwargs)

    def close(self) -> None:
        """What SIGTERM does first."""
        self._is_closed = True
        super().close()

    def apply_async(self, entry: ScheduleEntry, producer: Any = None, advance: bool = True, **options: Any) -> Any:
        """Send a tick. Returns None if it was left out."""
        if entry.schedule.run_every.total_seconds() < FREQUENT_S and self._n_waiting(entry) >= MOST_WAITING:
            return None
        return super().apply_async(entry, producer=producer, advance=advance, **options)

    def _n_waiting(self, entry: ScheduleEntry) -> int:
        with self.app.pool.acquire(block=True) as connection:
            n: int = connection.default_channel.queue_declare(entry.options["queue"]).message_count
            return n
