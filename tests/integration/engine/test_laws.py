"""The laws of the engine that neither the road nor the interleavings show. docs/reference/guards.md lists,
for each law, the change to the code that makes one of these tests fail."""

import io
from pathlib import Path

import psycopg
import pytest

from panda.dataservice import catalog
from panda.db.session import roll_back
from panda.dispatcher.words import OutputReport
from panda.jobs import counters, due, relaying, retry
from panda.jobs.submission import CHANNEL
from panda.jobs.transitions import move_many
from panda.states import JobStatus, Stage
from workflows.app import TICK_S, app


def test_a_late_dispatch_message_finds_nothing_once_the_pilot_has_reported(world):
    [panda_id] = world.jobs()
    world.settle()
    [job] = world.acquire()
    world.report(job, "finished")

    assert world.run_stage(Stage.DISPATCH, [panda_id]) == []
    world.settle()

    assert world.status(panda_id) == "finished"


def test_a_late_dispatch_message_does_not_park_a_job_that_runs(world):
    [panda_id] = world.jobs()
    world.settle()
    world.acquire()

    world.run_stage(Stage.DISPATCH, [panda_id])

    assert world.due(panda_id).waits_for == "lease"


def test_a_stage_on_the_fast_road_does_not_make_its_jobs_due_again(world):
    [panda_id] = world.jobs()
    world.turn_expansion()
    world.claim(final=False)

    world.run_stage(Stage.DEFINE, [panda_id])  # and the chain breaks here
    at_once = world.claim(final=False)
    world.pass_time(world.engine.resend_s + 1)
    later = world.claim(final=False)

    assert at_once == []
    assert [(group.stage, group.panda_ids) for group in later] == [(Stage.BROKER, [panda_id])]


def test_a_job_set_of_one_does_not_wait_for_a_burst_of_thousands(world):
    world.stop_the_clock()
    world.submit(owner="alice", template={"command": ["true"], "count": 5000})
    world.turn_expansion()
    small = world.submit(owner="bob", jobs=[{"command": ["true"]}])
    world.turn_expansion()

    with world.begin() as connection:
        [first] = relaying.claim_groups(connection, world.engine, final=False, n_groups=1)

    assert small.first_panda_id in first.panda_ids


def test_what_pilots_bring_back_goes_before_new_work(world):
    world.jobs(20)
    world.settle()
    for job in world.acquire(10):
        world.report(job, "finished")
    world.jobs(20)
    world.turn_expansion()

    assert {group.stage for group in world.claim(final=True)} == {Stage.STAGE_OUT}
    assert {group.stage for group in world.claim(final=False)} == {Stage.DEFINE}


def test_priority_goes_first_and_waiting_counts(world):
    old = world.submit(jobs=[{"command": ["true"]}], brokerage={"sites": ["NORTH"]})
    world.pass_time(600)
    urgent = world.submit(jobs=[{"command": ["true"], "priority": 1000}], brokerage={"sites": ["NORTH"]})
    young = world.submit(jobs=[{"command": ["true"], "priority": 5}], brokerage={"sites": ["NORTH"]})
    world.settle()

    order = [world.acquire(queue="NORTH-Q")[0].panda_id for _ in range(3)]

    # five points of priority are worth five minutes; the old job has waited ten
    assert order == [urgent.first_panda_id, old.first_panda_id, young.first_panda_id]


def test_a_pilot_gets_only_what_fits_it_and_hears_why_not(world):
    world.jobs(1, defaults={"cores": 4}, brokerage={"sites": ["NORTH"]})
    [small] = world.jobs(1, brokerage={"sites": ["NORTH"]})
    world.settle()

    got = world.acquire(5, queue="NORTH-Q", cores=1)
    world.acquire(5, queue="NORTH-Q", cores=1)

    assert [job.panda_id for job in got] == [small]
    [pilot] = world.query("SELECT nothing_because FROM pilots")
    assert "4 cores" in pilot.nothing_because


