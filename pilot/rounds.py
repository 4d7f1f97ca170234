"""What is done for running jobs again and again: the watchdog's look, disk, growing logs, samples."""

from __future__ import annotations

import logging
import signal
import time
from functools import partial
from typing import Callable, List

from pilot.crew import Crew
from pilot.job import WORTH_KEEPING_S, End, Job
from pilot.loop import Loop
from pilot.watchdog import Watchdog

log = logging.getLogger("pilot.rounds")

TICK_S = 1.0
DISK_LOOK_S = 30.0
SHIP_LOGS_S = 5.0
"""Growth of a log is sent so often; of one that somebody reads just now at every tick."""


class Rounds:
    """For the loop's thread; slow looks run in the crews."""

    def __init__(
        self, loop: Loop, watchdog: Watchdog, lookers: Crew, shippers: Crew, kill: Callable[[Job, End], None]
    ) -> None:
        self._loop = loop
        self._watchdog = watchdog
        self._lookers = lookers
        self._shippers = shippers
        self._kill = kill
        self.next_at = self._ship_at = time.monotonic()

    def go(self, now: float, running: List[Job]) -> None:
        """One round."""
        self.next_at = now + TICK_S
        # To look through all processes of the node takes as long as some small jobs do.
        if any(now - job.started_at >= TICK_S for job in running):
            for job, failure in self._watchdog.look(running):
                if job.end is None:
                    self._kill(job, End("failed", failure.code, failure.message))
        for job in running:
            if job.kill_at is not None and now >= job.kill_at:
                job.log.line("the payload ignores SIGTERM: SIGKILL")
                self._watchdog.terminate(job, signal.SIGKILL)
            elif job.kill_at is not None:
                self.next_at = min(self.next_at, job.kill_at)
            elif now - job.disk_seen_at > DISK_LOOK_S:
                job.disk_seen_at = now
                self._lookers.submit(partial(self._look_at_disk, job))
            if not job.is_kept and now - job.started_at > WORTH_KEEPING_S:
                job.is_kept = True
                self._lookers.submit(job.keep)
        self._ship_growth(now, running)

    def _ship_growth(self, now: float, running: List[Job]) -> None:
        is_time = now >= self._ship_at
        if is_time:
            self._ship_at = now + SHIP_LOGS_S
        for job in running:
            is_wanted = is_time or now < job.shipper.watched_until
            has_grown = any(stream.size_bytes() > stream.shipped_bytes for stream in job.streams)
            if is_wanted and has_grown and not job.shipper.lock.locked():
                self._shippers.submit(partial(self._ship, job))

    def _look_at_disk(self, job: Job) -> None:
        failure = job.check_disk()
        if failure is not None:
            end = End("failed", failure.code, failure.message)
            self._loop.call(lambda: self._kill(job, end) if job.end is None else None)

    def _ship(self, job: Job) -> None:
        try:
            job.ship_growth()
        except Exception as error:  # no server, no lease, no file any more: all are met elsewhere
            log.debug("job %d: logs not shipped: %r", job.order.panda_id, error)
