"""What every stage has in common. A Celery task is called a stage here.

`StageTask` owns the transaction (law 17): it locks the rows that are its own, lets the body do one
set-wise piece of work, commits, and only then returns the survivors, which are what the next link of the
chain gets. A body that raises is tried again on both halves, down to the one job that is to blame.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

from celery import Task
from celery.exceptions import SoftTimeLimitExceeded
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError

from panda.db.session import Begin, asynchronous, once, run
from panda.jobs import due, ending, relaying
from panda.jobs.ending import Failure
from panda.logs import Log
from panda.settings import current
from panda.states import PIPELINE, Stage
from workflows.app import LANE_OF, begin

log = Log("panda.stage")

STAGE_RUN = """
INSERT INTO stage_run_deltas (at, stage, n, n_failed, busy_ms)
VALUES (panda_now(), %(stage)s, %(n)s, %(n_failed)s, %(busy_ms)s)
"""
CANARY = """
INSERT INTO engine_state (key, value) VALUES (%(key)s, panda_now()::text)
ON CONFLICT (key) DO UPDATE SET value = excluded.value
"""

#: A stage that met a deadlock or a lost connection is run again at once this often.
QUICK_TRIES = 3
#: A job whose stage raised waits this long, times its tries, before it is sent again.
BACK_OFF_S = 5.0
#: What was promised to a client is on disk before anyone hears of it (law 7).
SYNCHRONOUS = frozenset({Stage.STAGE_OUT, Stage.ARCHIVE})


class Note:
    """That a stage has begun, for all to see until it has ended. Without it the stage goes on as well: it only says
    what a worker had in its hands when it died."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.is_gone = False

    def write(self, worker: str, panda_ids: list[int]) -> None:
        self._say(lambda connection: relaying.begin_run(connection, self.run_id, worker, panda_ids))

    def remove(self) -> None:
        """Unless the stage's own transaction did."""
        if not self.is_gone:
            self._say(lambda connection: relaying.end_run(connection, self.run_id))

    def _say(self, what: Callable[[Connection], None]) -> None:
        try:
            with once(begin()) as connection:
                what(connection)
        except SQLAlchemyError as problem:  # the stage itself says what that means
            log.warning("a stage's note could not be written", run_id=self.run_id, problem=repr(problem).split("\n")[0])


