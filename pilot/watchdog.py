"""The watchdog: what the payloads of a pilot use, against what their jobs asked for.

It looks once a second at wall time, memory of all processes, and logs; at the work folder's
size every half minute; and it knows which processes belong to which job, to end them all.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Collection, List, Optional, Set, Tuple

from pilot import payload, processes
from pilot.errors import ErrorCode, JobFailure
from pilot.job import Job

ROUNDS = 50
"""Attempts to catch the processes of a job that forks faster than it is killed."""


class Watchdog:
    """Looks at the running jobs of one pilot."""

    def __init__(self) -> None:
        self._own_pid = os.getpid()
        self._strangers: Set[str] = set()  #: names in /proc that are no descendants of ours

    def look(self, running: Collection[Job]) -> List[Tuple[Job, JobFailure]]:
        """Measure all running jobs; returns those that broke a limit, and which."""
        names = processes.pids()
        table = processes.look_up(names)
        ours = processes.family(table, [self._own_pid], set())
        self._strangers = names.difference(map(str, ours))
        now = time.monotonic()
        broken = []
        for job in running:
            members = self._members(table, job)
            job.sessions |= {table[pid].sid for pid in members}
            job.cpu_s = sum(table[pid].cpu_s for pid in members)
            rss_bytes = sum(table[pid].rss_bytes for pid in members)
            limit_bytes = job.order.memory_mb * 10**6
            if rss_bytes > limit_bytes:
                # Shared pages were counted once per process; look closer before it costs a job.
                rss_bytes = min(rss_bytes, processes.proportional_bytes(members) or rss_bytes)
            job.rss_mb = -(-rss_bytes // 10**6)
            job.peak_rss_mb = max(job.peak_rss_mb, job.rss_mb)
            failure = _memory(job) or _wall_time(job, now) or _output(job)
            if failure is not None:
                broken.append((job, failure))
        self._end_strays(table, running)
        return broken

    def end_all(self, job: Job, others: Collection[Job]) -> int:
        """Kill whatever an ended payload left behind. Returns how many processes that were.

        Most payloads leave nothing: then it costs one look at the list of pids.
        """
        n_killed = 0
        for round_nr in range(ROUNDS):
            grouped = payload.signal_group(job.pid, signal.SIGKILL)
            # The first round looks only at processes that are not known as strangers; if it finds
            # something there is reason to look at all.
            table = self._young() if round_nr == 0 else processes.look_up(processes.pids())
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

    def _young(self) -> processes.Table:
        """Processes that no earlier look has found to be none of ours."""
        now = processes.pids()
        self._strangers &= now
        young = now - self._strangers
        table = processes.look_up(young)
        ours = processes.family(table, [self._own_pid], set())
        self._strangers |= young.difference(map(str, ours))
        return table

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
        return processes.family(table, [job.pid], job.sessions) - {self._own_pid}

    def _orphans_of(self, table: processes.Table, job: Job, others: Collection[Job]) -> Set[int]:
        """Processes that the kernel handed to us, unless they belong to another running job."""
        mains = {other.pid for other in others}
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
        known: Set[int] = {job.pid for job in running}
        for job in running:
            known |= self._members(table, job)
        for process in table.values():
            if process.ppid == self._own_pid and process.pid not in known:
                owner = self._owner(process.pid, running)
                if owner is not None:
                    owner.sessions.add(process.sid)
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
    if (job.rss_mb or 0) <= job.order.memory_mb:
        return None
    return JobFailure(
        ErrorCode.PAYLOADEXCEEDMAXMEM,
        f"payload used {job.rss_mb} MB of memory, {job.order.memory_mb} MB were asked for",
    )


def _wall_time(job: Job, now: float) -> Optional[JobFailure]:
    if now - job.started_at <= job.order.walltime_s:
        return None
    return JobFailure(
        ErrorCode.REACHEDMAXTIME, f"payload ran longer than the {job.order.walltime_s} s that were asked for"
    )


def _output(job: Job) -> Optional[JobFailure]:
    for stream in job.streams:
        if stream.cut():
            return JobFailure(ErrorCode.STDOUTTOOBIG, f"payload writes to {stream.name} without end")
    return None