@pytest.mark.parametrize("wrong", ["token", "attempt"])
def test_a_report_that_does_not_hold_the_lease_changes_nothing(world, wrong):
    [panda_id] = world.jobs()
    world.settle()
    [job] = world.acquire()

    if wrong == "token":
        job.token = "guessed"
    else:
        job.attempt_nr = 7
    for status in ("running", "finished"):
        assert world.report(job, status).outcome != "ok"

    assert world.status(panda_id) == "sent"


def test_the_counters_are_the_truth_before_and_after_folding(world):
    world.jobs(30)
    world.settle()
    for job in world.acquire(6)[:3]:
        world.report(job, "finished")
    world.settle()
    truth = {
        (row.status, row.queue): row.n
        for row in world.query(
            "SELECT status, CASE WHEN status IN ('pending', 'defined') THEN '' ELSE computing_site END AS queue,"
            " count(*) AS n FROM (SELECT status, computing_site FROM jobs UNION ALL"
            " SELECT status, computing_site FROM jobs_archive) j GROUP BY 1, 2"
        )
    }

    seen = []
    for _ in range(3):
        with world.begin() as connection:
            seen.append(counters.counts(connection))
            counters.fold(connection)

    assert seen == [truth] * 3


def test_a_submission_wakes_the_relay_once(world, database_url):
    with psycopg.connect(database_url, autocommit=True) as listener:
        listener.execute(f"LISTEN {CHANNEL}")

        world.jobs(500)

        assert len(list(listener.notifies(timeout=0.2))) == 1


def test_what_is_promised_to_a_client_is_committed_synchronously(world):
    """`SHOW` inside the transaction that makes the promise; the test's server has it off by default."""
    seen = {}

    def watch(name, call):
        with world.begin() as connection:
            connection.exec_driver_sql("SET LOCAL synchronous_commit = on")
            call(connection)
            seen[name] = connection.exec_driver_sql("SHOW synchronous_commit").scalar()

    [panda_id] = world.jobs()
    world.settle()
    [job] = world.acquire()
    world.fail(job)
    watch("retry", lambda c: retry.retry(c, [panda_id], stage=None, by="alice", reason=""))
    watch("relay", lambda c: relaying.claim_groups(c, world.engine, final=False, n_groups=1))

    assert seen == {"retry": "on", "relay": "off"}


def test_a_transaction_cannot_run_for_long(world):
    with world.begin() as connection:
        limits = [
            connection.exec_driver_sql(f"SHOW {name}").scalar()
            for name in ("statement_timeout", "idle_in_transaction_session_timeout")
        ]

    assert "0" not in limits


def test_a_stage_that_raises_leaves_nothing_behind(world, monkeypatch):
    [panda_id] = world.jobs()
    world.turn_expansion()
    stage = world.task(Stage.DEFINE)
    body = stage.run

    def too_late(connection, panda_ids, chain_id):
        body(connection, panda_ids, chain_id)
        raise ValueError("after the work")

    monkeypatch.setattr(stage, "run", too_late)
    world.run_stage(Stage.DEFINE, [panda_id])

    assert world.status(panda_id) == "pending"
    assert world.due(panda_id).tries == 1


def test_celery_knows_the_stages_the_transfer_and_the_ticks_and_nothing_else():
    ours = {name for name in app.tasks if not name.startswith("celery.")}

    assert ours == {f"panda.{stage}" for stage in Stage} | {"panda.transfer"} | set(TICK_S)


def test_an_empty_set_ends_its_chain_and_leaves_a_mark(world):
    task = world.task(Stage.DEFINE)
    task.push_request(chain=[{"task": "panda.broker"}])
    try:
        assert task([]) == []
        assert task.request.chain is None
    finally:
        task.pop_request()

    assert world.query("SELECT 1 FROM engine_state WHERE key = 'canary.stages'")


def test_what_else_a_message_holds_is_of_a_newer_version_and_ignored(world):
    [panda_id] = world.jobs()
    world.turn_expansion()

    assert world.task(Stage.DEFINE)([panda_id], "of", the={"future": 1}) == [panda_id]
    assert world.status(panda_id) == "defined"


