"""The slot: the node's cores, memory and disk, the jobs on them, and when to ask for more.

One thread decides everything here, so nothing in this file needs a lock. Threads beside it
only talk to the server (`Acquirer`, `Courier`) or move bytes (`Crew`), and call back.
"""

from __future__ import annotations

import logging
import os
import random
import resource
import signal
import time
from collections import deque
from functools import partial
from typing import Callable, Deque, Dict, List, Optional, Set

from pilot.acquirer import Acquirer
from pilot.client import Client
from pilot.courier import Courier
from pilot.crew import Crew
from pilot.demand import Demand
from pilot.departure import Departure
from pilot.errors import Abandoned, ErrorCode, JobFailure, Refused, TokenRefused
from pilot.exits import (
    EXIT_DONE,
    EXIT_DRAINED,
    EXIT_REFUSED,
    EXIT_TOKEN_REFUSED,
)
from pilot.folders import Folders
from pilot.guard import Guard
from pilot.home import Home
from pilot.job import End, Job, Key, Phase, Terms
from pilot.loop import Loop
from pilot.offer import Offer, Room
from pilot.results import Estates, Results
from pilot.rounds import TICK_S, Rounds
from pilot.sandbox import Sandboxes
from pilot.watchdog import Watchdog
from pilot.wire import AcquireReply, Result

log = logging.getLogger("pilot.slot")

