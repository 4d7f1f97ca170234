"""What was used is accounted when it was used: an attempt that failed counts at once, and once."""

import pytest

from panda.jobs import kill
from panda.states import JobStatus
from workflows import beat

USED = """
SELECT sum(n_finished)::int AS n_finished, sum(n_failed)::int AS n_failed, sum(n_cancelled)::int AS n_cancelled,
    sum(wall_s)::float8 AS wall_s, sum(cpu_s)::float8 AS cpu_s, sum(core_s)::float8 AS core_s
FROM (SELECT n_finished, n_failed, n_cancelled, wall_s, cpu_s, core_s FROM usage
    UNION ALL SELECT n_finished, n_failed, n_cancelled, wall_s, cpu_s, core_s FROM usage_deltas) u
"""
TWO_CORES = {"defaults": {"cores": 2, "max_attempts": 1}}


@pytest.fixture
def running(world):
    """running(**document): a job of two cores that a pilot has begun."""

    def make(**document):
        world.jobs(1, **{**TWO_CORES, **document})
        world.settle()
        [job] = world.acquire()
        world.report(job, "running")
        return job

    return make


def used(world):
    [row] = world.query(USED)
    return row


def test_an_attempt_that_failed_is_used_up_at_once_and_is_not_counted_again_when_its_job_is_archived(world, running):
    job = running()
    world.report(job, "failed", error_code=1305, exit_code=3, wall_s=100.0, cpu_s=150.0)

    assert used(world)[:] == (0, 1, 0, 100, 150, 200)

    world.pass_time(73 * 3600)
    world.sweep()
    world.settle()

    assert world.job(job.panda_id)["archived"]
    assert used(world)[:] == (0, 1, 0, 100, 150, 200)


def test_what_was_tried_again_and_finished_counts_both_times(world, running):
    job = running(defaults={"cores": 2, "max_attempts": 2})
    world.report(job, "failed", error_code=1099, wall_s=10.0, cpu_s=1.0)  # the site's fault: tried again
    world.settle()
    [again] = world.acquire()
    world.report(again, "finished", wall_s=50.0, cpu_s=90.0)
    world.settle()

    assert world.status(job.panda_id) == JobStatus.FINISHED
    assert used(world)[:] == (1, 1, 0, 60, 91, 120)


@pytest.mark.parametrize("ends", ["lost", "killed"])
def test_an_attempt_that_never_told_what_it_used_held_its_cores_until_its_end(world, running, ends):
    job = running()
    world.pass_time(3600)
    if ends == "lost":
        world.sweep()
    else:
        with world.begin() as connection:
            kill.request(connection, [job.panda_id], by="anna", reason="not needed")
        world.report(job, "cancelled")
    world.settle()

    found = used(world)
    assert (found.n_failed, found.n_cancelled) == ((1, 0) if ends == "lost" else (0, 1))
    assert found.core_s == pytest.approx(7200, rel=0.01)


def test_the_clock_counts_running_cores_although_one_share_alone_is_served(world, running):
    running()
    with world.begin() as connection:
        connection.exec_driver_sql("UPDATE share_usage SET counted_at = 'epoch'")

    beat.fold()

    assert world.query("SELECT cores FROM share_usage")[0].cores == {"default": 2}
