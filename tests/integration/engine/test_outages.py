"""Silence during an outage says nothing about pilots: their leases get one more period from the comeback."""

import pytest

from panda.jobs import outages


@pytest.fixture
def marks(world):
    """Time passes while an API process leaves its marks."""

    def mark():
        with world.begin() as connection:
            outages.mark(connection)

    def pass_time(seconds):
        for _ in range(int(seconds // 10)):
            world.pass_time(10)
            mark()

    mark.pass_time = pass_time
    mark()
    return mark


def _running(world):
    world.jobs(1)
    world.settle()
    [job] = world.acquire()
    world.report(job, "running")
    return job


def test_nobody_is_lost_while_the_api_or_the_database_is_away(world, marks):
    job = _running(world)

    world.pass_time(3600)
    world.sweep()

    assert world.status(job.panda_id) == "running"
    assert world.due(job.panda_id).waits_for == "lease"


def test_after_the_comeback_a_result_is_taken(world, marks):
    job = _running(world)
    world.pass_time(3600)
    world.sweep()
    marks()

    marks.pass_time(world.settings.dispatcher.lease_s - 30)
    world.sweep()
    outcome = world.report(job, "finished").outcome
    world.settle()

    assert (outcome, world.status(job.panda_id)) == ("ok", "finished")


def test_a_pilot_that_stays_silent_after_the_comeback_is_lost(world, marks):
    job = _running(world)
    world.pass_time(3600)
    marks()

    marks.pass_time(world.settings.dispatcher.lease_s + 20)
    world.sweep()

    assert world.due(job.panda_id).waits_for is None
    assert world.job(job.panda_id)["attempt_nr"] == 2


def test_without_an_outage_a_silent_pilot_is_lost_after_its_lease(world, marks):
    job = _running(world)

    marks.pass_time(world.settings.dispatcher.lease_s + 20)
    world.sweep()

    assert world.job(job.panda_id)["attempt_nr"] == 2
