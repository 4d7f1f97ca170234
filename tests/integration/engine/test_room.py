"""Jobs that wait for room at a full queue are looked at again as soon as there is some, and no more than that."""

from pathlib import Path

import pytest

from panda.brokerage import waking
from workflows import beat


def limit(world, queue, **limits):
    for name, value in limits.items():
        sql = f"UPDATE queues SET {name} = %(value)s WHERE name = %(queue)s RETURNING name"
        world.query(sql, value=value, queue=queue)


def wake(world):
    with world.begin() as connection:
        return waking.wake(connection, world.settings)


def waiting(world):
    return [row.panda_id for row in world.query("SELECT panda_id FROM job_due WHERE waits_for = 'queue' ORDER BY 1")]


def run_one_round(world, queue):
    """Pilots take what is ready and run it to its end."""
    jobs = world.acquire(100, queue=queue)
    for job in jobs:
        world.report(job, "running")
        world.report(job, "finished")
    world.settle()
    return len(jobs)


def test_a_set_drains_through_a_limited_site(world):
    world.query("UPDATE sites SET max_running = 4 WHERE name = 'NORTH' RETURNING name")
    jobs = world.jobs(20, brokerage={"sites": ["NORTH"]})
    world.settle()
    assert len(waiting(world)) == 16

    while run_one_round(world, "NORTH-Q"):
        beat.wake_for_queues()
        world.settle()

    assert {world.status(i) for i in jobs} == {"finished"}


@pytest.mark.parametrize("limits", [{"max_ready": 4}, {"max_running": 4}])
def test_a_set_drains_through_a_limited_queue_without_waiting_for_the_next_look(world, limits):
    limit(world, "NORTH-Q", **limits)
    jobs = world.jobs(60, brokerage={"sites": ["NORTH-Q"]})
    world.settle()
    assert len(waiting(world)) == 56

    rounds = 0
    while run_one_round(world, "NORTH-Q"):
        rounds += 1
        beat.wake_for_queues()
        world.settle()

    assert rounds == 15  # four at a time, and the clock never moved
    assert {world.status(i) for i in jobs} == {"finished"}


def test_a_set_drains_through_a_policy_that_wants_few_to_wait(world):
    file = Path(world.settings.data_dir) / "brokerage.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("[policies.all]\n[policies.all.occupancy]\nper_running = 1\nat_least = 5\n", encoding="utf-8")
    jobs = world.jobs(20, brokerage={"sites": ["NORTH-Q"]})
    world.settle()
    assert len(waiting(world)) == 15

    while run_one_round(world, "NORTH-Q"):
        beat.wake_for_queues()
        world.settle()

    assert {world.status(i) for i in jobs} == {"finished"}


def test_nothing_is_woken_for_a_queue_without_room_or_one_that_is_closed(world):
    limit(world, "NORTH-Q", max_ready=4)
    world.jobs(10, brokerage={"sites": ["NORTH-Q"]})
    world.settle()

    assert wake(world) == 0

    world.acquire(4, queue="NORTH-Q")
    world.query("UPDATE queues SET status = 'offline' WHERE name = 'NORTH-Q' RETURNING name")
    assert wake(world) == 0
    world.query("UPDATE queues SET status = 'online' WHERE name = 'NORTH-Q' RETURNING name")
    assert wake(world) == 4


def test_jobs_that_no_room_would_help_are_left_alone(world):
    limit(world, "NORTH-Q", max_ready=4)
    impossible = world.jobs(5, brokerage={"sites": ["NOWHERE*"]})
    world.jobs(6, brokerage={"sites": ["NORTH-Q"]})
    world.settle()
    world.acquire(4, queue="NORTH-Q")

    assert wake(world) == 2
    assert waiting(world) == impossible


def test_who_was_woken_holds_the_room_until_brokerage_has_looked(world):
    limit(world, "NORTH-Q", max_ready=4)
    world.jobs(20, brokerage={"sites": ["NORTH-Q"]})
    world.settle()
    world.acquire(4, queue="NORTH-Q")

    assert [wake(world), wake(world)] == [4, 0]
    world.settle()
    assert len(waiting(world)) == 12
    assert wake(world) == 0


def test_the_first_by_rank_are_woken_first(world):
    limit(world, "NORTH-Q", max_ready=2)
    early = world.jobs(4, brokerage={"sites": ["NORTH-Q"]})
    urgent = world.jobs(3, brokerage={"sites": ["NORTH-Q"]}, defaults={"priority": 100})
    world.settle()
    world.acquire(2, queue="NORTH-Q")

    assert wake(world) == 2
    assert waiting(world) == [*early[2:], urgent[2]]


def test_a_job_that_waits_for_something_else_by_now_is_filed_under_no_queue(world):
    limit(world, "NORTH-Q", max_ready=4)
    jobs = world.jobs(6, brokerage={"sites": ["NORTH-Q"]})
    world.settle()
    world.query("UPDATE queues SET status = 'offline' WHERE name = 'NORTH-Q' RETURNING name")
    world.pass_time(31)
    world.sweep()
    world.settle()

    assert {world.due(i).room_group for i in jobs[4:]} == {None}
