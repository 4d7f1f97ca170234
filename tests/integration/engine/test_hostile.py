"""Moments that nobody would try on purpose: each of these lost time, an attempt or a proof once."""

import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.exc import OperationalError

from panda.dataservice import outputs
from panda.db.session import rows, run
from panda.dispatcher import dispatch, matching, reports
from panda.dispatcher.words import AcquireRequest, Beat, HeartbeatRequest, OutputReport
from panda.errors import Conflict
from panda.jobs import archive, bulk, ending, expansion, kill, retry
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


def test_one_key_sent_to_many_copies_of_the_api_at_once_is_one_set(world):
    def submit(nr):
        return world.submit(key="the-same", jobs=[{"command": ["true"]}] * 3)

    answers = at_once(*[lambda nr=nr: submit(nr) for nr in range(8)])

    assert len({(each.jobset_id, each.first_panda_id, each.last_panda_id) for each in answers}) == 1
    assert sorted(each.replayed for each in answers) == [False] + [True] * 7
    with pytest.raises(Conflict, match="another document"):
        world.submit(key="the-same", jobs=[{"command": ["false"]}])
    world.settle()


def test_a_job_that_is_retried_twice_at_once_gets_one_attempt_and_none_while_it_runs(world):
    [panda_id] = world.jobs(defaults={"max_attempts": 1})
    world.settle()
    [job] = world.acquire()

    def again():
        with world.begin() as connection:
            return retry.retry(connection, [panda_id], stage=None, by="alice", reason="")

    while_it_runs = again()
    world.fail(job)
    outcomes = at_once(*[again] * 4)

    assert while_it_runs.refused == {panda_id: "it is sent; only a failed job can be retried"}
    assert sorted(len(each.retried) for each in outcomes) == [0, 0, 0, 1]
    assert world.job(panda_id)["attempt_nr"] == 2
    world.settle()


def test_a_retry_a_kill_and_the_end_of_the_window_at_once_leave_one_of_them(world):
    ids = world.jobs(20, defaults={"max_attempts": 1})
    world.settle()
    for job in world.acquire(20):
        world.fail(job)
    world.pass_time(world.engine.retry_window_s + 1)

    def again():
        with world.begin() as connection:
            return retry.retry(connection, list(reversed(ids)), stage=None, by="alice", reason="").retried

    def end():
        with world.begin() as connection:
            return kill.request(connection, ids, by="alice", reason="").asked

    at_once(again, end, world.sweep, world.sweep, again)
    world.settle()

    statuses = {world.status(panda_id) for panda_id in ids}
    assert statuses <= {"activated", "cancelled", "failed"}
    assert world.findings() == []


def test_a_set_that_is_cancelled_while_it_is_expanded_ends_whole(world):
    world.engine = replace(world.engine, chunk_jobs=50)
    accepted = world.submit(template={"command": ["true", "${seq}"], "count": 200})
    world.turn_expansion()
    may_commit, has_made = threading.Event(), threading.Event()

    def expand_slowly():
        with world.begin() as connection:
            n = expansion.expand_chunk(connection, world.engine)
            has_made.set()
            may_commit.wait(10)
        return n

    def cancel():
        has_made.wait(10)
        with world.begin() as connection:
            n = kill.cancel_chunk(connection, limit=30)
        may_commit.set()
        return n

    with world.begin() as connection:
        kill.request_jobset(connection, accepted.jobset_id, by="alice", reason="")
    with ThreadPoolExecutor(2) as pool:
        expanding, cancelling = pool.submit(expand_slowly), pool.submit(cancel)
        while not cancelling.done() and not is_blocked(world):
            pass
        may_commit.set()
        assert (expanding.result(10), cancelling.result(10)) == (50, 30)
    world.settle()

    [ledger] = world.query("SELECT n_open, n_cancelled, ended_at IS NOT NULL AS ended FROM jobsets")
    assert (ledger.n_open, ledger.n_cancelled, ledger.ended) == (0, 200, True)