def test_parking_forgets_deliveries_so_that_a_long_life_is_no_poison(world, begin):
    [panda_id] = world.jobs(1, defaults={"memory_mb": 64_000})
    for _ in range(world.engine.max_deliveries + 3):
        world.settle()
        with begin() as connection:
            due.wake(connection, [panda_id])
    world.settle()

    assert world.status(panda_id) == "defined"


def test_a_move_changes_only_rows_that_still_have_the_status_that_was_seen(world, begin):
    [panda_id] = world.jobs()
    world.turn_expansion()

    with begin() as connection:
        first = move_many(connection, [panda_id], JobStatus.PENDING, JobStatus.DEFINED, by="one")
        second = move_many(connection, [panda_id], JobStatus.PENDING, JobStatus.CANCELLED, by="two")
        roll_back(connection)

    assert (first, second) == ([panda_id], [])


def put(world, lfn, storage, content=b"some bytes"):
    """A file of dataset `in:put` at one storage."""
    with world.begin() as connection:
        catalog.create(connection, "in:put", owner="alice")
    stream = io.BytesIO(content)
    catalog.put(world.begin, "in:put", lfn, stream, storage=storage, owner="alice", cap_bytes=10_000)


def test_a_late_activate_message_does_not_release_a_job_whose_inputs_are_on_their_way(world):
    put(world, "far.txt", "SOUTH-DISK")
    accepted = world.submit(jobs=[{"command": ["true"], "inputs": ["in:put/far.txt"]}], brokerage={"sites": ["NORTH"]})
    panda_id = accepted.first_panda_id
    world.turn_expansion()
    for group in world.claim(final=False):
        world.run_chain(group.stage, group.panda_ids)
    assert world.due(panda_id).waits_for == "data"

    assert world.run_stage(Stage.ACTIVATE, [panda_id]) == []
    assert world.status(panda_id) == "assigned"
    world.settle()

    assert world.status(panda_id) == "activated"


def test_inputs_are_in_place_before_a_job_is_activated_and_outputs_registered_before_it_is_finished(world):
    put(world, "far.txt", "SOUTH-DISK")
    accepted = world.submit(
        jobs=[{"command": ["true"], "inputs": ["in:put/far.txt"], "outputs": ["out.txt"]}],
        brokerage={"sites": ["NORTH"]},
    )
    world.settle()
    [job] = world.acquire()
    [source], [target] = job.inputs, job.outputs

    assert Path(source.url.removeprefix("file://")).read_bytes() == b"some bytes"
    place = Path(target.url.removeprefix("file://"))
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(b"result")
    world.report(job, "finished", outputs=[OutputReport(lfn="out.txt", size_bytes=6, adler32="092202a0")])
    world.settle()

    [output] = world.query("SELECT status FROM job_files WHERE panda_id = %(i)s AND kind = 'output'", i=job.panda_id)
    assert world.status(accepted.first_panda_id) == "finished"
    assert output.status == "registered"


def test_an_output_that_was_never_written_fails_the_job_and_publishes_nothing(world):
    accepted = world.submit(jobs=[{"command": ["true"], "outputs": ["out.txt"]}])
    world.settle()
    [job] = world.acquire()

    world.report(job, "finished", outputs=[OutputReport(lfn="out.txt", size_bytes=6, adler32="00000001")])
    world.settle()

    assert world.job(accepted.first_panda_id)["failed_stage"] == "stage_out"
    assert world.query("SELECT 1 FROM files") == []


def test_a_pilot_that_drops_a_job_nobody_wanted_killed_costs_it_an_attempt_and_no_more(world):
    [panda_id] = world.jobs()
    world.settle()
    [job] = world.acquire()

    world.report(job, "cancelled")
    world.settle()

    assert world.status(panda_id) == "activated"
    assert world.job(panda_id)["attempt_nr"] == 2
