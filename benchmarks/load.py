"""The load generator: a client that submits, and pilots that claim and report, over real HTTP.

Connections stay open; messages are the server's own words. What it costs is counted with the rest.
"""

import http.client
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from urllib.parse import urlsplit
from uuid import uuid4

import msgspec

from benchmarks.system import QUEUES, System
from panda.api.schemas import AcquireReply, JobSetAccepted, UpdateReply
from panda.dispatcher.words import AcquireRequest, PilotJob, Report, UpdateRequest
from panda.jobs.specs import Defaults, JobSetRequest, JobSpec

T = TypeVar("T")
ENCODER = msgspec.json.Encoder()

#: What a null job needs; any queue of `system.SITES` takes it.
DEFAULTS = Defaults(cores=1, memory_mb=1000, disk_mb=100, walltime_s=600)
#: What a pilot of ours has free: room for every job of an answer at once.
ROOM = {"cores": 1000, "memory_mb": 1_000_000, "disk_mb": 1_000_000, "walltime_s": 1_000_000}


class Refused(Exception):
    """The server answered with something else than was expected."""


class Line:
    """One connection that stays open, for one thread."""

    def __init__(self, system: System, token: str) -> None:
        self._http = http.client.HTTPConnection(urlsplit(system.api).netloc, timeout=120)
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def post(self, path: str, message: Any, kind: type[T], **headers: str) -> T:
        """POST a message, get one of `kind`. Raises Refused."""
        self._http.request("POST", path, ENCODER.encode(message), self._headers | headers)
        reply = self._http.getresponse()
        body = reply.read()
        if reply.status not in (200, 201):
            raise Refused(f"{path}: {reply.status} {body[:500].decode(errors='replace')}")
        return msgspec.json.decode(body, type=kind)

    def submit(self, request: JobSetRequest) -> JobSetAccepted:
        """Submit a job set under a key of its own."""
        return self.post("/v1/jobsets", request, JobSetAccepted, **{"Idempotency-Key": uuid4().hex})


def submit_null_jobs(system: System, n_jobs: int, *, per_set: int = 1000) -> None:
    """`n_jobs` jobs of `true`, spelt out, in sets of `per_set`, one after another."""
    line = Line(system, system.token)
    for start in range(0, n_jobs, per_set):
        jobs = [JobSpec(command=["true"])] * min(per_set, n_jobs - start)
        line.submit(JobSetRequest(name="null", jobs=jobs, defaults=DEFAULTS))


class Countdown:
    """How many jobs are still to be claimed, over all pilots."""

    def __init__(self, n: int) -> None:
        self._left = n
        self._lock = threading.Lock()

    def take(self, n: int) -> None:
        with self._lock:
            self._left -= n

    @property
    def is_over(self) -> bool:
        return self._left <= 0


class Pilot:
    """Claims up to `n` jobs at a time, says that they run, says that they are done; runs nothing."""

    def __init__(self, system: System, queue: str, n: int) -> None:
        self._line = Line(system, system.pilot_token)
        self._pilot_id = f"bench-{uuid4().hex[:12]}"
        self._queue = queue
        self._n = n

    def claim(self, wait_s: float = 0) -> list[PilotJob]:
        """Jobs, or none."""
        request = AcquireRequest(
            pilot_id=self._pilot_id, queue=self._queue, request_id=uuid4().hex, n=self._n, node="bench",
            wait_s=wait_s, **ROOM,
        )  # fmt: skip
        return self._line.post("/v1/pilots/acquire", request, AcquireReply).jobs

    def run(self, jobs: Sequence[PilotJob]) -> None:
        """Report `running`, then `finished`, for all of them."""
        self._say([Report(panda_id=j.panda_id, attempt_nr=j.attempt_nr, token=j.token, status="running") for j in jobs])
        self._say(
            [
                Report(
                    panda_id=j.panda_id,
                    attempt_nr=j.attempt_nr,
                    token=j.token,
                    status="finished",
                    exit_code=0,
                    wall_s=0.0,
                    cpu_s=0.0,
                    max_rss_mb=0,
                )
                for j in jobs
            ]  # fmt: skip
        )

    def _say(self, reports: list[Report]) -> None:
        reply = self._line.post(
            "/v1/pilots/update", UpdateRequest(pilot_id=self._pilot_id, reports=reports), UpdateReply
        )
        wrong = [result for result in reply.results if result.outcome != "ok"]
        if wrong:
            raise Refused(f"a report was not taken: {wrong[0]}")

    def run_until(self, countdown: Countdown) -> None:
        """Claim and run until nothing is left to claim."""
        while not countdown.is_over:
            jobs = self.claim(wait_s=0.5)
            countdown.take(len(jobs))
            if jobs:
                self.run(jobs)


def whole_life(system: System, n_jobs: int, *, per_request: int, n_pilots: int = 4) -> float:
    """Seconds from the first submission until the last of `n_jobs` null jobs is archived."""
    began = time.monotonic()
    countdown = Countdown(n_jobs)
    with ThreadPoolExecutor(n_pilots + 1) as pool:
        work = [pool.submit(submit_null_jobs, system, n_jobs)]
        for number in range(n_pilots):
            pilot = Pilot(system, QUEUES[number % len(QUEUES)], per_request)
            work.append(pool.submit(pilot.run_until, countdown))
        for each in work:
            each.result()
    system.await_rows("SELECT count(*) FROM job_due", 0, every_s=0.05)
    return time.monotonic() - began
