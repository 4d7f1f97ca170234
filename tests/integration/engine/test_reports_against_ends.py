"""A pilot's report and the end of its attempt at the same moment: one of them sees the other, whole."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from panda.dispatcher import reports
from panda.dispatcher.words import Report, UpdateRequest
from panda.jobs import due, ending, sweeping
from panda.jobs.ending import Failure
from panda.states import Stage, Wait


def test_a_job_that_reports_while_the_sweeper_finds_it_late_lives_on(world):
    [panda_id] = world.jobs()
    world.settle()
    [job] = world.acquire()
    world.pass_time(world.settings.dispatcher.lease_s + 1)

    def sweep(connection):
        sweeping.HANDLERS[Wait.LEASE](connection, [panda_id], world.settings)

    outcome = while_it_reports(world, job, sweep)

    assert outcome == "ok"
    assert (world.status(panda_id), world.job(panda_id)["attempt_nr"]) == ("running", 1)
    assert world.findings() == []


def test_an_attempt_that_is_ended_while_it_reports_is_ended_whole(world):
    [panda_id] = world.jobs()
    world.settle()
    [job] = world.acquire()

    def fail(connection):
        due.lock(connection, [panda_id])
        failure = Failure(panda_id, Stage.DISPATCH, "dispatch:test", "it failed", again=True)
        ending.fail_many(connection, [failure], by="test", engine=world.engine)

    while_it_reports(world, job, fail)

    assert (world.status(panda_id), world.job(panda_id)["attempt_nr"]) == ("defined", 2)
    assert world.moves(panda_id)[-3:] == ["running", "failed", "defined"]
    assert world.findings() == []


def test_a_job_that_is_cancelled_while_it_reports_is_cancelled_whole(world):
    [panda_id] = world.jobs()
    world.settle()
    [job] = world.acquire()

    def cancel(connection):
        due.lock(connection, [panda_id])
        ending.cancel_many(connection, [panda_id], by="test", reason="enough")

    while_it_reports(world, job, cancel)

    assert world.status(panda_id) == "cancelled"
    assert world.findings() == []


def test_a_stage_waits_for_somebody_who_only_looks_at_its_job(world):
    [panda_id] = world.jobs()
    world.turn_expansion()

    with ThreadPoolExecutor(1) as pool:
        with world.begin() as connection:
            due.lock(connection, [panda_id])  # e.g. the late report of an attempt before
            running = pool.submit(world.run_stage, Stage.DEFINE, [panda_id])
            while not running.done() and not is_blocked(world):
                pass
        survivors = running.result(10)

    assert survivors == [panda_id]


def while_it_reports(world, job, end):
    """Run `end(connection)` while the report `running` is done and not committed. Returns the report's outcome."""
    reported, may_commit = threading.Event(), threading.Event()

    @contextmanager
    def slow():
        with world.begin() as connection:
            yield connection
            reported.set()
            may_commit.wait(10)

    def report():
        words = Report(panda_id=job.panda_id, attempt_nr=job.attempt_nr, token=job.token, status="running")
        return reports.update(slow, UpdateRequest(pilot_id="pilot-1", reports=[words]), world.settings).results[0]

    def ended():
        with world.begin() as connection:
            end(connection)

    with ThreadPoolExecutor(2) as pool:
        reporting = pool.submit(report)
        assert reported.wait(10)
        ending_ = pool.submit(ended)
        while not ending_.done() and not is_blocked(world):
            pass
        may_commit.set()
        ending_.result(10)
        return reporting.result(10).outcome


def is_blocked(world):
    """Somebody waits for a lock."""
    return world.query("SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
