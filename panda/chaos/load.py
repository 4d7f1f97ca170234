"""The load: job sets of every kind at a steady rate, as people and scripts submit them."""

import random
import threading
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from panda.chaos.ask import Line
from panda.chaos.history import History


@dataclass(frozen=True)
class Accepted:
    """A job set that the server promised to run."""

    jobset_id: int
    first_panda_id: int
    n_jobs: int
    key: str
    is_real: bool


class Load(threading.Thread):
    """Submits about `rate` played jobs a second, and a small real set every `real_every_s` seconds.

    A submission without an answer is sent again with its key until there is one; it must then be the same set.
    """

    def __init__(
        self, line: Line, history: History, stop: threading.Event, *, rate: float, real_every_s: float, seed: int
    ) -> None:
        super().__init__(name="load", daemon=True)
        self.accepted: list[Accepted] = []
        self.changed_ids: list[str] = []
        """Keys that were answered with two different sets: I15 is broken."""
        self._line, self._history, self._stop_event = line, history, stop
        self._rate, self._real_every_s = rate, real_every_s
        self._random = random.Random(f"load/{seed}")

    def run(self) -> None:
        """Submit until told to stop."""
        began, n_sent, next_real_s = self._history.now_s, 0, 0.0
        while not self._stop_event.is_set():
            now_s = self._history.now_s - began
            if now_s >= next_real_s:
                next_real_s = now_s + self._real_every_s
                self._submit(self._real(), is_real=True)
            owed = now_s * self._rate - n_sent
            if owed < 20:
                self._stop_event.wait(0.1)
                continue
            n = min(int(owed), 200)
            if self._submit(self._played(n), is_real=False):
                n_sent += n
            if self._random.random() < 0.15:
                self._meddle()

    def _played(self, n: int) -> dict[str, Any]:
        document: dict[str, Any] = {
            "name": "played",
            "defaults": {"memory_mb": 100, "disk_mb": 100, "walltime_s": 600, "max_attempts": 25},
            "brokerage": {"sites": ["PLAYED"]},
        }
        kind = self._random.random()
        if kind < 0.7:
            document["template"] = {"command": ["true", "${seq}"], "count": n}
        else:
            document["jobs"] = [{"command": ["true", str(nr)]} for nr in range(n)]
        if kind > 0.95 and self.accepted:
            document["depends_on"] = [self._random.choice(self.accepted[-5:]).jobset_id]
            document["on_parent_failure"] = "run"
        return document

    def _real(self) -> dict[str, Any]:
        script = "sleep 0.2; echo $PANDA_ID > out.$0.txt"
        return {
            "name": "real",
            "defaults": {"memory_mb": 100, "disk_mb": 100, "walltime_s": 120, "max_attempts": 25},
            "brokerage": {"sites": ["REAL"]},
            "template": {"command": ["sh", "-c", script, "${seq}"], "count": 4, "outputs": ["out.${seq}.txt"]},
        }

    def _submit(self, document: dict[str, Any], *, is_real: bool) -> bool:
        key = uuid4().hex
        for _ in range(200):
            with self._history.operation("submit", "load", key=key) as operation:
                answer = self._line.json("POST", "/v1/jobsets", document, Idempotency_Key=key)
                if answer.is_ok:
                    operation.ok(jobset=answer.body["jobset_id"], n=answer.body["n_jobs"])
                    self._note(answer.body, key, is_real)
                    if self._random.random() < 0.2:
                        self._repeat(document, key, answer.body)
                    return True
                if answer.status:
                    operation.fail(status=answer.status, code=answer.body.get("code"))
            if self._stop_event.wait(max(0.2, min(1.0, answer.retry_after_s))):
                return False
        return False

    def _note(self, body: dict[str, Any], key: str, is_real: bool) -> None:
        self.accepted.append(Accepted(body["jobset_id"], body["first_panda_id"], body["n_jobs"], key, is_real))

    def _repeat(self, document: dict[str, Any], key: str, first: dict[str, Any]) -> None:
        """A submission whose answer was lost is sent again: the same set must come back."""
        with self._history.operation("repeat", "load", key=key) as operation:
            answer = self._line.json("POST", "/v1/jobsets", document, Idempotency_Key=key)
            if answer.is_ok:
                operation.ok()
                if (answer.body["jobset_id"], answer.body["first_panda_id"]) != (
                    first["jobset_id"], first["first_panda_id"],
                ):  # fmt: skip
                    self.changed_ids.append(key)
            elif answer.status:
                operation.fail(status=answer.status)

    def _meddle(self) -> None:
        """People change their minds: a set is cancelled, the failed jobs of one are retried."""
        if not self.accepted:
            return
        recent = self._random.choice(self.accepted[-30:])
        what = self._random.choice(["cancel", "retry", "retry"])
        with self._history.operation(what, "load", jobset=recent.jobset_id) as operation:
            answer = self._line.json("POST", f"/v1/jobsets/{recent.jobset_id}/{what}", {"reason": "chaos"})
            if answer.is_ok:
                operation.ok(n=answer.body.get("n"))
            elif answer.status:
                operation.fail(status=answer.status)
