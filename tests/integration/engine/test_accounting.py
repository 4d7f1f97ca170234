"""What was used is accounted when it was used: an attempt that failed counts at once, and once."""

import zlib
from pathlib import Path

import pytest

from panda.dispatcher.words import OutputReport
from panda.jobs import kill
from panda.jobs.counters import MOST_BYTES
from panda.jobs.used import sums
from panda.states import JobStatus
from workflows import beat

USED = """
SELECT sum(n_finished)::int AS n_finished, sum(n_failed)::int AS n_failed, sum(n_cancelled)::int AS n_cancelled,
    sum(wall_s)::float8 AS wall_s, sum(cpu_s)::float8 AS cpu_s, sum(core_s)::float8 AS core_s
FROM (SELECT n_finished, n_failed, n_cancelled, wall_s, cpu_s, core_s FROM usage_all
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


def test_use_is_told_by_what_the_job_set_is_of(world, running):
    for document in ({"kind": "production", "working_group": "higgs"}, {}):
        world.report(running(**document), "failed", error_code=1305, exit_code=3, wall_s=10.0, cpu_s=1.0)
    beat.fold()

    told = "SELECT kind, working_group, n_failed, core_s FROM usage_all ORDER BY kind DESC"
    assert [row[:] for row in world.query(told)] == [("production", "higgs", 1, 20.0), ("analysis", "", 1, 20.0)]


def test_of_sets_that_an_earlier_release_accepted_their_document_says_what_they_are_of(world, running):
    for document in ({"kind": "production", "working_group": "higgs"}, {}):
        world.report(running(**document), "failed", error_code=1305, exit_code=3, wall_s=10.0, cpu_s=1.0)
    with world.begin() as connection:
        connection.exec_driver_sql("UPDATE jobsets SET kind = NULL, working_group = NULL")
    beat.fold()

    found = {row[:] for row in world.query("SELECT kind, working_group FROM usage_days")}
    assert found == {("production", "higgs"), ("analysis", "")}


def test_what_an_earlier_release_appends_and_folds_counts_as_well(world):
    with world.begin() as connection:
        for table in ("usage_deltas", "usage"):
            connection.exec_driver_sql(
                f"INSERT INTO {table} (day, owner, share, queue, n_finished, n_failed, n_cancelled, wall_s, cpu_s, core_s)"
                " VALUES ('2026-01-01', 'anna', 'default', 'NORTH-Q', 1, 0, 0, 10, 5, 20)"
            )
    beat.fold()

    found = world.query("SELECT owner, kind, working_group, n_finished, core_s FROM usage_all")
    assert [row[:] for row in found] == [("anna", "", "", 1, 20.0)] * 2
    with world.begin() as connection:  # no job was there
        connection.exec_driver_sql("TRUNCATE usage, usage_days")


def test_the_bytes_of_inputs_and_registered_outputs_count_when_a_job_finished(world):
    accepted = world.submit(jobs=[{"command": ["true"], "outputs": ["out.txt"]}], brokerage={"sites": ["NORTH"]})
    world.settle()
    [job] = world.acquire(queue="NORTH-Q")
    place = Path(job.outputs[0].url.removeprefix("file://"))
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(b"words")
    with world.begin() as connection:  # what it read lies in a catalogue that is of no matter here
        connection.exec_driver_sql(
            "INSERT INTO job_files (panda_id, kind, lfn, did, status, size_bytes)"
            " SELECT panda_id, kind, 'f' || nr, 'a:b', 'ready', 1000"
            " FROM jobs, unnest(ARRAY['input', 'input', 'dataset']) WITH ORDINALITY AS t(kind, nr)"
        )
    world.report(job, "running")
    output = OutputReport(lfn="out.txt", size_bytes=5, adler32=f"{zlib.adler32(b'words'):08x}")
    world.report(job, "finished", outputs=[output])
    world.settle()
    beat.fold()

    assert world.status(accepted.first_panda_id) == JobStatus.FINISHED
    [row] = world.query("SELECT n_finished, in_bytes, out_bytes FROM usage_days")
    assert row[:] == (1, 2000, 5)


def test_sizes_beyond_all_measure_do_not_stop_the_fold(world):
    world.submit(jobs=[{"command": ["true"]}] * 2, brokerage={"sites": ["NORTH"]})
    world.settle()
    jobs = [world.acquire(queue="NORTH-Q")[0] for _ in range(2)]
    with world.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO job_files (panda_id, kind, lfn, did, status, size_bytes)"
            f" SELECT panda_id, 'input', 'f' || nr, 'a:b', 'ready', {2**60} FROM jobs, generate_series(1, 9) AS nr"
        )
        connection.exec_driver_sql("UPDATE jobs SET n_inputs = 9")
    for job in jobs:
        world.report(job, "running")
        world.report(job, "finished")
    world.settle()
    beat.fold()
    with world.begin() as connection:  # the same day once more
        connection.exec_driver_sql(
            "INSERT INTO usage_deltas SELECT day, owner, share, queue, 0, 0, 0, 0, 0, 0, jobset_id, in_bytes, 0 FROM ("
            "SELECT day, owner, share, queue, in_bytes, (SELECT max(jobset_id) FROM jobsets) AS jobset_id"
            " FROM usage_days) d"
        )
    beat.fold()

    [row] = world.query("SELECT n_finished, in_bytes FROM usage_days")
    assert row[:] == (2, MOST_BYTES)
    with world.begin() as connection:
        connection.exec_driver_sql("INSERT INTO usage_days SELECT 'today', 'bob', share, queue, working_group, kind,"
                                   " 0, 0, 0, 0, 0, 0, in_bytes, 0 FROM usage_days")  # fmt: skip
        assert sums(connection, "queue", 7)[0].in_bytes == 2 * MOST_BYTES - 1
        connection.exec_driver_sql("DELETE FROM usage_days WHERE owner = 'bob'")