class StageTask(Task):
    """Base of the seven stages. Its `run(connection, panda_ids, chain_id)` returns the survivors.

    The jobs that are its own come from `guard(connection, panda_ids)`, which also writes what they need next;
    the body only says so where a job takes another way. A stage that must look at files names a function
    `before(begin, panda_ids)`: it runs outside the transaction, which stays short (law 8), and what it found is
    handed to `run` as a fourth argument."""

    abstract = True
    typing = False  # callers pass ids; `run` gets the connection from here
    stage: Stage
    guard: Callable[[Connection, list[int]], list[int]]
    before: Callable[[Begin, list[int]], Any] | None = None

    def __call__(self, panda_ids: Sequence[int], *_: Any, **__: Any) -> list[int]:
        """What else a message holds is of a newer version, and not for us."""
        survivors = self._carry_noted(list(panda_ids)) if panda_ids else self._canary()
        if not survivors:
            self.request.chain = None  # nothing left to send on: the chain ends here
        return survivors

    def _carry_noted(self, panda_ids: list[int]) -> list[int]:
        """`carry`, with a note in the database while it lasts: a note that is left tells what killed a worker."""
        if self.request.id is None:  # called, not sent
            return self.carry(panda_ids)
        note = Note(self.request.id)
        note.write(self.request.hostname or "", panda_ids)
        try:
            return self.carry(panda_ids, note)
        finally:
            note.remove()

    def carry(self, panda_ids: list[int], note: "Note | None" = None) -> list[int]:
        """The stage, for those of `panda_ids` that are due for it. Returns the survivors, ascending.

        `note` goes with the transaction that carries all of them."""
        for attempt in range(QUICK_TRIES):
            try:
                return self._transact(panda_ids, note)
            except SoftTimeLimitExceeded:
                raise
            except OperationalError as problem:
                log.warning("stage met the database's refusal", stage=self.stage, problem=problem.orig)
                time.sleep(0.1 * (attempt + 1))
            except Exception as problem:
                if isinstance(problem, DBAPIError) and problem.connection_invalidated:
                    log.warning("stage lost its connection", stage=self.stage)
                    continue
                return self._divide(panda_ids, problem)
        return []  # still due: the relay sends it again

    def _transact(self, panda_ids: list[int], note: "Note | None") -> list[int]:
        started = time.monotonic()
        found = [self.before(begin(), panda_ids)] if self.before else []
        with begin()() as connection:
            if self.stage not in SYNCHRONOUS:
                asynchronous(connection)
            survivors = self._stage(connection, panda_ids, found, started)
            if note:
                relaying.end_run(connection, note.run_id)
        if note:
            note.is_gone = True
        return survivors

    def _stage(self, connection: Connection, panda_ids: list[int], found: list[Any], started: float) -> list[int]:
        mine = self.guard(connection, panda_ids)
        if not mine:
            return []
        survivors = cast(list[int], self.run(connection, mine, self.request.root_id, *found))
        self._count(connection, len(mine), 0, started)
        return survivors

    def _divide(self, panda_ids: list[int], problem: Exception) -> list[int]:
        if len(panda_ids) == 1:
            self._blame(panda_ids[0], problem)
            return []
        log.warning("stage raised; trying its halves", stage=self.stage, n=len(panda_ids), problem=repr(problem))
        half = len(panda_ids) // 2
        return self.carry(panda_ids[:half]) + self.carry(panda_ids[half:])

    def _blame(self, panda_id: int, problem: Exception) -> None:
        """One job makes the stage raise: it backs off, and fails when it has done so too often."""
        log.warning("stage raised", stage=self.stage, panda_id=panda_id, problem=repr(problem))
        engine = current().engine
        started = time.monotonic()
        with begin()() as connection:
            if not due.mine(connection, [panda_id], self.stage):
                return
            error = f"{type(problem).__name__}: {problem}"
            tries = due.back_off(connection, [panda_id], for_s=BACK_OFF_S, error=error)[panda_id]
            if tries >= engine.max_tries:
                message = f"stage {self.stage} raised {tries} times: {error}"
                failure = Failure(panda_id, self.stage, f"{self.stage}:raised", message)
                ending.fail_many(connection, [failure], by=self.name, engine=engine)
            self._count(connection, 1, 1, started)

    def _count(self, connection: Connection, n: int, n_failed: int, started: float) -> None:
        busy_ms = int((time.monotonic() - started) * 1000)
        run(connection, STAGE_RUN, {"stage": self.stage, "n": n, "n_failed": n_failed, "busy_ms": busy_ms})

    def _canary(self) -> list[int]:
        """Called with nothing: shows that a worker that is connected also consumes (fault C4)."""
        with begin()() as connection:
            run(connection, CANARY, {"key": f"canary.{LANE_OF[self.stage]}"})
        return []


def stage_options(
    stage: Stage, *, guard: Callable[[Connection, list[int]], list[int]] | None = None, **more: Any
) -> dict[str, Any]:
    """Options of `@app.task` for one stage. Without a guard of its own its jobs go on to the next stage."""
    guarded = staticmethod(guard or partial(due.take, stage=stage, then=_after(stage)))
    return {
        "base": StageTask, "name": f"panda.{stage}", "stage": stage, "queue": LANE_OF[stage], "guard": guarded, **more
    }  # fmt: skip


def _after(stage: Stage) -> Stage:
    return PIPELINE[PIPELINE.index(stage) + 1]
