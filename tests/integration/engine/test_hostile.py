"""Moments that nobody would try on purpose: each of these lost time, an attempt or a proof once."""

import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from panda.dataservice import outputs
from panda.db.session import run
from panda.dispatcher import dispatch, matching, reports
from panda.dispatcher.words import AcquireRequest, Beat, HeartbeatRequest, OutputReport
from panda.jobs import ending, kill, retry
from panda.jobs.ending import Failure
from panda.states import Stage
from workflows import beat


def test_a_submission_that_is_cut_off_between_two_steps_blocks_no_other(world, database_url):
    """The lock around the numbers is the session's own: it outlives a rollback, and a pool keeps its sessions."""
    with psycopg.connect(database_url) as slow, psycopg.connect(database_url) as pooled:
        slow.execute("ALTER SEQUENCE panda_id_seq INCREMENT BY 1")  # whoever wants a number waits
        pooled.execute("SET statement_timeout = 300")
        with pytest.raises(psycopg.errors.QueryCanceled):
            pooled.execute("SELECT panda_take_ids(3)")
        slow.rollback()
        pooled.rollback()  # as a pool does before it gives the connection to somebody else

        accepted = world.submit(jobs=[{"command": ["true"]}])

    assert accepted.n_jobs == 1
    world.settle()


def test_a_cancelled_set_does_not_wait_for_twenty_whose_pilots_are_slow(world):
    slow = [world.submit(jobs=[{"command": ["true"]}]) for _ in range(20)]
    world.settle()
    held = [job for nr in range(20) for job in world.acquire(1, pilot_id=f"p{nr}")]
    late = world.jobs(2)
    world.settle()
    with world.begin() as connection:
        for jobset_id in [*(each.jobset_id for each in slow), world.job(late[0])["jobset_id"]]:
            kill.request_jobset(connection, jobset_id, by="alice", reason="enough")

    world.settle()

    assert [world.status(panda_id) for panda_id in late] == ["cancelled", "cancelled"]
    assert len(held) == 20
    for job in held:
        world.report(job, "cancelled")
    world.settle()


def test_a_pilot_that_asks_twice_at_once_when_it_is_new_gets_one_answer(world):
    """Its first request is on its way when it loses patience and asks again, by the same request id."""
    ids = world.jobs(2, brokerage={"sites": ["NORTH"]})
    world.settle()
    matching.forget()
    request = AcquireRequest(
        pilot_id="new", queue="NORTH-Q", request_id="the-same", n=1, cores=4, memory_mb=8000, disk_mb=20_000,
        walltime_s=86_400,
    )  # fmt: skip
    barrier = threading.Barrier(4)

    def asked():
        barrier.wait()
        return dispatch.acquire(world.begin, request, world.settings).jobs

    with ThreadPoolExecutor(4) as pool:
        answers = [future.result() for future in [pool.submit(asked) for _ in range(4)]]

    assert {job.panda_id for jobs in answers for job in jobs} == {ids[0]}
    assert world.status(ids[1]) == "activated"


def test_a_heartbeat_of_one_attempt_does_not_prove_that_the_next_one_was_told(world, monkeypatch):
    [panda_id] = world.jobs(defaults={"max_attempts": 1})
    world.settle()
    [first] = world.acquire()
    with world.begin() as connection:
        kill.request(connection, [panda_id], by="alice", reason="first")
    second = []
    write_down = reports.run

    def slowly(connection, sql, values=None):  # between the look and the note, attempt 2 begins and is killed too
        if sql == reports.TOLD and not second:
            second.append(None)
            world.report(first, "failed", error_code=1344)
            with world.begin() as other:
                retry.retry(other, [panda_id], stage=None, by="alice", reason="")
            world.settle()
            second.extend(world.acquire(pilot_id="pilot-2"))
            with world.begin() as other:
                kill.request(other, [panda_id], by="alice", reason="second")
        return write_down(connection, sql, values)

    monkeypatch.setattr(reports, "run", slowly)
    said = Beat(panda_id=first.panda_id, attempt_nr=first.attempt_nr, token=first.token)
    reports.heartbeat(world.begin, HeartbeatRequest(pilot_id="pilot-1", beats=[said]), world.settings)

    job = world.job(panda_id)
    assert (job["attempt_nr"], job["kill_delivered_at"]) == (2, None)
    assert world.report(second[1], "running").command == "kill"
    assert world.job(panda_id)["kill_delivered_at"] is not None
    world.report(second[1], "cancelled")
    world.settle()


def test_what_a_worker_found_out_about_one_attempt_says_nothing_about_the_next(world, monkeypatch):
    """A worker looks at the outputs of attempt 1, and stands still; attempt 2 comes to its end meanwhile."""
    document = {"jobs": [{"command": ["true"], "outputs": ["out.txt"]}], "brokerage": {"sites": ["NORTH"]}}
    [panda_id] = [world.submit(**document).first_panda_id]
    world.settle()
    [first] = world.acquire(queue="NORTH-Q")
    write(first, b"one")
    world.report(first, "finished", outputs=[told(b"one")])
    verify, second = outputs.verify, []

    def and_stands_still(begin, panda_ids):
        found = verify(begin, panda_ids)
        if not second:
            with world.begin() as connection:
                failure = Failure(panda_id, Stage.STAGE_OUT, "stage_out:test", "it is said to have failed")
                ending.fail_many(connection, [failure], by="test", engine=world.engine)
                retry.retry(connection, [panda_id], stage=Stage.BROKER, by="alice", reason="")
            second.append(None)
            world.settle()
            second.extend(world.acquire(queue="NORTH-Q", pilot_id="pilot-2"))
            world.report(second[1], "finished", outputs=[told(b"two")])  # and it never wrote it
        return found

    monkeypatch.setattr(world.task(Stage.STAGE_OUT), "before", and_stands_still)
    survivors = world.run_stage(Stage.STAGE_OUT, [panda_id])

    assert survivors == []
    monkeypatch.undo()
    world.settle()
    assert world.job(panda_id)["error_code"] == "stage_out:bad_output"
    assert world.query("SELECT 1 FROM files") == []


def test_a_clock_that_leaps_back_does_not_stop_the_ticks(world):
    world.pass_time(3600)
    with world.begin() as connection:  # one has just begun when the clock is set right, and its worker dies
        run(connection, beat.TAKE, {"name": "fold", "holder": "node"})
    beat.fold()
    held = world.query("SELECT last_run_at FROM tick_leases WHERE name = 'fold'")
    world.pass_time(-3600)

    beat.fold()

    done = world.query("SELECT last_run_at FROM tick_leases WHERE name = 'fold'")
    assert (held[0].last_run_at, done[0].last_run_at is not None) == (None, True)


def told(words):
    return OutputReport(lfn="out.txt", size_bytes=len(words), adler32=f"{zlib.adler32(words):08x}")


def write(job, words):
    place = Path(job.outputs[0].url.removeprefix("file://"))
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(words)
