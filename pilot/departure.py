"""Whether, when and why the pilot leaves."""

from __future__ import annotations

from typing import Collection, Optional

from pilot.acquirer import Acquirer
from pilot.courier import Courier
from pilot.demand import Demand
from pilot.errors import ErrorCode
from pilot.exits import EXIT_DONE, EXIT_DRAINED, EXIT_SERVER_AWAY, EXIT_UNDELIVERED
from pilot.job import End, Job, Phase
from pilot.offer import Offer

DELIVER_S = 30.0
"""Seconds beyond the grace that a drained pilot has to deliver its reports."""

EMPTY_HANDED_S = 60.0
"""A pilot with no job waits no longer than this (or `--idle-s`) for a server that is away."""


class Departure:
    """`code` is the exit code, as soon as it is clear; from then on no jobs are taken."""

    def __init__(self, offer: Offer, outage_s: float, demand: Demand, acquirer: Acquirer, courier: Courier) -> None:
        self._offer = offer
        self._outage_s = outage_s
        self._demand = demand
        self._acquirer = acquirer
        self._courier = courier
        self.code: Optional[int] = None
        self.why = "no more work"
        self.end = End("failed", ErrorCode.SIGTERM)  #: of the jobs that end with the pilot
        self.end_all_at = float("inf")  #: payloads that run then are ended
        self.leave_by = float("inf")  #: what is not delivered then stays on disk

    def go(self, code: int, why: str, leave_by: float = float("inf")) -> None:
        """Leave as soon as nothing is left to do."""
        self.code, self.why = code, why
        self.leave_by = min(self.leave_by, leave_by)

    def drain(self, now: float, why: str, drain_s: float) -> None:
        """Leave in a while, with the jobs that run."""
        self.go(EXIT_DRAINED, f"ended by {why}")
        # The number of a batch system's end: the job is tried again elsewhere.
        self.end = End("failed", ErrorCode.SIGTERM, f"the pilot was ended by {why}")
        self.end_all_at = now + drain_s
        self.leave_by = self.end_all_at + self._offer.grace_s + DELIVER_S

    def may_leave(self, now: float, jobs: Collection[Job], is_settling: bool) -> Optional[int]:
        """The exit code, if it is time to go; `is_settling`: results of dead pilots are on their way."""
        if self.code is not None:
            is_busy = is_settling and self.code == EXIT_DONE and not self._is_alone()
            if not jobs and not is_busy:
                return self.code
            if now > self.leave_by:
                return EXIT_UNDELIVERED if self.code == EXIT_DRAINED else self.code
        if jobs:
            is_silent = self._courier.silent_s() > self._outage_s
            if is_silent and all(job.phase is Phase.REPORTED for job in jobs):
                self.why = "the server does not take our reports; they are kept on disk"
                return EXIT_SERVER_AWAY
            return None
        if self._is_alone():
            self.why = "the server does not answer"
            return EXIT_SERVER_AWAY
        is_over = self._demand.is_over(now) and not self._demand.is_asking
        return EXIT_DONE if is_over and not is_settling else None

    def _is_alone(self) -> bool:
        """The server has been silent for too long to wait for it with empty hands."""
        patience_s = self._outage_s
        if not self._offer.pause_s:
            patience_s = min(patience_s, max(self._offer.idle_s, EMPTY_HANDED_S))
        return self._acquirer.silent_s() > patience_s
