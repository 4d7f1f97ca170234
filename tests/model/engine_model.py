"""The engine, in memory: its tables as dictionaries, its statements with the same guards, a clock that is set,
and a broker that loses, doubles, delays and reorders.

A step is one commit of the real engine, so that a crash between any two commits is simply a step that does not
follow. `test_agreement` plays the same steps to the real statements and compares.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from panda.settings import Dispatcher, Engine
from panda.states import ENTRY_STATUS, FINAL, LEASED, MOVES, PIPELINE, RETRY_STATUS, JobStatus, Stage, Wait, after

J = JobStatus
ENDING = (Stage.STAGE_OUT, Stage.ARCHIVE)
#: A payload that holds when an attempt's pilot was silent.
LOST, KILLS_PILOTS = "dispatch:lost_heartbeat", "dispatch:kills_pilots"


@dataclass
class Due:
    """A row of `job_due`."""

    stage: Stage
    waits_for: Wait | None
    due_at: float
    deliveries: int = 0
    tries: int = 0
    sent: bool = False

    @property
    def is_final(self) -> bool:
        return self.stage in ENDING


@dataclass
class Job:
    """A row of `jobs` or of the archive, with its events and attempts."""

    panda_id: int
    max_attempts: int
    status: JobStatus = J.PENDING
    attempt_nr: int = 1
    failed_stage: Stage | None = None
    error_code: str | None = None
    is_unwanted: bool = False
    is_archived: bool = False
    moves: list[JobStatus] = field(default_factory=lambda: [J.PENDING])
    attempts: list[tuple[str, str | None]] = field(default_factory=list)
    """Outcome and error of each attempt that ended."""


@dataclass
class Lease:
    attempt_nr: int
    token: int
    until: float
    reported_at: float


@dataclass(frozen=True)
class Message:
    """What waits in Redis."""

    stage: Stage
    panda_ids: tuple[int, ...]
    run_id: int


class EngineModel:
    """The engine's tables, and a step for each of its commits."""

    def __init__(self, engine: Engine, dispatcher: Dispatcher) -> None:
        self.engine, self.dispatcher = engine, dispatcher
        self.now = 0.0
        self.jobs: dict[int, Job] = {}
        self.due: dict[int, Due] = {}
        self.ready: set[int] = set()
        self.leases: dict[int, Lease] = {}
        self.running: dict[int, tuple[float, tuple[int, ...]]] = {}  # stage_starts
        self.n_tokens = self.n_runs = 0
        self.taken_ends: dict[tuple[int, int], str] = {}
        """Ends that a pilot was told are taken."""

    # -- clients -------------------------------------------------------------------------------

    def submit(self, max_attempts: int) -> int:
        """A job that is expanded and released."""
        panda_id = len(self.jobs) + 1
        self.jobs[panda_id] = Job(panda_id, max_attempts)
        self.due[panda_id] = Due(Stage.DEFINE, None, self.now)
        return panda_id

    def kill(self, panda_id: int) -> None:
        job = self.jobs[panda_id]
        if job.is_archived or job.status in FINAL:
            return
        job.is_unwanted = True
        if job.status not in LEASED:
            self._cancel([panda_id])

    def retry(self, panda_id: int) -> None:
        job = self.jobs[panda_id]
        if job.is_archived or job.status is not J.FAILED:
            return
        failed = job.failed_stage or Stage.BROKER
        if failed is Stage.ARCHIVE:
            failed = Stage.STAGE_OUT
        self._start_over([panda_id], failed if failed in RETRY_STATUS else Stage.BROKER)

    # -- the relay -----------------------------------------------------------------------------

    def claim(self, *, final: bool) -> list[Message]:
        """What a relay sends; a crash loses all of it."""
        claimed = [
            (panda_id, row)
            for panda_id, row in self.due.items()
            if row.waits_for is None and row.is_final == final and (row.deliveries == 0 or row.due_at <= self.now)
        ]
        groups: dict[tuple[Stage, int], list[int]] = defaultdict(list)
        poison: list[tuple[int, Stage]] = []
        for panda_id, row in claimed:
            row.due_at, row.sent = self.now + self.engine.resend_s, True
            row.deliveries = min(row.deliveries + 1, 1000)
            if row.deliveries > self.engine.max_deliveries:
                poison.append((panda_id, row.stage))
            else:
                groups[row.stage, row.deliveries].append(panda_id)
        for panda_id, stage in poison:
            if not self._fail(panda_id, stage, f"{stage}:poison"):
                groups[stage, self.engine.max_deliveries].append(panda_id)
        messages = []
        for (stage, deliveries), members in groups.items():
            size = max(1, self.engine.group_jobs >> (deliveries - 1))
            for start in range(0, len(members), size):
                messages.append(self._message(stage, sorted(members)[start : start + size]))
        return sorted(messages, key=lambda message: (message.stage, message.panda_ids))

    def resend_waiting(self) -> None:
        """Redis was found erased, or a worker restarted: what did not begin."""
        begun = {panda_id for _, panda_ids in self.running.values() for panda_id in panda_ids}
        for panda_id, row in self.due.items():
            is_out = row.waits_for is None and row.due_at > self.now and row.deliveries > 0 and row.sent
            if is_out and panda_id not in begun:
                row.due_at, row.deliveries, row.sent = self.now, row.deliveries - 1, False

    def resend_begun(self, apart_s: float) -> None:
        """The worker died with what it had in its hands."""
        broken_off, self.running = sorted(self.running.values()), {}
        for nr, (_, panda_ids) in enumerate(broken_off, start=1):
            for panda_id in panda_ids:
                row = self.due.get(panda_id)
                if row and row.waits_for is None and row.deliveries > 0 and row.sent:
                    row.due_at, row.sent = self.now + nr * apart_s, False

    # -- a worker ------------------------------------------------------------------------------

    def begin_run(self, message: Message) -> None:
        self.running[message.run_id] = (self.now, message.panda_ids)

    def end_run(self, message: Message) -> None:
        self.running.pop(message.run_id, None)

    def run_stage(self, message: Message) -> Message | None:
        """One stage for those that are due for it: one commit. Returns the chain's next message."""
        stage = message.stage
        mine = [
            panda_id
            for panda_id in message.panda_ids
            if (row := self.due.get(panda_id)) and row.stage is stage and row.waits_for is None
        ]
        survivors = self._bodies()[stage](mine) if mine else []
        return self._message(after(stage), survivors) if survivors else None

    def _bodies(self) -> dict[Stage, Callable[[list[int]], list[int]]]:
        return {
            Stage.DEFINE: lambda ids: self._on(ids, Stage.BROKER, J.DEFINED),
            Stage.BROKER: lambda ids: self._on(ids, Stage.STAGE_IN, J.ASSIGNED),
            Stage.STAGE_IN: lambda ids: self._on(ids, Stage.ACTIVATE),
            Stage.ACTIVATE: self._activate,
            Stage.DISPATCH: self._dispatch,
            Stage.STAGE_OUT: lambda ids: self._on(ids, Stage.ARCHIVE),
            Stage.ARCHIVE: self._archive,
        }

    def _on(self, ids: Sequence[int], stage: Stage, status: JobStatus | None = None) -> list[int]:
        for panda_id in ids:
            self.due[panda_id].stage = stage  # alone (law 3)
            if status:
                self._move(self.jobs[panda_id], status)
        return list(ids)

    def _activate(self, ids: list[int]) -> list[int]:
        self.ready |= set(ids)
        return self._on(ids, Stage.DISPATCH, J.ACTIVATED)

    def _dispatch(self, ids: list[int]) -> list[int]:
        for panda_id in ids:
            self._park(panda_id, Stage.DISPATCH, Wait.PILOT, self.engine.pilot_wait_s)
        return []

    def _archive(self, ids: list[int]) -> list[int]:
        for panda_id in ids:
            job = self.jobs[panda_id]
            if job.status in (J.HOLDING, J.TRANSFERRING):
                self._move(job, J.FINISHED)
                job.attempts.append(("finished", None))
            job.is_archived = True
            del self.due[panda_id]
        return []

    # -- pilots --------------------------------------------------------------------------------

    def acquire(self) -> tuple[int, int, int] | None:
        """The first ready job: (PandaID, attempt, token)."""
        for panda_id in sorted(self.ready):
            row, job = self.due[panda_id], self.jobs[panda_id]
            if row.stage is Stage.DISPATCH and row.waits_for in (None, Wait.PILOT):
                self.ready.discard(panda_id)
                self._park(panda_id, Stage.STAGE_OUT, Wait.LEASE, self.dispatcher.lease_s)
                self._move(job, J.SENT)
                self.n_tokens += 1
                until = self.now + self.dispatcher.lease_s
                self.leases[panda_id] = Lease(job.attempt_nr, self.n_tokens, until, self.now)
                return panda_id, job.attempt_nr, self.n_tokens
        return None

    def heartbeat(self, panda_id: int, attempt_nr: int, token: int) -> str:
        lease = self._lease(panda_id, attempt_nr, token)
        if lease is None:
            return self._fate(panda_id, attempt_nr)
        lease.until, lease.reported_at = self.now + self.dispatcher.lease_s, self.now
        return "ok"

    def progress(self, panda_id: int, attempt_nr: int, token: int) -> str:
        """`running`."""
        lease = self._lease(panda_id, attempt_nr, token)
        if lease is None:
            return self._fate(panda_id, attempt_nr)
        if lease.reported_at < self.now - self.dispatcher.lease_s / 12:
            lease.until, lease.reported_at = self.now + self.dispatcher.lease_s, self.now
        job = self.jobs[panda_id]
        if job.status in (J.SENT, J.STARTING):
            self._move(job, J.RUNNING)
        return "ok"

    def end(self, panda_id: int, attempt_nr: int, token: int, word: str, *, again: bool = False) -> str:
        """`finished`, `failed` (`again`: the node's fault) or `cancelled`."""
        if self._lease(panda_id, attempt_nr, token) is None:
            return self._fate(panda_id, attempt_nr)
        job = self.jobs[panda_id]
        del self.leases[panda_id]
        if word == "finished":
            self._move(job, J.HOLDING)
            self._wake(panda_id, Stage.STAGE_OUT)
        elif word == "cancelled" and job.is_unwanted:
            self._cancel([panda_id])
        else:
            self._fail(panda_id, Stage.DISPATCH, "pilot", again=again or word == "cancelled")
        self.taken_ends[panda_id, attempt_nr] = word
        return "ok"

    def _lease(self, panda_id: int, attempt_nr: int, token: int) -> Lease | None:
        lease = self.leases.get(panda_id)
        return lease if lease and (lease.attempt_nr, lease.token) == (attempt_nr, token) else None

    def _fate(self, panda_id: int, attempt_nr: int) -> str:
        job = self.jobs[panda_id]
        is_over = job.is_archived or job.status in (J.HOLDING, J.TRANSFERRING) or job.status in FINAL
        return "already_done" if job.attempt_nr == attempt_nr and is_over else "stale_lease"

    # -- the sweeper ---------------------------------------------------------------------------

    def sweep(self) -> None:
        """Handlers of the waits whose deadline passed."""
        for panda_id, row in list(self.due.items()):
            if row.waits_for is None or row.due_at > self.now:
                continue
            job = self.jobs[panda_id]
            if row.waits_for is Wait.LEASE:
                self._lost(job, row)
            elif row.waits_for is Wait.PILOT:
                self.ready.discard(panda_id)
                self._move(job, J.DEFINED)
                self._wake(panda_id, Stage.BROKER)
            elif row.waits_for is Wait.OPERATOR:
                self._wake(panda_id, Stage.ARCHIVE)

    def _lost(self, job: Job, row: Due) -> None:
        lease = self.leases.get(job.panda_id)
        if lease and lease.until > self.now:
            row.due_at = lease.until
        elif job.is_unwanted:
            self._cancel([job.panda_id])
        else:
            n_lost = sum(error == LOST for _, error in job.attempts)
            is_its_own = job.attempt_nr >= job.max_attempts > 1 and n_lost == job.attempt_nr - 1
            self._fail(job.panda_id, Stage.DISPATCH, KILLS_PILOTS if is_its_own else LOST, again=True)

    # -- ends ----------------------------------------------------------------------------------

    def _fail(self, panda_id: int, stage: Stage, code: str, *, again: bool = False) -> bool:
        job = self.jobs[panda_id]
        self._cut_off(panda_id)
        if job.status in FINAL:
            return False
        self._move(job, J.FAILED)
        job.failed_stage, job.error_code = stage, code
        job.attempts.append(("failed", code))
        if again and job.attempt_nr < job.max_attempts and not job.is_unwanted:
            self._start_over([panda_id], Stage.BROKER)
        else:
            self._park(panda_id, Stage.ARCHIVE, Wait.OPERATOR, self.engine.retry_window_s)
        return True

    def _cancel(self, panda_ids: Sequence[int]) -> None:
        for panda_id in panda_ids:
            job = self.jobs[panda_id]
            self._cut_off(panda_id)
            if job.status not in FINAL:
                self._move(job, J.CANCELLED)
                job.attempts.append(("cancelled", None))
                self._wake(panda_id, Stage.ARCHIVE)

    def _start_over(self, panda_ids: Sequence[int], stage: Stage) -> None:
        for panda_id in panda_ids:
            job = self.jobs[panda_id]
            self._move(job, RETRY_STATUS[stage])
            job.attempt_nr += 1
            job.max_attempts = max(job.max_attempts, job.attempt_nr)
            job.failed_stage = job.error_code = None
            job.is_unwanted = False
            row = self.due[panda_id]
            row.stage, row.waits_for, row.due_at, row.deliveries, row.tries = stage, None, self.now, 0, 0

    def _cut_off(self, panda_id: int) -> None:
        self.ready.discard(panda_id)
        self.leases.pop(panda_id, None)

    def _park(self, panda_id: int, stage: Stage, wait: Wait, for_s: float) -> None:
        row = self.due[panda_id]
        row.stage, row.waits_for, row.due_at, row.deliveries, row.tries = stage, wait, self.now + for_s, 0, 0

    def _wake(self, panda_id: int, stage: Stage) -> None:
        row = self.due[panda_id]
        row.stage, row.waits_for, row.due_at, row.deliveries = stage, None, self.now, 0

    def _move(self, job: Job, to: JobStatus) -> None:
        assert to in MOVES[job.status], f"job {job.panda_id} cannot go from {job.status} to {to}"
        job.status = to
        job.moves.append(to)

    def _message(self, stage: Stage, panda_ids: Sequence[int]) -> Message:
        self.n_runs += 1
        return Message(stage, tuple(panda_ids), self.n_runs)

    # -- what must hold at every commit --------------------------------------------------------

    def check(self) -> None:
        """The invariants, by their numbers in the design."""
        for panda_id, job in self.jobs.items():
            row = self.due.get(panda_id)
            assert (row is None) == job.is_archived, "I2, I10: one place, and a row while it lives"
            assert len(job.attempts) <= job.attempt_nr <= job.max_attempts, "I5"
            if row is None:
                assert job.status in FINAL, "I2: only what ended is archived"
                assert len(job.attempts) == job.attempt_nr, "I5: each attempt has an end"
            else:
                assert job.status in ENTRY_STATUS[row.stage], "I11: the stage follows from the status"
                assert (panda_id in self.leases) == (job.status in LEASED), "I4"
                assert (panda_id in self.ready) == (job.status is J.ACTIVATED), "I11b"
                assert (row.waits_for is Wait.LEASE) == (job.status in LEASED), "a lease is waited for"
            if panda_id in self.leases:
                assert self.leases[panda_id].attempt_nr == job.attempt_nr, "I4"
        for (panda_id, attempt_nr), word in self.taken_ends.items():
            job = self.jobs[panda_id]
            if word == "finished" and attempt_nr <= len(job.attempts):
                outcome, code = job.attempts[attempt_nr - 1]
                is_later = outcome == "cancelled" or (code or "").endswith(":poison")
                assert outcome == "finished" or is_later, "I6: an end that was taken stands"


def road_end(message: Message) -> bool:
    """Whether a chain ends behind this stage: it never crosses a pilot."""
    return message.stage in (Stage.DISPATCH, PIPELINE[-1])
