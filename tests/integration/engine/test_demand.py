"""Pilots are started for jobs that they would get, and for no others."""

import pytest

from panda.harvester.demand import demands
from panda.jobs import switches
from panda.jobs.switches import Place


@pytest.fixture
def placed(world):
    """Twelve ready jobs at one queue, and pilots may be started there."""
    world.query("UPDATE queues SET submitter = 'local', max_pilots = 10 RETURNING name")
    jobs = world.jobs(12, brokerage={"sites": ["NORTH-Q"]})
    world.settle()
    return jobs


def wanted(world, queue="NORTH-Q", n_alive=0):
    switches.forget()
    with world.begin() as connection:
        return {each.queue: each for each in demands(connection)}[queue].more(n_alive)


def cap(world, table, name, n):
    sql = f"UPDATE {table} SET max_running = %(n)s WHERE name = %(name)s RETURNING name"
    world.query(sql, n=n, name=name)


def downtime(world, kind, target, starts_in_h):
    world.query(
        "INSERT INTO downtimes (name, kind, target, starts_at, ends_at, made_by) VALUES ('d', %(kind)s, %(target)s,"
        " panda_now() + make_interval(hours => %(h)s), panda_now() + make_interval(hours => %(h)s + 9), 'anna')"
        " RETURNING name",
        kind=kind, target=target, h=starts_in_h,
    )  # fmt: skip


def test_one_pilot_for_each_ready_job_up_to_the_limit_of_the_queue(world, placed):
    assert [wanted(world), wanted(world, n_alive=7), wanted(world, "SOUTH-Q")] == [10, 3, 0]


@pytest.mark.parametrize(
    ("kind", "target", "starts_in_h", "n"),
    [("queue", "NORTH-Q", -1, 0), ("site", "NORTH", -1, 0), ("queue", "SOUTH-Q", -1, 10), ("site", "NORTH", 3, 10),
     ("site", "NORTH", -10, 10)],
)  # fmt: skip
def test_none_is_started_while_a_downtime_lasts(world, placed, kind, target, starts_in_h, n):
    downtime(world, kind, target, starts_in_h)

    assert wanted(world) == n


@pytest.mark.parametrize(
    ("what", "place", "n"),
    [("dispatch", Place(queue="NORTH-Q"), 0), ("dispatch", Place(site="NORTH"), 0), ("dispatch", Place(), 0),
     ("dispatch", Place(site="SOUTH"), 10), ("brokerage", Place(), 10)],
)  # fmt: skip
def test_none_is_started_while_nothing_is_handed_out(world, placed, what, place, n):
    with world.begin() as connection:
        switches.pause(connection, what, place, by="anna", reason="test")

    assert wanted(world) == n


@pytest.mark.parametrize(("table", "name"), [("queues", "NORTH-Q"), ("sites", "NORTH")])
def test_no_more_than_may_run(world, placed, table, name):
    world.acquire(2, queue="NORTH-Q")
    cap(world, table, name, 5)

    assert [wanted(world), wanted(world, n_alive=4), wanted(world, n_alive=5)] == [3, 1, 0]
    world.acquire(3, queue="NORTH-Q", pilot_id="pilot-2")
    assert wanted(world) == 0


def test_the_queues_of_a_site_share_its_room(world, placed):
    world.query("UPDATE queues SET site = 'NORTH' WHERE name = 'SOUTH-Q' RETURNING name")
    world.jobs(4, brokerage={"sites": ["SOUTH-Q"]})
    world.settle()
    cap(world, "sites", "NORTH", 13)

    assert [wanted(world), wanted(world, "SOUTH-Q")] == [10, 1]