END_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Slot:
    """Runs jobs until there are none; `run` returns the pilot's exit code."""

    def __init__(self, offer: Offer, terms: Terms, client: Client, home: Home, guard: Guard, adopts: bool) -> None:
        self._offer = offer
        self._terms = terms
        self._client = client
        self._home = home
        self._guard = guard
        self._loop = Loop()
        self._loop.listen(signal.SIGCHLD, *END_SIGNALS)
        self._results = Results(home.results, offer.url)
        self._watchdog = Watchdog(guard, adopts)
        self._acquirer = Acquirer(client, self._later(self._on_jobs), self._later(self._on_refused_to_give))
        self._courier = Courier(
            client, offer.pilot_id, self._results, self._later(self._on_results), self._later(self._on_token_refused)
        )
        self._sandboxes = Sandboxes(client, home.sandboxes, terms.outage_s)
        self._folders = Folders(home.jobs, n_spare=offer.cores)
        # Two crews: uploads that wait for a server that is away must not hold up stage-in.
        self._stage_in = Crew("stage-in", 2 + offer.cores)
        self._stage_out = Crew("stage-out", 4 + 2 * offer.cores)
        self._rounds = Rounds(self._loop, self._watchdog, self._stage_in, self._stage_out, self._kill)

        self._jobs: Dict[Key, Job] = {}  #: all that we hold a lease on
        self._queued: Deque[Job] = deque()
        self._running: Dict[int, Job] = {}  #: by pid
        self._room = Room(offer)

        now = time.monotonic()
        self._demand = Demand(offer, now)
        self._idle_since = now
        self._beat_at = now
        self._heartbeat_s = 30.0
        self._departure = Departure(offer, terms.outage_s, self._demand, self._acquirer, self._courier)
        self._estates = Estates(client, offer, home, terms.outage_s)

    def _later(self, function: "Callable[..., None]") -> "Callable[..., None]":
        """The same function, for other threads to call."""
        return lambda *args: self._loop.call(function, *args)

    @property
    def why(self) -> str:
        """Why the pilot leaves, in words for its log."""
        return self._departure.why

    # ---- the loop -----------------------------------------------------------------------------

    def run(self) -> int:
        """Work until there is nothing more to do. Returns an exit code."""
        self._stage_out.submit(self._estates.settle)
        while True:
            self._start_jobs()
            self._ask()
            now = time.monotonic()
            code = self._departure.may_leave(now, self._jobs.values(), not self._estates.are_settled)
            if code is not None:
                return self._leave(code)
            for number in self._loop.wait(self._next_duty_at(now) - now):
                if number in END_SIGNALS:
                    self._drain(signal.Signals(number).name, self._offer.drain_s)
            self._reap()
            now = time.monotonic()
            if self._running and now >= self._rounds.next_at:
                self._rounds.go(now, list(self._running.values()))
            if self._departure.code is None and now >= self._demand.drain_at:
                self._drain("the end of the slot's time", drain_s=0.0)
            if now >= self._departure.end_all_at:
                self._end_all()
            if self._jobs and now >= self._beat_at:
                self._beat_at = now + self._heartbeat_s
                self._home.touch()
                self._courier.beat([job.beat() for job in self._jobs.values()])

    def _next_duty_at(self, now: float) -> float:
        duties = [now + 30.0, self._departure.leave_by, self._departure.end_all_at]
        # Without a payload: is the server there, may we leave?
        duties.append(self._rounds.next_at if self._running else now + 0.5)
        if self._jobs:
            duties.append(self._beat_at)
        if self._departure.code is None:
            duties.append(self._demand.drain_at)
            # Once this time has passed, something else has to happen before we ask.
            if self._demand.ask_at > now and not self._demand.is_asking:
                duties.append(self._demand.ask_at)
        return min(duties)

    # ---- new jobs -----------------------------------------------------------------------------

    def _ask(self) -> None:
        if self._departure.code is None:
            ask = self._demand.ask(time.monotonic(), self._room, len(self._jobs), len(self._queued))
            if ask is not None:
                self._acquirer.ask(ask)

    def _on_jobs(self, reply: AcquireReply) -> None:
        now = time.monotonic()
        self._demand.answered(now, reply)
        self._heartbeat_s = max(0.1, reply.heartbeat_s)
        if not self._jobs:
            self._beat_at = now + self._heartbeat_s
            if not reply.jobs and self._departure.code is None and now - self._idle_since >= self._offer.idle_s:
                self._be_idle(now, f"no job for {now - self._idle_since:.0f} s")
        for order in reply.jobs:
            if (order.panda_id, order.attempt_nr) in self._jobs:
                continue
            path = self._folders.path((order.panda_id, order.attempt_nr))
            job = Job(order, self._terms, path, self._client, self._results)
            self._jobs[job.key] = job
            self._demand.n_taken += 1
            if self._departure.code is not None:
                self._abandon_start(job, "the pilot is leaving")
            else:
                self._queued.append(job)

    def _on_refused_to_give(self, refusal: Refused) -> None:
        self._demand.is_asking = False
        if isinstance(refusal, TokenRefused):
            self._on_token_refused(str(refusal))
        elif self._departure.code is None:
            log.error("the server gives this pilot no jobs: %s", refusal)
            if self._offer.pause_s:
                self._be_idle(time.monotonic(), "refused")
            else:
                self._departure.go(EXIT_REFUSED, f"the server gives this pilot no jobs: {refusal}")

    def _be_idle(self, now: float, why: str) -> None:
        """Leave, or pause and ask again, as the pilot was told to."""
        if not self._offer.pause_s:
            self._departure.go(EXIT_DONE, why)
            return
        # A site's pilots do not come back all at once.
        pause_s = self._offer.pause_s * random.uniform(0.75, 1.25)
        log.info("%s: asking again in %.0f s", why, pause_s)
        self._idle_since = now + pause_s
        self._demand.ask_at = now + pause_s

    def _on_token_refused(self, why: str) -> None:
        log.error("the server refuses the pilot's token: %s", why)
        if self._departure.code != EXIT_TOKEN_REFUSED:
            self._drain("a refused token", drain_s=0.0)
            # Nobody would take our reports.
            leave_by = time.monotonic() + self._offer.grace_s + 2.0
            self._departure.go(EXIT_TOKEN_REFUSED, "the server refuses the pilot's token", leave_by)

    # ---- a job's way --------------------------------------------------------------------------

    def _start_jobs(self) -> None:
        """Start queued jobs while the first of them fits; no job overtakes, so none starves."""
        while self._queued:
            job = self._queued[0]
            if self._room.fits_never(job.order):
                self._queued.popleft()
                wants, has = job.order, self._offer
                sentence = (
                    f"the job needs {wants.cores} cores, {wants.memory_mb} MB memory, {wants.disk_mb} MB disk,"
                    f" {wants.gpus} GPUs; the whole slot has {has.cores}, {has.memory_mb}, {has.disk_mb}, {has.gpus}"
                )
                self._end_unstarted(job, JobFailure(ErrorCode.RESOURCEUNAVAILABLE, sentence))
                continue
            if not self._room.fits(job.order):
                return
            self._queued.popleft()
            self._room.take(job.order)
            if job.needs_preparing:
                job.phase = Phase.PREPARING
                self._courier.report(job.key, job.short_report("starting"), final=False)
                self._stage_in.submit(partial(self._prepare, job))
                continue
            try:
                job.settle(self._folders.make)
            except JobFailure as failure:
                self._on_prepared(job, failure)
            else:
                self._on_prepared(job, None)

    def _prepare(self, job: Job) -> None:
        """Fill the work folder, in a crew's thread."""
        failure: Optional[Exception] = None
        try:
            job.settle(self._folders.make_new)
            job.fill(self._sandboxes)
        except Exception as error:  # the edge of the thread; `_condemn_for` sorts them
            failure = error
        self._loop.call(self._on_prepared, job, failure)

    def _on_prepared(self, job: Job, failure: Optional[Exception]) -> None:
        if failure is None and job.end is None and not job.forgotten.is_set():
            try:
                job.launch()
            except JobFailure as error:
                failure = error
            else:
                self._guard.watch(job.pid)
                if not self._running:
                    self._rounds.next_at = job.started_at + TICK_S
                self._running[job.pid] = job
                self._courier.report(job.key, job.short_report("running"), final=False)
                return
        self._room.give_back(job.order)
        self._end_unstarted(job, failure)

    def _end_unstarted(self, job: Job, failure: Optional[Exception]) -> None:
        job.phase = Phase.CLOSING
        if failure is not None:
            self._condemn_for(job, failure)
        self._stage_out.submit(partial(self._close, job))

    def _condemn_for(self, job: Job, failure: Exception) -> None:
        if isinstance(failure, JobFailure):
            job.condemn(End("failed", failure.code, failure.message))
        elif isinstance(failure, TokenRefused):
            self._on_token_refused(str(failure))
        elif not isinstance(failure, Abandoned):
            log.error("job %d: fault of the pilot", job.order.panda_id, exc_info=failure)
            job.condemn(End("failed", ErrorCode.INTERNALPILOTPROBLEM, f"fault of the pilot: {failure!r}"))

    def _reap(self) -> None:
        """Collect ended processes: payloads, and orphans that were handed to us."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            job = self._running.pop(pid, None)
            if job is not None:
                self._on_ended(job, status, usage)
            elif pid == self._guard.pid:
                log.warning("the guard was killed; another one takes its place")
                self._guard.start()

    def _on_ended(self, job: Job, status: int, usage: "resource.struct_rusage") -> None:
        # A child's record starts at what the pilot itself held in memory when it forked.
        own_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        max_rss_bytes = usage.ru_maxrss * 1024 if usage.ru_maxrss > own_kib else 0
        job.ended(status, usage.ru_utime + usage.ru_stime, max_rss_bytes)
        n_left = self._watchdog.end_all(job, self._running.values())
        if n_left:
            job.log.line(f"killed {n_left} processes that the payload left behind", notable=True)
        self._guard.release(job.sessions)
        self._room.give_back(job.order)
        self._demand.ran(job.ended_at - job.started_at)
        if n_left or job.needs_closing or job.folder is None:
            self._stage_out.submit(partial(self._close, job))
        else:
            if job.group is not None:
                job.group.remove()
            job.conclude()
            self._on_closed(job, None)
            self._folders.keep(job.folder)

    def _close(self, job: Job) -> None:
        """Ship outputs and logs, in a crew's thread."""
        failure: Optional[Exception] = None
        try:
            job.close()
        except Exception as error:  # the edge of the thread; `_on_closed` sorts them
            failure = error
        job.clear_up()
        self._loop.call(self._on_closed, job, failure)

    def _on_closed(self, job: Job, failure: Optional[Exception]) -> None:
        if job.forgotten.is_set() or isinstance(failure, Abandoned):
            self._drop(job)
            return
        if failure is not None:
            self._condemn_for(job, failure)
            job.conclude()
        job.phase = Phase.REPORTED
        self._courier.report(job.key, job.report, final=True, hurry=not self._queued)
        end = job.end
        if end is not None and end.status != "finished":
            log.info("job %d %s: %s", job.order.panda_id, end.status, end.message)

    def _drop(self, job: Job) -> None:
        """The job is no longer ours, or all is said about it."""
        job.is_answered = True
        self._results.drop(job.key)
        if self._jobs.pop(job.key, None) is not None and not self._jobs:
            self._idle_since = time.monotonic()
            self._demand.ask_at = self._idle_since

    # ---- what the server says -----------------------------------------------------------------

    def _on_results(self, results: List[Result], finals: Set[Key]) -> None:
        for result in results:
            key = (result.panda_id, result.attempt_nr)
            job = self._jobs.get(key)
            if job is None:
                continue
            if key in finals:
                if result.outcome not in ("ok", "already_done"):
                    log.warning("job %d: our final report came to %s", result.panda_id, result.outcome)
                self._drop(job)
            elif result.outcome in ("stale_lease", "not_found", "already_done"):
                if job.phase is not Phase.REPORTED or result.outcome != "already_done":
                    self._forget(job, result.outcome)
            elif result.command == "kill" and job.end is None:
                self._kill(job, End("cancelled", ErrorCode.PANDAKILL, "killed by the server's command"))

    def _forget(self, job: Job, why: str) -> None:
        """The lease is gone: end the payload, and never speak of the job again."""
        log.warning("job %d is no longer ours: %s", job.order.panda_id, why)
        job.forgotten.set()
        self._courier.forget(job.key)
        self._kill(job, End("cancelled", ErrorCode.FAILEDBYSERVER, f"the lease is gone: {why}"))
        if job.phase is Phase.REPORTED:
            self._drop(job)

    def _kill(self, job: Job, end: End) -> None:
        """End a job, whatever its phase."""
        job.condemn(end)
        if job.phase is Phase.RUNNING:
            if job.kill_at is None:
                job.kill_at = time.monotonic() + self._offer.grace_s
                self._rounds.next_at = min(self._rounds.next_at, job.kill_at)
                self._watchdog.terminate(job, signal.SIGTERM)
        elif job.phase is Phase.QUEUED:
            if job in self._queued:
                self._queued.remove(job)
            job.phase = Phase.CLOSING
            job.conclude()
            self._on_closed(job, None)

    def _abandon_start(self, job: Job, why: str) -> None:
        self._kill(job, End("failed", ErrorCode.SIGTERM, f"not started: {why}"))

    # ---- leaving ------------------------------------------------------------------------------

    def _drain(self, why: str, drain_s: float) -> None:
        """Take no more jobs; those that run may go on for `drain_s`, then they end and are reported."""
        now = time.monotonic()
        if self._departure.code == EXIT_DRAINED:  # asked twice: no more grace
            self._end_all()
            for job in self._running.values():
                job.kill_at = self._rounds.next_at = now
            return
        log.warning("leaving because of %s: %d jobs here may run on for %.0f s", why, len(self._jobs), drain_s)
        self._departure.drain(now, why, drain_s)
        self._estates.stop.set()
        for job in list(self._jobs.values()):
            if job.phase is Phase.QUEUED:
                self._abandon_start(job, self._departure.end.message)
        if not drain_s:
            self._end_all()

    def _end_all(self) -> None:
        """No payload runs on."""
        self._departure.end_all_at = float("inf")
        for job in list(self._jobs.values()):
            if job.phase in (Phase.PREPARING, Phase.RUNNING) and job.end is None:
                self._kill(job, self._departure.end)

    def _leave(self, code: int) -> int:
        for job in list(self._running.values()):
            self._watchdog.terminate(job, signal.SIGKILL)
            self._watchdog.end_all(job, ())
        for job in self._jobs.values():
            # What could not be said now, the next pilot in this work folder says.
            if job.phase is not Phase.QUEUED:
                job.keep()
        self._folders.clear()
        self._guard.end()
        log.info("%d jobs taken, %d left undelivered", self._demand.n_taken, len(self._jobs))
        return code
