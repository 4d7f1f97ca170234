"""The watchdog: what the payloads of a pilot use, against what their jobs asked for.

It looks once a second at wall time, memory of all processes, and logs; at the work folder's
size every half minute; and it knows which processes belong to which job, to end them all.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import Collection, List, Optional, Set, Tuple

from pilot import payload, processes
from pilot.errors import ErrorCode, JobFailure
from pilot.guard import Guard
from pilot.job import Job

ROUNDS = 50
"""Attempts to catch the processes of a job that forks faster than it is killed."""


class Watchdog:
    """Looks at the running jobs of one pilot."""

    def __init__(self, guard: Guard, adopts: bool) -> None:
        self._guard = guard
        self._adopts = adopts  #: the kernel hands orphans to us
        self._own_pid = os.getpid()

    def look(self, running: Collection[Job]) -> List[Tuple[Job, JobFailure]]:
        """Measure all running jobs; returns those that broke a limit, and which."""
        table = processes.look_up(processes.pids())
        now = time.monotonic()
        broken = []
        for job in running:
            members = self._members(table, job)
            self._join(job, {table[pid].sid for pid in members})
            rss_bytes = sum(table[pid].rss_bytes for pid in members)
            limit_bytes = job.order.memory_mb * job.terms.margin * 10**6
            if rss_bytes > limit_bytes:
                # Shared pages were counted once per process; look closer before it costs a job.
                rss_bytes = min(rss_bytes, processes.proportional_bytes(members) or rss_bytes)
            job.usage.seen(members, sum(table[pid].cpu_s for pid in members), rss_bytes)
            failure = _memory(job) or _wall_time(job, now) or _output(job) or _silence(job, now)
            if failure is not None:
                broken.append((job, failure))
        self._end_strays(table, running)
        return broken

    def end_all(self, job: Job, others: Collection[Job]) -> int:
        """Kill whatever an ended payload left behind. Returns how many processes that were.

        Most payloads leave nothing: then it costs one look at the list of our children.
        """
        n_killed = 0
        # Whatever a payload leaves behind has a child of ours among its ancestors: the kernel
        # hands us the orphans. So one look at our children tells that there is nothing.
        if self._has_no_orphans(others):
            return 0
        for _round in range(ROUNDS):
            grouped = payload.signal_group(job.pid, signal.SIGKILL)
            table = processes.look_up(processes.pids())
            members = self._members(table, job) | self._orphans_of(table, job, others)
            if not members and not grouped:
                break
            job.sessions |= {table[pid].sid for pid in members}
            n_killed += len(members)
            # Stopped first, so that none forks while the others are being killed.
            payload.signal_each(list(members), signal.SIGSTOP)
            payload.signal_each(list(members), signal.SIGKILL)
            time.sleep(0.002)
            _reap(job.pid, members)
        return n_killed

    def _has_no_orphans(self, others: Collection[Job]) -> bool:
        """All our children are payloads that run, or the guard. False too where the kernel does not tell."""
        children = processes.children(self._own_pid) if self._adopts else None
        return children is not None and children <= {self._guard.pid, *(other.pid for other in others)}

    def terminate(self, job: Job, number: int) -> None:
        """Send a signal to every process of a running job."""
        table = processes.look_up(processes.pids())
        members = self._members(table, job)
        job.sessions |= {table[pid].sid for pid in members}
        payload.signal_group(job.pid, number)
        payload.signal_each([pid for pid in members if table[pid].pgid != job.pid], number)
        if number != signal.SIGKILL:
            # A stopped process would not notice.
            payload.signal_each(list(members), signal.SIGCONT)

    def _members(self, table: processes.Table, job: Job) -> Set[int]:
        roots = [job.pid] if job.group is None else [job.pid, *job.group.pids()]
        return processes.family(table, roots, job.sessions) - {self._own_pid, self._guard.pid}

    def _join(self, job: Job, sessions: Set[int]) -> None:
        """Its processes were seen in these sessions; the guard must know them too."""
        for session in sessions - job.sessions:
            self._guard.watch(session)
        job.sessions |= sessions

    def _orphans_of(self, table: processes.Table, job: Job, others: Collection[Job]) -> Set[int]:
        """Processes that the kernel handed to us, unless they belong to another running job."""
        mains = {other.pid for other in others} | {self._guard.pid}
        foreign: Set[int] = set()
        for other in others:
            foreign |= self._members(table, other)
        orphans = {
            process.pid
            for process in table.values()
            if process.ppid == self._own_pid and process.pid not in foreign and process.pid not in mains
        }
        return processes.family(table, {pid for pid in orphans if self._owner(pid, others) is None}, set())

    def _owner(self, pid: int, jobs: Collection[Job]) -> Optional[Job]:
        """The job that an orphan belongs to: by its environment, else by its current folder."""
        environment = processes.environment(pid)
        try:
            folder = os.readlink(f"/proc/{pid}/cwd") + "/"
        except OSError:
            folder = ""
        for job in jobs:
            names = {b"PANDA_ID=%d" % job.order.panda_id, b"PANDA_ATTEMPT=%d" % job.order.attempt_nr}
            if names <= environment or folder.startswith(job.path + "/"):
                return job
        return None

    def _end_strays(self, table: processes.Table, running: Collection[Job]) -> None:
        """Orphans join the running job that they came from; the rest is of a job that is over."""
        known: Set[int] = {job.pid for job in running} | {self._guard.pid}
        for job in running:
            known |= self._members(table, job)
        for process in table.values():
            if process.ppid == self._own_pid and process.pid not in known:
                owner = self._owner(process.pid, running)
                if owner is not None:
                    self._join(owner, {process.sid})
                else:
                    payload.signal_each(list(processes.family(table, [process.pid], set())), signal.SIGKILL)


def _reap(group: int, members: Set[int]) -> None:
    """Collect killed orphans: a zombie still counts as a member of its group."""
    for pid in [-group] * (len(members) + 1) + list(members):
        try:
            os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            continue


def _memory(job: Job) -> Optional[JobFailure]:
    if (job.usage.rss_mb or 0) <= job.order.memory_mb * job.terms.margin:
        return None
    return JobFailure(
        ErrorCode.PAYLOADEXCEEDMAXMEM,
        f"payload used {job.usage.rss_mb} MB of memory, {job.order.memory_mb} MB were asked for",
    )


def _wall_time(job: Job, now: float) -> Optional[JobFailure]:
    if now - job.started_at <= job.order.walltime_s * job.terms.margin:
        return None
    return JobFailure(
        ErrorCode.REACHEDMAXTIME, f"payload ran longer than the {job.order.walltime_s} s that were asked for"
    )


def _silence(job: Job, now: float) -> Optional[JobFailure]:
    most_s = job.terms.silence_s
    with contextlib.suppress(KeyError, ValueError):
        most_s = float(job.order.env["PANDA_SILENCE_S"])
    if most_s <= 0 or job.usage.silent_s(now, sum(log.size_bytes() for log in job.streams)) <= most_s:
        return None
    return JobFailure(ErrorCode.LOOPINGJOB, f"payload wrote nothing and used no CPU for {most_s:.0f} s")


def _output(job: Job) -> Optional[JobFailure]:
    for stream in job.streams:
        if stream.cut():
            return JobFailure(ErrorCode.STDOUTTOOBIG, f"payload writes to {stream.name} without end")
    return None
