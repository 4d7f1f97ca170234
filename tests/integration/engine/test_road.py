"""One job through all seven stages, and every way to leave the road."""

import pytest

from panda.dataservice import catalog
from panda.errors import Conflict, Invalid, NotFound, TooLarge
from panda.jobs import kill, retry
from panda.states import Stage


def test_a_job_travels_all_seven_stages_and_ends_in_the_archive(world):
    [panda_id] = world.jobs()

    world.settle()
    [job] = world.acquire()
    world.report(job, "running")
    world.report(job, "finished", exit_code=0, wall_s=1.5, cpu_s=1.0)
    world.settle()

    assert world.moves(panda_id) == [
        "pending", "defined", "assigned", "activated", "sent", "running", "holding", "finished",
    ]  # fmt: skip
    assert world.job(panda_id)["archived"]
    assert world.due(panda_id) is None


def test_a_thousand_jobs_travel_in_sets(world):
    ids = world.jobs(1000)

    world.settle()
    jobs = world.acquire(2000)
    for job in jobs[:5]:
        world.report(job, "finished")
    world.settle()

    assert len({job.panda_id for job in jobs} & set(ids)) >= 100
    assert [world.status(job.panda_id) for job in jobs[:5]] == ["finished"] * 5


def test_the_same_key_gives_the_same_jobs_and_another_document_is_refused(world):
    first = world.submit(key="k", jobs=[{"command": ["true"]}])

    again = world.submit(key="k", jobs=[{"command": ["true"]}])
    with pytest.raises(Conflict) as refusal:
        world.submit(key="k", jobs=[{"command": ["false"]}])

    assert again == first._replace(replayed=True)
    assert refusal.value.code == "idempotency_key_reused"


def test_a_template_of_a_million_and_one_jobs_is_refused_and_leaves_nothing(world):
    with pytest.raises(TooLarge):
        world.submit(template={"command": ["true"], "count": 1_000_001})

    assert world.query("SELECT 1 FROM jobsets") == []


@pytest.mark.parametrize(
    ("template", "code"),
    [
        ({"command": ["echo", "${nobody}"]}, "unknown_placeholder"),
        ({"command": ["echo", "${x:9999999d}"], "matrix": {"x": [1]}}, "bad_format"),
        ({"command": ["echo", "${x:06d}"], "matrix": {"x": ["a"]}}, "bad_format"),
        ({"command": ["true"], "outputs": ["same.txt"], "count": 2}, "output_not_unique"),
        ({"command": ["true"], "outputs": ["${x}.${seq}"], "matrix": {"x": ["../.."]}}, "bad_name"),
        ({"command": ["true"], "matrix": {"x": []}}, "empty_matrix"),
        ({"command": ["true"], "inputs": {"A": {"dataset": "no:where"}}}, "no_input"),
    ],
)
def test_a_template_that_cannot_be_meant_is_refused(world, template, code):
    with pytest.raises(Invalid) as refusal:
        world.submit(template=template)

    assert refusal.value.code == code


def test_a_dataset_that_there_is_not_is_told_with_the_nearest_name(world):
    with world.begin() as connection:
        catalog.create(connection, "user.anna:texts", owner="anna")

    with pytest.raises(Invalid, match=r"no dataset user.anna:text; did you mean user.anna:texts"):
        world.submit(template={"command": ["true"], "inputs": {"A": {"dataset": "user.anna:text"}}})
    with pytest.raises(Invalid, match=r"no dataset no:where$"):
        world.submit(template={"command": ["true"], "inputs": {"A": {"dataset": "no:where"}}})


def test_a_template_fills_its_placeholders(world):
    accepted = world.submit(
        template={
            "command": ["run", "--seed", "${seed:03d}", "$${HOME}", "${kind}-${seq}"],
            "matrix": {"kind": ["up", "down"], "seed": {"range": [1, 3]}},
            "outputs": ["${kind}.${seq:04d}.out"],
        }
    )

    world.settle()

    assert accepted.n_jobs == 6
    last = world.job(accepted.last_panda_id)
    assert last["spec"]["command"] == ["run", "--seed", "003", "${HOME}", "down-5"]
    outputs = world.query("SELECT lfn FROM job_files WHERE kind = 'output' ORDER BY panda_id")
    assert [row.lfn for row in outputs][-1] == "down.0005.out"


def test_a_payload_that_fails_rests_and_a_retry_opens_a_new_attempt(world, begin):
    [panda_id] = world.jobs()
    world.settle()
    world.fail(world.acquire()[0])

    assert world.status(panda_id) == "failed"
    assert world.due(panda_id).waits_for == "operator"
    with begin() as connection:
        outcome = retry.retry(connection, [panda_id, 999], stage=None, by="alice", reason="once more")
    world.settle()
    [second] = world.acquire()
    world.report(second, "finished")
    world.settle()

    assert outcome.retried == [panda_id]
    assert list(outcome.refused) == [999]
    assert second.attempt_nr == 2
    assert world.status(panda_id) == "finished"


def test_a_failed_job_is_archived_when_its_retry_window_ends(world):
    [panda_id] = world.jobs()
    world.settle()
    world.fail(world.acquire()[0])

    world.pass_time(73 * 3600)
    world.sweep()
    world.settle()

    assert world.job(panda_id)["archived"]
    assert world.status(panda_id) == "failed"


def test_a_silent_pilot_costs_its_attempt_and_the_job_runs_again(world):
    [panda_id] = world.jobs()
    world.settle()
    [lost] = world.acquire()
    world.report(lost, "running")

    world.pass_time(121)
    world.sweep()
    world.settle()
    [second] = world.acquire()
    stale = world.report(lost, "finished")
    world.report(second, "finished")
    world.settle()

    assert stale.outcome == "stale_lease"
    assert second.attempt_nr == 2
    assert world.status(panda_id) == "finished"