@pytest.mark.parametrize("policy", ["cancel", "run", "hold"])
def test_a_parent_that_is_retried_while_its_child_is_released_leaves_the_child_whole(world, policy):
    world.engine = replace(world.engine, chunk_jobs=10)
    [parent] = world.jobs(defaults={"max_attempts": 1})
    child = world.submit(
        jobs=[{"command": ["true"]}] * 40, depends_on=[world_set(world, parent)], on_parent_failure=policy
    )
    world.settle()
    [job] = world.acquire()
    world.fail(job)

    def again():
        with world.begin() as connection:
            return retry.retry(connection, [parent], stage=None, by="alice", reason="").retried

    def release():
        for _ in range(3):
            with world.begin() as connection:
                expansion.release_chunk(connection, world.engine)
            with world.begin() as connection:
                kill.cancel_chunk(connection, limit=10)

    at_once(again, release, release)
    world.settle()
    ids = range(child.first_panda_id, child.last_panda_id + 1)
    while jobs := world.acquire(60):
        for each in jobs:
            world.report(each, "finished")
        world.settle()

    expected = {"cancel": "cancelled", "run": "finished", "hold": "finished"}[policy]
    assert {world.status(panda_id) for panda_id in ids} == {expected}
    assert world.status(parent) == "finished"


def test_an_action_that_cancels_and_one_that_retries_the_same_jobs_never_lock_each_other_out(world):
    ids = world.jobs(120, defaults={"max_attempts": 1})
    world.settle()
    for job in world.acquire(60):
        world.fail(job)

    def action(verb):
        def act():
            with world.begin() as connection:
                bulk.begin_at_once(connection, verb, "name:set*", stage=None, by="alice", reason="", request_id=None)
            for _ in range(20):
                with world.begin() as connection:
                    if not bulk.advance(connection, 25):
                        return

        return act

    at_once(action("cancel"), action("retry"), action("cancel"), world.turn)
    world.settle()

    assert {world.status(panda_id) for panda_id in ids} <= {"cancelled", "failed", "activated"}
    assert {row.status for row in world.query("SELECT status FROM bulk_actions")} == {"done"}


def test_a_database_that_dies_between_the_archives_work_and_its_commit_leaves_the_job_where_it_was(world, database_url):
    """F36. The row leaves one table and enters the other in one statement; nothing stands in both, or in none."""
    [panda_id] = world.jobs()
    world.settle()
    [job] = world.acquire()
    world.report(job, "finished")
    for group in world.claim(final=True):
        world.run_stage(Stage.STAGE_OUT, group.panda_ids)

    def archived_and_cut_off():
        with world.begin() as connection:
            archive.archive_many(connection, [panda_id], by="archive")
            [row] = rows(connection, "SELECT pg_backend_pid() AS pid")
            with psycopg.connect(database_url, autocommit=True) as killer:
                killer.execute("SELECT pg_terminate_backend(%s)", [row.pid])

    with pytest.raises(OperationalError):
        archived_and_cut_off()
    between = world.job(panda_id)
    world.run_stage(Stage.ARCHIVE, [panda_id])

    assert (between["status"], between["archived"]) == ("holding", False)
    assert (world.status(panda_id), world.job(panda_id)["archived"]) == ("finished", True)


def world_set(world, panda_id):
    """The job set of a job, made or not."""
    sql = "SELECT jobset_id FROM jobsets WHERE %(id)s BETWEEN first_panda_id AND first_panda_id + n_jobs - 1"
    return world.query(sql, id=panda_id)[0].jobset_id


def at_once(*calls):
    """Run calls at the same moment; their results."""
    barrier = threading.Barrier(len(calls))

    def together(call):
        barrier.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result(60) for future in [pool.submit(together, call) for call in calls]]


def is_blocked(world):
    """Somebody waits for a lock."""
    return world.query("SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
