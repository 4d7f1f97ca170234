"""The model is worth what it shares with the engine: the same steps, played to both, leave the same rows."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from engine_model import EngineModel, Message, road_end
from histories import HISTORIES, LEASE_S, LITTLE_S, MOST_JOBS, MUCH_S, STEPS, WINDOW_S, Player
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from panda import settings as settings_module
from panda.db.session import run
from panda.dispatcher.words import PilotJob
from panda.jobs import kill, relaying, retry
from panda.settings import Engine
from panda.states import Stage, after

WORKER = "stages@node"
QUICK = Engine(max_deliveries=4, group_jobs=2)
EMPTY = """
TRUNCATE jobs, job_due, ready, leases, attempts, job_events, jobs_archive, stage_starts, pilots, usage,
    usage_days, usage_deltas, job_count_deltas, job_counts
"""
JOBS = """
SELECT panda_id, status, attempt_nr, max_attempts, kill_requested_at IS NOT NULL AS is_unwanted, false AS is_archived
FROM jobs UNION ALL
SELECT panda_id, status, attempt_nr, max_attempts, kill_requested_at IS NOT NULL, true FROM jobs_archive
"""
DUE = """
SELECT panda_id, stage, waits_for, deliveries, sent AND waits_for IS NULL AND deliveries > 0 AS is_out,
    extract(epoch FROM due_at - panda_now())::float AS in_s FROM job_due
