"""The engine's rules under a broker that may do anything, with a crash possible between any two commits.

100,000 steps a minute and more; the seed is printed by pytest (`--hypothesis-seed=N` plays it again). A history
that fails goes to `histories.py`, where it is played for ever, to the model and to the real statements.
"""

import os
import time

import pytest
from engine_model import EngineModel
from histories import HISTORIES, STEPS, Player
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from panda.settings import Dispatcher, Engine
from panda.states import FINAL

#: `MODEL_EXAMPLES=5000` looks longer.
N_EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "60"))
QUICK = Engine(max_deliveries=4, group_jobs=2)
_counted = {"steps": 0}


class Machine(RuleBasedStateMachine):
    """Any steps in any order; then the faults end, and every job must come to its end."""

    @initialize()
    def begin(self) -> None:
        self.player = Player(EngineModel(QUICK, Dispatcher()))

    @rule(steps=st.lists(st.tuples(st.sampled_from(sorted(STEPS)), st.integers(0, 7)), min_size=1, max_size=25))
    def play(self, steps: list[tuple[str, int]]) -> None:
        for name, n in steps:
            _counted["steps"] += 1
            self.player.play(name, n)
            self.player.model.check()

    @invariant()
    def nothing_is_lost(self) -> None:
        if hasattr(self, "player"):
            self.player.model.check()

    def teardown(self) -> None:
        if hasattr(self, "player"):
            come_to_rest(self.player)


def come_to_rest(player: Player) -> None:
    """No faults any more, and pilots that do their work: whatever was accepted ends."""
    model = player.model
    for _ in range(400):
        if all(job.is_archived for job in model.jobs.values()):
            break
        for name in ("restart_worker", "relay", "relay_final"):
            player.play(name, 0)
        while player.bag:
            player.play("deliver", 0)
            model.check()
        while player.play("acquire", 0):
            player.play("finish", len(player.held) - 1)
        player.play("pass_much_time", 0)
        player.play("sweep", 0)
        model.check()
    assert {job.status for job in model.jobs.values()} <= FINAL
    assert all(job.is_archived for job in model.jobs.values()), player.told()


Machine.TestCase.settings = settings(
    max_examples=N_EXAMPLES, stateful_step_count=30, deadline=None, print_blob=True,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip


class TestEngineModel(Machine.TestCase):  # type: ignore[misc]
    """Hypothesis' own test case; pytest calls its `runTest`."""


@pytest.mark.parametrize("name", HISTORIES)
def test_a_history_that_failed_once_holds(name):
    player = Player(EngineModel(QUICK, Dispatcher()))

    for step, n in HISTORIES[name]:
        player.play(step, n)
        player.model.check()

    come_to_rest(player)


def test_a_minute_is_enough_for_a_hundred_thousand_steps():
    """Not a time that could fail on a busy machine: processor time of this process alone."""
    player, began = Player(EngineModel(QUICK, Dispatcher())), time.process_time()
    names = sorted(STEPS)
    for nr in range(4000):
        player.play(names[(nr * 7919 + nr // 13) % len(names)], nr % 8)
        player.model.check()
        if len(player.model.jobs) > 8:
            come_to_rest(player)
            player = Player(EngineModel(QUICK, Dispatcher()))
    assert 4000 / (time.process_time() - began) * 60 > 100_000
