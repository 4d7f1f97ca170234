"""Pilots that are played: they claim, run nothing, and report, as pilots do and as they should not.

A played pilot repeats what was not answered, repeats and reorders what was, sometimes falls silent for longer
than its lease and comes back. It remembers which ends the server took, because those must stand.
"""

import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from panda.chaos.ask import Line
from panda.chaos.history import History

QUEUE = "PLAYED-Q"
BATCH = 25


@dataclass
class Seen:
    """What all played pilots saw. Threads share it."""

    starts: Counter[int] = field(default_factory=Counter)
    """Payload starts by PandaID."""
    holders: dict[tuple[int, int], str] = field(default_factory=dict)
    """Who was given an attempt."""
    twice: list[tuple[int, int]] = field(default_factory=list)
    """Attempts that were given to two pilots."""
    ended: dict[tuple[int, int], str] = field(default_factory=dict)
    """Ends that the server took with `ok`: (PandaID, attempt) to the word."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self, panda_id: int, attempt_nr: int, pilot_id: str) -> None:
        with self.lock:
            self.starts[panda_id] += 1
            holder = self.holders.setdefault((panda_id, attempt_nr), pilot_id)
            if holder != pilot_id:
                self.twice.append((panda_id, attempt_nr))


class PlayedPilot(threading.Thread):
    """One pilot with a slot for a batch of jobs."""

    def __init__(
        self, number: int, line: Line, history: History, seen: Seen, stop: threading.Event, seed: int, n: int = BATCH
    ) -> None:
        super().__init__(name=f"played-{number}", daemon=True)
        self.pilot_id = f"played-{seed}-{number}"
        self._line, self._history, self._seen, self._stop_event = line, history, seen, stop
        self._random = random.Random(f"{seed}/{number}")
        self._n = n
        self.is_silent = threading.Event()

    def run(self) -> None:
        """Claim and run until told to stop."""
        while not self._stop_event.is_set():
            if not self.turn():
                self._stop_event.wait(0.2)

    def turn(self) -> bool:
        """Claim once, and run what was given. Returns whether anything was."""
        jobs = self._acquire()
        if jobs:
            self._work(jobs)
        return bool(jobs)

    def _acquire(self) -> list[dict[str, Any]]:
        """One claim; asked again with the same id until it is answered."""
        request = {
            "pilot_id": self.pilot_id, "queue": QUEUE, "request_id": uuid4().hex, "n": self._n, "cores": 64,
            "memory_mb": 64_000, "disk_mb": 100_000, "walltime_s": 86_400, "node": "lab", "wait_s": 0,
        }  # fmt: skip
        while not self._stop_event.is_set():
            with self._history.operation("acquire", self.pilot_id) as operation:
                answer = self._line.json("POST", "/v1/pilots/acquire", request)
                if answer.is_ok:
                    jobs: list[dict[str, Any]] = answer.body["jobs"]
                    operation.ok(n=len(jobs))
                    return jobs
                if answer.status:
                    operation.fail(status=answer.status)
            self._stop_event.wait(max(0.2, min(1.0, answer.retry_after_s)))
        return []

    def _work(self, jobs: list[dict[str, Any]]) -> None:
        for job in jobs:
            self._seen.start(job["panda_id"], job["attempt_nr"], self.pilot_id)
        self._report(jobs, "running")
        self._send_log(jobs[0])
        self._wait_beating(jobs, self._random.uniform(0.05, 0.6))
        if self._random.random() < 0.05:  # F18: news out of order, and twice
            self._report(jobs[:3], "finished")
            self._report(jobs[:3], "running", once=True)
        ends = self._random.random()
        if ends < 0.02:
            self._report(jobs, "failed", error_code=1344, error_message="played: lost node")
        else:
            self._report(jobs, "finished", wall_s=0.5, cpu_s=0.25)

    def _wait_beating(self, jobs: list[dict[str, Any]], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 or self.is_silent.is_set():
            if self.is_silent.is_set():  # F16: silent beyond its lease, then it comes back
                time.sleep(0.1)
                continue
            time.sleep(min(left, 1.0))
        self._line.json("POST", "/v1/pilots/heartbeat", {
            "pilot_id": self.pilot_id,
            "beats": [{name: job[name] for name in ("panda_id", "attempt_nr", "token")} for job in jobs],
        })  # fmt: skip

    def _report(self, jobs: list[dict[str, Any]], status: str, *, once: bool = False, **words: Any) -> None:
        """Report on all of them, again until it is answered."""
        reports = [
            {name: job[name] for name in ("panda_id", "attempt_nr", "token")} | {"status": status} | words
            for job in jobs
        ]
        for _ in range(1 if once else 120):
            with self._history.operation("update", self.pilot_id, status=status, n=len(jobs)) as operation:
                answer = self._line.json("POST", "/v1/pilots/update", {"pilot_id": self.pilot_id, "reports": reports})
                if answer.is_ok:
                    operation.ok(outcomes=dict(Counter(each["outcome"] for each in answer.body["results"])))
                    self._remember(answer.body["results"], status)
                    return
                if answer.status:
                    operation.fail(status=answer.status)
            if self._stop_event.wait(max(0.2, min(1.0, answer.retry_after_s))):
                return  # the lab closes: the lease ends by itself

    def _remember(self, results: list[dict[str, Any]], status: str) -> None:
        if status in ("finished", "failed"):
            with self._seen.lock:
                for each in results:
                    if each["outcome"] == "ok":
                        self._seen.ended[each["panda_id"], each["attempt_nr"]] = status

    def _send_log(self, job: dict[str, Any]) -> None:
        if self._random.random() < 0.3:
            path = f"/v1/pilots/logs/{job['panda_id']}/{job['attempt_nr']}/payload.stdout?offset=0"
            with self._history.operation("log", self.pilot_id) as operation:
                text = b"a line of a log\n" * 500
                answer = self._line.send("PUT", path, text, X_Lease_Token=job["token"])
                if answer.is_ok:
                    operation.ok()
                elif answer.status:
                    operation.fail(status=answer.status)