"""
MOVES = "SELECT panda_id, array_agg(now ORDER BY event_id) AS moves FROM job_events GROUP BY panda_id"
ATTEMPTS = "SELECT panda_id, array_agg(outcome ORDER BY attempt_nr) AS outcomes FROM attempts GROUP BY panda_id"
LEASES = "SELECT panda_id, attempt_nr, extract(epoch FROM lease_until - panda_now())::float AS in_s FROM leases"
READY = "SELECT panda_id FROM ready"


class RealPlayer:
    """Plays steps to the real statements. PandaIDs are counted from `offset`."""

    def __init__(self, world: Any) -> None:
        self.world = world
        with world.begin() as connection:
            run(connection, EMPTY)
        [row] = world.query("SELECT nextval('panda_id_seq') AS last")
        self.offset = int(row.last)
        self.bag: list[Message] = []
        self.held: list[PilotJob] = []
        self.n_jobs = self.n_runs = self.n_asks = 0

    def play(self, name: str, n: int) -> Any:
        """One step, by the name that the model knows."""
        step: Callable[[int], Any] = getattr(self, name)
        return step(n)

    def submit(self, n: int) -> None:
        if self.n_jobs < MOST_JOBS:
            self.n_jobs += 1
            self.pass_time(0.01)  # an order of their own for pilots
            self.world.jobs(1, defaults={"max_attempts": 1 + n % 3}, brokerage={"sites": ["NORTH"]})
            self.world.turn_expansion()

    def relay(self, n: int) -> None:
        self.bag += self._claimed(final=False)

    def relay_final(self, n: int) -> None:
        self.bag += self._claimed(final=True)

    def relay_dies(self, n: int) -> None:
        self._claimed(final=bool(n % 2))

    def _claimed(self, *, final: bool) -> list[Message]:
        groups = sorted(self.world.claim(final=final), key=lambda group: (group.stage, group.panda_ids))
        return [self._message(group.stage, group.panda_ids) for group in groups]

    def _message(self, stage: Stage, panda_ids: list[int]) -> Message:
        self.n_runs += 1
        return Message(stage, tuple(panda_ids), self.n_runs)

    def _taken(self, n: int) -> Message | None:
        return self.bag.pop(n % len(self.bag)) if self.bag else None

    def deliver(self, n: int) -> None:
        message = self._taken(n)
        if message:
            survivors = self.world.run_stage(message.stage, message.panda_ids)
            if survivors and not road_end(message):
                self.bag.append(self._message(after(message.stage), survivors))

    def deliver_and_die(self, n: int) -> None:
        message = self._taken(n)
        if message:
            self._begin(message)
            self.world.run_stage(message.stage, message.panda_ids)

    def begin_and_die(self, n: int) -> None:
        message = self._taken(n)
        if message:
            self._begin(message)

    def _begin(self, message: Message) -> None:
        with self.world.begin() as connection:
            relaying.begin_run(connection, f"{message.run_id:06d}", WORKER, message.panda_ids)

    def drop(self, n: int) -> None:
        self._taken(n)

    def double(self, n: int) -> None:
        if self.bag and len(self.bag) < 40:
            self.bag.append(self.bag[n % len(self.bag)])

    def erase_redis(self, n: int) -> None:
        self.bag.clear()
        with self.world.begin() as connection:
            relaying.resend_waiting(connection)

    def restart_worker(self, n: int) -> None:
        with self.world.begin() as connection:
            relaying.resend_begun(connection, WORKER)
            relaying.resend_waiting(connection)

    def acquire(self, n: int) -> PilotJob | None:
        self.n_asks += 1
        found: list[PilotJob] = self.world.acquire(1, queue="NORTH-Q", pilot_id=f"p{self.offset}-{self.n_asks}")
        self.held += found
        return found[0] if found else None

    def acquire_unheard(self, n: int) -> None:
        if self.acquire(n):
            self.held.pop()

    def _report(self, n: int, status: str, **words: Any) -> str | None:
        if not self.held:
            return None
        return str(self.world.report(self.held[n % len(self.held)], status, **words).outcome)

    def heartbeat(self, n: int) -> str | None:
        return self.world.beat(self.held[n % len(self.held)]) if self.held else None

    def running(self, n: int) -> str | None:
        return self._report(n, "running")

    def finish(self, n: int) -> str | None:
        return self._report(n, "finished")

    def fail(self, n: int) -> str | None:
        return self._report(n, "failed", error_code=1305, exit_code=3)

    def fail_by_node(self, n: int) -> str | None:
        return self._report(n, "failed", error_code=1344)

    def drop_job(self, n: int) -> str | None:
        return self._report(n, "cancelled")

    def kill(self, n: int) -> None:
        if self.n_jobs:
            with self.world.begin() as connection:
                kill.request(connection, [self._panda_id(n)], by="alice", reason="")

    def retry(self, n: int) -> None:
        if self.n_jobs:
            with self.world.begin() as connection:
                retry.retry(connection, [self._panda_id(n)], stage=None, by="alice", reason="")

    def _panda_id(self, n: int) -> int:
        return self.offset + 1 + n % self.n_jobs

    def sweep(self, n: int) -> None:
        self.world.sweep()

    def pass_little_time(self, n: int) -> None:
        self.pass_time(LITTLE_S)

    def pass_lease(self, n: int) -> None:
        self.pass_time(LEASE_S)

    def pass_resend(self, n: int) -> None:
        self.pass_time(156.0)

    def pass_much_time(self, n: int) -> None:
        self.pass_time(MUCH_S)

    def pass_window(self, n: int) -> None:
        self.pass_time(WINDOW_S)

    def pass_time(self, seconds: float) -> None:
        with self.world.begin() as connection:
            run(
                connection,
                "UPDATE engine_state SET value = (value::timestamptz + %(by)s::interval)::text WHERE key = 'test.now'",
                {"by": f"{seconds} seconds"},
            )

    def rows(self) -> dict[str, Any]:
        """What stands in the tables, in the model's terms."""
        ask, by = self.world.query, self.offset
        return {
            "jobs": {
                r.panda_id - by: (r.status, r.attempt_nr, r.max_attempts, r.is_unwanted, r.is_archived)
                for r in ask(JOBS)
            },
            "due": {r.panda_id - by: (r.stage, r.waits_for, r.deliveries, r.is_out, round(r.in_s)) for r in ask(DUE)},
            "moves": {r.panda_id - by: r.moves for r in ask(MOVES)},
            "attempts": {r.panda_id - by: r.outcomes for r in ask(ATTEMPTS)},
            "leases": {r.panda_id - by: (r.attempt_nr, round(r.in_s)) for r in ask(LEASES)},
            "ready": {r.panda_id - by for r in ask(READY)},
            "bag": [(message.stage, tuple(i - by for i in message.panda_ids)) for message in self.bag],
        }