def test_an_attempt_budget_ends(world):
    [panda_id] = world.jobs(defaults={"max_attempts": 2})
    for _ in range(2):
        world.settle()
        assert world.acquire()
        world.pass_time(121)
        world.sweep()

    world.settle()

    assert world.status(panda_id) == "failed"
    assert world.job(panda_id)["error_code"] == "dispatch:kills_pilots"
    assert "every one of its 2 attempts" in world.job(panda_id)["error_message"]


def test_a_heartbeat_keeps_a_lease_alive(world):
    [panda_id] = world.jobs()
    world.settle()
    [job] = world.acquire()

    for _ in range(3):
        world.pass_time(100)
        assert world.report(job, "running").outcome == "ok"
        world.sweep()

    assert world.status(panda_id) == "running"


def test_a_waiting_job_is_cancelled_at_once_and_a_running_one_by_its_pilot(world, begin):
    ids = world.jobs(2)
    world.settle()
    [running] = world.acquire()
    [waiting] = set(ids) - {running.panda_id}

    with begin() as connection:
        kill.request(connection, ids, by="alice", reason="mistake")
    at_once = world.status(waiting)
    told = world.report(running, "running")
    world.report(running, "cancelled")
    world.settle()

    assert at_once == "cancelled"
    assert told.command == "kill"
    assert world.status(running.panda_id) == "cancelled"
    assert world.job(running.panda_id)["archived"]


def test_a_whole_set_is_cancelled_expanded_or_not(world, begin):
    accepted = world.submit(template={"command": ["true"], "count": 7000})

    with begin() as connection:
        kill.request_jobset(connection, accepted.jobset_id, by="alice", reason="")
    world.settle()

    [row] = world.query("SELECT n_open, n_cancelled, ended_at FROM jobsets")
    assert (row.n_open, row.n_cancelled) == (0, 7000)
    assert row.ended_at is not None


def test_a_child_set_waits_for_its_parent(world):
    parent = world.submit(jobs=[{"command": ["true"]}])
    child = world.submit(jobs=[{"command": ["true"]}], depends_on=[parent.jobset_id])
    world.settle()
    assert world.status(child.first_panda_id) == "pending"
    assert world.due(child.first_panda_id).waits_for == "parent"

    world.report(world.acquire()[0], "finished")
    world.settle()

    assert world.status(child.first_panda_id) == "activated"


@pytest.mark.parametrize(("policy", "status"), [("cancel", "cancelled"), ("run", "activated"), ("hold", "pending")])
def test_a_parent_that_fails_is_answered_by_the_childs_policy(world, policy, status):
    parent = world.submit(jobs=[{"command": ["true"]}])
    child = world.submit(jobs=[{"command": ["true"]}], depends_on=[parent.jobset_id], on_parent_failure=policy)
    world.settle()

    world.fail(world.acquire()[0])
    world.settle()

    assert world.status(child.first_panda_id) == status


def test_a_held_child_is_released_when_its_parent_succeeds_after_a_retry(world, begin):
    parent = world.submit(jobs=[{"command": ["true"]}])
    child = world.submit(jobs=[{"command": ["true"]}], depends_on=[parent.jobset_id], on_parent_failure="hold")
    world.settle()
    world.fail(world.acquire()[0])
    world.settle()

    with begin() as connection:
        retry.retry(connection, [parent.first_panda_id], stage=None, by="alice", reason="")
    world.settle()
    world.report(world.acquire()[0], "finished")
    world.settle()

    assert world.status(child.first_panda_id) == "activated"


def test_a_set_cannot_depend_on_one_that_does_not_exist_so_circles_cannot_be_written(world):
    with pytest.raises(NotFound):
        world.submit(jobs=[{"command": ["true"]}], depends_on=[1])

    assert world.query("SELECT 1 FROM jobsets") == []


def test_a_job_that_fits_no_queue_waits_and_is_looked_at_again(world, begin):
    [panda_id] = world.jobs(defaults={"memory_mb": 64_000})
    world.settle()
    assert world.due(panda_id).waits_for == "queue"

    with begin() as connection:
        connection.exec_driver_sql("UPDATE queues SET memory_mb = 128000")
    world.pass_time(700)
    world.sweep()
    world.settle()

    assert world.status(panda_id) == "activated"


def test_a_job_that_no_pilot_takes_is_brokered_anew(world):
    [panda_id] = world.jobs()
    world.settle()

    world.pass_time(7 * 3600)
    world.sweep()
    world.settle()

    assert world.moves(panda_id)[-3:] == ["defined", "assigned", "activated"]


def test_a_job_that_ends_its_worker_each_time_fails_as_poison(world):
    [panda_id] = world.jobs()
    world.turn_expansion()

    for _ in range(world.engine.max_deliveries):
        assert world.claim(final=False)  # sent, and its worker dies
        world.pass_time(world.engine.resend_s + 1)
    world.claim(final=False)

    assert world.job(panda_id)["error_code"] == "define:poison"


def test_one_job_that_makes_a_stage_raise_does_not_stop_the_others(world, monkeypatch):
    ids = world.jobs(20)
    bad = ids[13]
    stage = world.task(Stage.DEFINE)
    body = stage.run

    def raising(connection, panda_ids, chain_id):
        if bad in panda_ids:
            raise ValueError("this one")
        return body(connection, panda_ids, chain_id)

    monkeypatch.setattr(stage, "run", raising)
    for _ in range(world.engine.max_tries):
        world.settle()
        world.pass_time(60)
    world.settle()

    assert world.status(bad) == "failed"
    assert {world.status(i) for i in ids if i != bad} == {"activated"}
