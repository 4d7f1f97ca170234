"""The curves of running jobs: a point per heartbeat, never more than 200."""

import pytest

from panda.dispatcher import reports
from panda.dispatcher.words import Beat, HeartbeatRequest
from panda.errors import NotFound
from panda.jobs import usage


@pytest.fixture
def job(world):
    world.jobs(1)
    world.settle()
    [job] = world.acquire()
    world.report(job, "running")
    return job


def _beat(world, job, nr, **more):
    beat = Beat(
        panda_id=job.panda_id, attempt_nr=job.attempt_nr, token=more.pop("token", job.token), wall_s=30.0 * nr,
        cpu_s=29.0 * nr, rss_mb=100 + nr, read_mb=nr, written_mb=2 * nr, disk_mb=7, n_processes=3,
    )  # fmt: skip
    return reports.heartbeat(world.begin, HeartbeatRequest(pilot_id="pilot-1", beats=[beat]), world.settings)


def _curve(world, panda_id, attempt_nr=None):
    with world.begin() as connection:
        return usage.curve(connection, panda_id, attempt_nr)


def test_each_heartbeat_is_a_point(world, job):
    for nr in (1, 2):
        _beat(world, job, nr)

    curve = _curve(world, job.panda_id)

    assert (curve.attempt_nr, curve.every) == (1, 1)
    assert [tuple(point[1:]) for point in curve.points] == [(30, 29, 101, 1, 2, 7, 3), (60, 58, 102, 2, 4, 7, 3)]
    assert curve.points[0].at <= curve.points[1].at


def test_a_long_curve_is_thinned_evenly(world, job):
    for nr in range(450):
        _beat(world, job, nr)

    curve = _curve(world, job.panda_id)

    assert curve.every == 4
    assert [point.wall_s for point in curve.points] == [30.0 * nr for nr in range(0, 450, 4)]


def test_a_beat_without_a_lease_leaves_no_point(world, job):
    _beat(world, job, 1, token="another")

    assert _curve(world, job.panda_id).points == []


def test_a_job_or_attempt_that_does_not_exist_has_no_curve(world, job):
    with pytest.raises(NotFound):
        _curve(world, 10**12)
    with pytest.raises(NotFound):
        _curve(world, job.panda_id, 2)
