"""The load generator: a client that submits, and pilots that claim and report, over real HTTP.

Connections stay open; messages are the server's own words. What it costs is counted with the rest.
"""

import socket
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, TypeVar
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


class Refused(Exception):
    """The server answered with something else than was expected."""


class Line:
    """One connection that stays open, for one thread: as much HTTP as our own server speaks, and no more,
    so that the generator takes little of the machine that it measures."""

    def __init__(self, system: System, token: str) -> None:
        address = urlsplit(system.api)
        self._head = f"Host: {address.netloc}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n"
        self._socket = socket.create_connection((address.hostname or "", address.port or 80), timeout=120)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def post(self, path: str, message: Any, kind: type[T], **headers: str) -> T:
        """POST a message, get one of `kind`. Raises Refused."""
        body = ENCODER.encode(message)
        more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"POST {path} HTTP/1.1\r\n{self._head}{more}Content-Length: {len(body)}\r\n\r\n"
        self._socket.sendall(head.encode() + body)
        status, reply = self._answer()
        if status not in (200, 201):
            raise Refused(f"{path}: {status} {reply[:500].decode(errors='replace')}")
        return msgspec.json.decode(reply, type=kind)

    def _answer(self) -> tuple[int, bytes]:
        received = self._more()
        while (end := received.find(b"\r\n\r\n")) < 0:
            received += self._more()
        head, body = received[:end].lower(), received[end + 4 :]
        length = int(head.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0])
        while len(body) < length:
            body += self._more()
        return int(head.split(b" ", 2)[1]), body

    def _more(self) -> bytes:
        block = self._socket.recv(1 << 16)
        if not block:
            raise Refused("the server hung up")
        return block

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


def ask(pilot_id: str, queue: str, n: int, wait_s: float = 0) -> AcquireRequest:
    """The words of a pilot that has room for every job of an answer at once."""
    return AcquireRequest(
        pilot_id=pilot_id, queue=queue, request_id=uuid4().hex, n=n, node="bench", wait_s=wait_s,
        cores=1000, memory_mb=1_000_000, disk_mb=1_000_000, walltime_s=1_000_000,
    )  # fmt: skip


def _report(job: PilotJob, status: Literal["running", "finished"], **used: Any) -> Report:
    return Report(panda_id=job.panda_id, attempt_nr=job.attempt_nr, token=job.token, status=status, **used)


class Pilot:
    """Claims up to `n` jobs at a time, says that they run, says that they are done; runs nothing."""

    def __init__(self, system: System, queue: str, n: int) -> None:
        self._line = Line(system, system.pilot_token)
        self._pilot_id = f"bench-{uuid4().hex[:12]}"
        self._queue = queue
        self._n = n

    def claim(self, wait_s: float = 0) -> list[PilotJob]:
        """Jobs, or none."""
        request = ask(self._pilot_id, self._queue, self._n, wait_s)
        return self._line.post("/v1/pilots/acquire", request, AcquireReply).jobs

    def run(self, jobs: Sequence[PilotJob]) -> None:
        """Report `running`, then `finished`, for all of them."""
        self._say([_report(job, "running") for job in jobs])
        self._say([_report(job, "finished", exit_code=0, wall_s=0.0, cpu_s=0.0, max_rss_mb=0) for job in jobs])

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
