"""A queue where jobs wait for pilots in vain is noticed: it weighs less, and its jobs go where pilots come."""

import dataclasses
from collections import Counter

import pytest

from panda.brokerage import snapshot, stalled
from workflows import beat


def queues_of(world, panda_ids):
    sql = "SELECT computing_site AS queue FROM jobs WHERE panda_id = ANY(%(ids)s) AND status = 'activated'"
    return Counter(row.queue for row in world.query(sql, ids=panda_ids))


def seen(world, name):
    with world.begin() as connection:
        return next(queue for queue in snapshot.queues_seen(connection) if queue.name == name)


def pass_minutes(world, minutes, pilots_at=()):
    """Time goes by, and the clock keeps its points; pilots that find nothing to their taste come to some queues."""
    for _ in range(0, minutes, 5):
        world.pass_time(300)
        beat.fold()
        beat.history()
        for queue in pilots_at:
            world.acquire(queue=queue, pilot_id=f"at-{queue}", memory_mb=1)


def leave(world, **settings):
    known = dataclasses.replace(world.settings.brokerage, **settings)
    n = stalled.leave_stalled(world.begin, dataclasses.replace(world.settings, brokerage=known))
    world.settle()
    return n


@pytest.fixture
def placed(world):
    """Eight jobs, four ready at each queue."""
    jobs = world.jobs(8)
    world.settle()
    assert queues_of(world, jobs) == {"NORTH-Q": 4, "SOUTH-Q": 4}
    beat.history()
    return jobs


def test_a_queue_where_jobs_wait_in_vain_weighs_less(world, placed):
    pass_minutes(world, 20, pilots_at=["SOUTH-Q"])
    world.jobs(1)
    world.settle()

    assert (seen(world, "NORTH-Q").is_stalled, seen(world, "SOUTH-Q").is_stalled) == (True, False)
    [decision] = world.query("SELECT weights, terms FROM brokerage_decisions ORDER BY decision_id DESC LIMIT 1")
    assert decision.terms["NORTH-Q"]["stalled"] == 0.1
    assert "stalled" not in decision.terms["SOUTH-Q"]
    assert decision.weights["SOUTH-Q"] > 9 * decision.weights["NORTH-Q"]


def test_its_jobs_go_where_pilots_come(world, placed):
    pass_minutes(world, 20, pilots_at=["SOUTH-Q"])
    assert leave(world) == 0

    pass_minutes(world, 15, pilots_at=["SOUTH-Q"])
    assert leave(world) == 4
    assert queues_of(world, placed) == {"SOUTH-Q": 8}
    said = {row.reason for row in world.query("SELECT reason FROM job_events WHERE by = 'brokerage'")}
    assert all(each.startswith("no pilot came to NORTH-Q for ") for each in said)
    assert leave(world) == 0


def test_jobs_that_nobody_else_would_take_stay(world):
    jobs = world.jobs(3, brokerage={"sites": ["NORTH-Q"]})
    world.settle()
    pass_minutes(world, 45, pilots_at=["SOUTH-Q"])

    assert leave(world) == 0
    assert queues_of(world, jobs) == {"NORTH-Q": 3}


def test_no_more_leave_than_others_have_room_for(world, placed):
    world.query("UPDATE queues SET max_ready = 6 WHERE name = 'SOUTH-Q' RETURNING name")
    pass_minutes(world, 45, pilots_at=["SOUTH-Q"])

    assert leave(world) == 2


def test_where_all_queues_are_stalled_jobs_stay_where_they_are(world, placed):
    pass_minutes(world, 45)

    assert leave(world) == 0


@pytest.mark.parametrize("setting", [{"leave_stalled_s": 0}, {"leave_stalled_s": 7000}])
def test_a_setting_says_when(world, placed, setting):
    pass_minutes(world, 45, pilots_at=["SOUTH-Q"])

    assert leave(world, **setting) == 0


def test_a_queue_that_starts_its_jobs_is_not_stalled_when_it_is_idle(world, placed):
    for job in world.acquire(4, queue="NORTH-Q"):
        world.report(job, "running")
        world.report(job, "finished")
    world.settle()
    pass_minutes(world, 60)

    assert not seen(world, "NORTH-Q").is_stalled
    assert seen(world, "SOUTH-Q").is_stalled


def test_jobs_stay_at_a_queue_that_somebody_paused(world, placed):
    world.query(
        "INSERT INTO downtimes (name, kind, target, starts_at, ends_at, reason, made_by, made_at) VALUES"
        " ('d', 'queue', 'NORTH-Q', panda_now(), panda_now() + interval '3 hours', '', 'anna', panda_now()) RETURNING target"
    )
    pass_minutes(world, 45, pilots_at=["SOUTH-Q"])

    assert leave(world) == 0


def test_a_look_goes_on_where_the_last_one_ended(world, monkeypatch):
    monkeypatch.setattr(stalled, "NEXT", stalled.NEXT.replace("LIMIT 200", "LIMIT 1"))
    monkeypatch.setattr(stalled, "CHUNK", 1)
    world.jobs(1, brokerage={"sites": ["NORTH-Q"]})
    world.settle()
    world.query("UPDATE queues SET max_ready = 1 WHERE name = 'SOUTH-Q' RETURNING name")
    world.jobs(2)
    world.settle()
    world.query("UPDATE queues SET max_ready = 0 WHERE name = 'SOUTH-Q' RETURNING name")
    beat.history()
    pass_minutes(world, 45, pilots_at=["SOUTH-Q"])

    assert [leave(world), leave(world)] == [0, 1]
