"""When to ask the server for jobs, and for how many."""

from __future__ import annotations

from typing import Optional

from pilot import __version__
from pilot.acquirer import Ask
from pilot.offer import Offer, Room
from pilot.wire import AcquireReply

BUSY_WAIT_S = 5.0
"""Longest poll while jobs run: what the slot has free may grow meanwhile."""

LAST_ASK_S = 30.0
"""With less slot time than this there is no point in taking a job."""


class Demand:
    """One request at a time: `ask` returns the next one, `answered` tells that it is over."""

    def __init__(self, offer: Offer, now: float) -> None:
        self._offer = offer
        self._mean_wall_s: Optional[float] = None
        self._pause_s = 0.1
        self._asked_at = now
        self.lease_s = 120.0
        self.slot_ends_at = now + offer.slot_s
        self.is_asking = False
        self.ask_at = now  #: not before
        self.n_taken = 0  #: jobs that the server gave so far

    def is_over(self, now: float) -> bool:
        """The pilot has had all the jobs, or nearly all the time, that it may have."""
        enough = self._offer.max_jobs and self.n_taken >= self._offer.max_jobs
        return bool(enough) or self.slot_ends_at - now < max(LAST_ASK_S, self._offer.reserve_s + 1)

    @property
    def drain_at(self) -> float:
        """When payloads must end, so that their end can still be told."""
        return self.slot_ends_at - min(self._offer.reserve_s, self._offer.slot_s / 2)

    def ask(self, now: float, room: Room, n_held: int, n_queued: int) -> Optional[Ask]:
        """A request, if we could start, or soon start, more than the `n_held` jobs that we have
        (`n_queued` of them not yet started)."""
        if self.is_asking or now < self.ask_at or self.is_over(now):
            return None
        n = self._n_wanted(room, n_queued)
        if n <= 0:
            return None
        offer = self._offer
        wait_s = min(offer.wait_s, offer.idle_s)
        if n_held:
            wait_s = min(wait_s, BUSY_WAIT_S)
        self.is_asking, self._asked_at = True, now
        return {
            "pilot_id": offer.pilot_id,
            "queue": offer.queue,
            "n": n,
            # A job that is to run later will find the slot empty, or nearly.
            "cores": offer.cores if room.is_full else room.cores,
            "memory_mb": offer.memory_mb if room.is_full else room.memory_mb,
            "disk_mb": offer.disk_mb if room.is_full else room.disk_mb,
            "gpus": offer.gpus if room.is_full else room.gpus,
            "walltime_s": max(1, int(self.slot_ends_at - now - self._offer.reserve_s)),
            "tags": offer.tags,
            "node": offer.node,
            "version": __version__,
            "wait_s": round(wait_s, 3),
        }

    def _n_wanted(self, room: Room, n_queued: int) -> int:
        """One job per free core; with `--bulk`, as many more as their measured length lets us
        start within half a lease."""
        n = 0 if room.is_full else room.cores - n_queued
        if self._offer.bulk > 1 and self._mean_wall_s is not None:
            in_time = int(0.5 * self.lease_s / max(self._mean_wall_s, 0.001)) * self._offer.cores
            stock = min(self._offer.bulk, in_time)
            # Fetched in halves, so that the next ones arrive before the last one started.
            if n_queued <= stock // 2:
                n = max(n, stock - n_queued)
        if self._offer.max_jobs:
            n = min(n, self._offer.max_jobs - self.n_taken)
        return min(n, 10_000)

    def answered(self, now: float, reply: AcquireReply) -> None:
        """The server's answer is here."""
        self.is_asking = False
        self.lease_s = max(1.0, reply.lease_s)
        if reply.jobs:
            self._pause_s = 0.1
            return
        # A server that does not hold the poll is not asked in a circle.
        self._pause_s = min(5.0, self._pause_s * 2) if now - self._asked_at < 1.0 else 0.1
        self.ask_at = now + self._pause_s

    def ran(self, wall_s: float) -> None:
        """A payload ended: its length says how many more to hold."""
        mean_s = self._mean_wall_s
        self._mean_wall_s = wall_s if mean_s is None else 0.8 * mean_s + 0.2 * wall_s
