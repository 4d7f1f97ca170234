"""Clocks of machines are wrong, and are set right: none but the database's decides anything (law 16)."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery

from panda.local.redis import EmbeddedRedis
from workflows import pacing
from workflows.app import TICK_S, TICKS, app


@pytest.fixture
def paced(tmp_path: Path) -> Iterator[Celery]:
    """An app whose beat speaks to a Redis of its own."""
    redis = EmbeddedRedis(tmp_path / "redis").start()
    own = Celery("own", broker=redis.url, set_as_current=False)
    own.conf.update(beat_schedule=app.conf.beat_schedule, task_create_missing_queues=True)
    yield own
    own.pool.force_close_all()
    redis.stop()


def test_a_tick_tells_no_time_of_the_machine_that_sends_it():
    assert app.conf.beat_schedule.keys() == TICK_S.keys()
    for name, entry in app.conf.beat_schedule.items():
        assert entry["options"] == {"queue": TICKS}, name
        assert entry["schedule"].nowfun is pacing.steady_now, name


def test_beat_goes_by_what_passed_not_by_what_time_it_is(paced, monkeypatch):
    at = [1000.0]
    monkeypatch.setattr(pacing.time, "monotonic", lambda: at[0])
    scheduler = pacing.Pace(app=paced)
    sweep = scheduler.schedule["panda.tick.sweep"]

    before = sweep.is_due().is_due
    at[0] += TICK_S["panda.tick.sweep"]

    assert (before, sweep.is_due().is_due) == (False, True)


def test_ticks_do_not_pile_up_while_nobody_takes_them_but_the_rare_ones_are_kept(paced):
    scheduler = pacing.Pace(app=paced)
    often, seldom = (scheduler.schedule[f"panda.tick.{name}"] for name in ("sweep", "tidy"))

    sent = [scheduler.apply_async(often, advance=False) for _ in range(pacing.MOST_WAITING + 5)]
    kept = scheduler.apply_async(seldom, advance=False)

    assert [each is not None for each in sent] == [True] * pacing.MOST_WAITING + [False] * 5
    assert kept is not None


def test_a_beat_that_was_told_to_end_in_the_middle_of_a_tick_ends_with_the_next_one(paced):
    """SIGTERM closes the connection under the tick, and what that raises hides the end that was asked for."""
    scheduler = pacing.Pace(app=paced)
    scheduler.tick()

    scheduler.close()

    with pytest.raises(SystemExit):
        scheduler.tick()