def rows_of(player: Player) -> dict[str, Any]:
    """What the model holds, in the same terms."""
    model = player.model
    return {
        "jobs": {
            i: (j.status, j.attempt_nr, j.max_attempts, j.is_unwanted, j.is_archived) for i, j in model.jobs.items()
        },
        "due": {
            i: (
                d.stage, d.waits_for, d.deliveries, d.sent and d.waits_for is None and d.deliveries > 0,
                round(d.due_at - model.now),
            )
            for i, d in model.due.items()
        },
        "moves": {i: j.moves for i, j in model.jobs.items()},
        "attempts": {i: [outcome for outcome, _ in j.attempts] for i, j in model.jobs.items() if j.attempts},
        "leases": {i: (lease.attempt_nr, round(lease.until - model.now)) for i, lease in model.leases.items()},
        "ready": set(model.ready),
        "bag": [(message.stage, message.panda_ids) for message in player.bag],
    }  # fmt: skip


@pytest.fixture
def quick_world(world, monkeypatch):
    """The real engine with the model's settings, and a clock that moves only when it is told to."""
    monkeypatch.setenv("PANDA_ENGINE_MAX_DELIVERIES", str(QUICK.max_deliveries))
    monkeypatch.setenv("PANDA_ENGINE_GROUP_JOBS", str(QUICK.group_jobs))
    settings_module.current.cache_clear()
    world.settings = replace(world.settings, engine=QUICK)
    world.engine = QUICK
    with world.begin() as connection:
        run(connection, "INSERT INTO engine_state (key, value) VALUES ('test.now', '2030-01-01 00:00:00+00')")
        run(
            connection,
            "CREATE OR REPLACE FUNCTION panda_now() RETURNS timestamptz LANGUAGE sql VOLATILE PARALLEL SAFE AS"
            " 'SELECT value::timestamptz FROM engine_state WHERE key = ''test.now'''",
        )
    yield world
    with world.begin() as connection:  # the last history may have stopped anywhere; its ledger was not kept
        run(connection, EMPTY)
        run(connection, "DELETE FROM jobset_parents; DELETE FROM jobsets")


def agree(world: Any, history: list[tuple[str, int]]) -> None:
    """Play a history to both, and compare answers and rows after each step."""
    real, player = RealPlayer(world), Player(EngineModel(QUICK, world.settings.dispatcher))
    for nr, (name, n) in enumerate(history):
        said, expected = real.play(name, n), player.play(name, n)
        at = f"after step {nr}, {name} {n}, of {history}"
        if isinstance(expected, str):
            assert said == expected, at
        assert real.rows() == rows_of(player), at


@pytest.mark.parametrize("name", HISTORIES)
def test_the_engine_does_what_the_model_does_in_histories_that_are_kept(quick_world, name):
    agree(quick_world, HISTORIES[name])


@given(
    st.lists(
        st.tuples(
            # a whole road now and then, or hardly any job would come as far as a pilot
            st.sampled_from(sorted(STEPS) + ["deliver"] * 12 + ["relay", "relay_final", "acquire", "finish"] * 2),
            st.integers(0, 7),
        ),
        min_size=10, max_size=60,
    )
)  # fmt: skip
@settings(max_examples=12, deadline=None, print_blob=True, suppress_health_check=list(HealthCheck))
def test_the_engine_does_what_the_model_does(quick_world, history):
    agree(quick_world, [("submit", 1), ("submit", 2), ("relay", 0), *history])
