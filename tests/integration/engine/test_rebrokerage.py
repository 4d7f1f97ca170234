"""Jobs that have a queue, and look for another one: because somebody asks, or because the queue went offline."""

from collections import Counter
from uuid import uuid4

import pytest

from panda.dataservice import catalog
from panda.errors import Invalid
from panda.jobs import bulk, kill, rebroker, retry
from panda.jobs.bulk import Wish
from panda.sites import leaving
from workflows import beat


def queues_of(world, panda_ids):
    found = world.query(
        "SELECT computing_site AS queue FROM jobs WHERE panda_id = ANY(%(ids)s) AND status <> 'defined'", ids=panda_ids
    )
    return Counter(row.queue for row in found)


def ask(world, panda_ids, exclude=(), reason="slow"):
    with world.begin() as connection:
        return rebroker.rebroker(connection, panda_ids, exclude=exclude, by="alice", reason=reason)


def set_status(world, queue, status):
    sql = "UPDATE queues SET status = %(status)s, status_at = panda_now() WHERE name = %(queue)s RETURNING name"
    world.query(sql, queue=queue, status=status)


def leave(world, after_s=61):
    world.pass_time(after_s)
    beat.leave_closed_queues()
    for group in world.claim(final=False):
        if group.stage == "broker":
            world.run_chain(group.stage, group.panda_ids)


@pytest.fixture
def placed(world):
    """Four jobs, two ready at each queue."""
    jobs = world.jobs(4)
    world.settle()
    assert queues_of(world, jobs) == {"NORTH-Q": 2, "SOUTH-Q": 2}
    return jobs


def test_jobs_are_kept_from_where_they_must_not_go(world, placed):
    reached, refused = ask(world, placed, exclude=["NORTH*"])
    world.settle()

    assert (reached, refused) == (placed, {})
    assert queues_of(world, placed) == {"SOUTH-Q": 4}
    assert "alice" in [row.by for row in world.query("SELECT by FROM job_events WHERE reason = 'slow'")]
    [decision] = world.query("SELECT funnel FROM brokerage_decisions ORDER BY decision_id DESC LIMIT 1")
    assert {"NORTH-Q": "the job was brokered away from NORTH*"} in [step["refused"] for step in decision.funnel]


def test_a_job_rather_goes_elsewhere_than_where_it_was(world, placed):
    [mine] = [i for i in placed if world.job(i)["computing_site"] == "NORTH-Q"][:1]

    ask(world, [mine])
    world.settle()

    assert world.job(mine)["computing_site"] == "SOUTH-Q"


def test_what_no_queue_is_left_for_waits_and_is_not_brought_back(world, placed):
    ask(world, placed, exclude=["NORTH", "SOUTH-Q"])
    world.settle()

    assert {world.due(i).waits_for for i in placed} == {"queue"}
    set_status(world, "NORTH-Q", "online")
    world.pass_time(700)
    world.sweep()
    world.settle()
    assert {world.due(i).waits_for for i in placed} == {"queue"}


def test_only_jobs_that_brokerage_has_seen_and_no_pilot_has_are_reached(world, placed):
    [running] = world.acquire(1, queue="NORTH-Q")
    pending = world.jobs(1)
    world.turn_expansion()
    [failed] = world.acquire(1, queue="SOUTH-Q", pilot_id="pilot-2")
    world.fail(failed)

    reached, refused = ask(world, [*placed, *pending, 999_999])

    others = sorted(set(placed) - {running.panda_id, failed.panda_id})
    assert reached == others
    assert refused == {
        running.panda_id: "it is sent; only a job that no pilot has, and that brokerage has seen, can be brokered anew",
        failed.panda_id: "it is failed; only a job that no pilot has, and that brokerage has seen, can be brokered anew",
        pending[0]: "it is pending; only a job that no pilot has, and that brokerage has seen, can be brokered anew",
        999_999: "it is archived or unknown",
    }


def test_a_claim_and_a_rebrokerage_share_no_job(world, placed):
    ask(world, placed)

    assert world.acquire(4) == []
    world.settle()
    assert len(world.acquire(4)) == 4


@pytest.mark.parametrize(
    ("exclude", "code"), [(["A"] * 51, "too_many_places"), ([" "], "bad_name"), (["A", "x" * 251], "bad_name")]
)
def test_places_that_are_none_are_refused_and_nothing_moves(world, placed, exclude, code):
    with pytest.raises(Invalid) as caught:
        ask(world, placed, exclude=exclude)

    assert caught.value.code == code
    assert {world.status(i) for i in placed} == {"activated"}


def test_a_job_is_kept_from_a_bounded_number_of_places(world, placed):
    ask(world, placed[:1], exclude=[f"A{n}" for n in range(50)])

    with pytest.raises(Invalid) as caught:
        ask(world, placed[:1], exclude=["B"])

    assert caught.value.code == "too_many_places"


def test_ready_jobs_leave_a_queue_that_went_offline(world, placed):
    set_status(world, "NORTH-Q", "offline")

    leave(world)

    assert queues_of(world, placed) == {"SOUTH-Q": 4}
    reasons = world.query("SELECT DISTINCT reason FROM job_events WHERE now = 'defined' AND was = 'activated'")
    assert [row.reason for row in reasons] == ["NORTH-Q is offline"]


@pytest.mark.parametrize("status", ["online", "brokeroff", "test"])
def test_jobs_stay_where_the_queue_goes_on(world, placed, status):
    set_status(world, "NORTH-Q", status)

    leave(world)

    assert queues_of(world, placed) == {"NORTH-Q": 2, "SOUTH-Q": 2}


def waiting_for_data(world, n):
    """Jobs at NORTH-Q whose input is on its way from SOUTH; its transfer does not move."""
    world.query(
        "INSERT INTO datasets (scope, name, owner, created_at, n_files, size_bytes)"
        " VALUES ('s', 'd', 'alice', panda_now(), 1, 5) RETURNING 1"
    )
    world.query(
        "INSERT INTO files (dataset_id, lfn, guid, size_bytes, adler32, created_at)"
        " SELECT dataset_id, 'f', 'g', 5, '00000001', panda_now() FROM datasets WHERE name = 'd' RETURNING 1"
    )
    [file] = world.query("SELECT file_id FROM files WHERE lfn = 'f'")
    with world.begin() as connection:
        catalog.place_replicas(connection, [(file.file_id, "SOUTH-DISK", "p")])
    accepted = world.submit(
        jobs=[{"command": ["true"], "inputs": ["s:d/f"]} for _ in range(n)], brokerage={"sites": ["NORTH"]}
    )
    jobs = list(range(accepted.first_panda_id, accepted.last_panda_id + 1))
    for stage in ("define", "broker", "stage_in"):
        world.turn_expansion()
        world.run_stage(stage, jobs)
    assert {world.due(i).waits_for for i in jobs} == {"data"}
    return jobs


def test_jobs_whose_files_are_on_their_way_leave_a_queue_that_went_offline(world):
    jobs = waiting_for_data(world, 3)
    set_status(world, "NORTH-Q", "offline")

    leave(world)

    assert {(world.status(i), world.due(i).waits_for) for i in jobs} == {("defined", "queue")}  # they want only NORTH


def test_a_queue_is_looked_through_once_each_time_it_goes_offline(world, monkeypatch):
    looked = []
    plain = leaving.moving_off.assigned_jobs
    monkeypatch.setattr(
        leaving.moving_off,
        "assigned_jobs",
        lambda begin, queues, **told: looked.append(queues) or plain(begin, queues, **told),
    )
    jobs = waiting_for_data(world, 3)
    set_status(world, "SOUTH-Q", "offline")
    leave(world)
    leave(world)
    assert (looked, {world.due(i).waits_for for i in jobs}) == ([["SOUTH-Q"]], {"data"})

    set_status(world, "NORTH-Q", "offline")
    leave(world)
    assert looked == [["SOUTH-Q"], ["NORTH-Q"]]
    set_status(world, "SOUTH-Q", "online")
    leave(world)
    set_status(world, "SOUTH-Q", "offline")
    leave(world)

    assert looked == [["SOUTH-Q"], ["NORTH-Q"], ["SOUTH-Q"]]
    assert {world.status(i) for i in jobs} == {"defined"}


def plan(world, kind, target, since_s, until_s):
    sql = (
        "INSERT INTO downtimes (name, kind, target, starts_at, ends_at, reason, made_by) VALUES ('cooling', %(kind)s,"
        " %(target)s, panda_now() + make_interval(secs => %(since_s)s),"
        " panda_now() + make_interval(secs => %(until_s)s), 'kernel', 'olga') RETURNING 1"
    )
    world.query(sql, kind=kind, target=target, since_s=float(since_s), until_s=float(until_s))


@pytest.mark.parametrize(("kind", "target"), [("queue", "NORTH-Q"), ("site", "NORTH")])
def test_jobs_leave_a_queue_that_goes_into_downtime(world, placed, kind, target):
    plan(world, kind, target, 0, 7200)

    leave(world)

    assert queues_of(world, placed) == {"SOUTH-Q": 4}
    reasons = {row.reason for row in world.query("SELECT reason FROM job_events WHERE by = 'brokerage'")}
    assert any(f"{kind} {target} is in downtime until" in (reason or "") for reason in reasons)


def test_jobs_whose_files_are_on_their_way_leave_a_queue_in_downtime(world):
    jobs = waiting_for_data(world, 3)
    plan(world, "queue", "NORTH-Q", 0, 7200)

    leave(world)

    assert {(world.status(i), world.due(i).waits_for) for i in jobs} == {("defined", "queue")}  # they want only NORTH


@pytest.mark.parametrize(
    ("kind", "target", "since_s", "until_s"),
    [
        ("queue", "NORTH-Q", 0, 1800),  # it ends soon
        ("queue", "NORTH-Q", 30, 7200),  # it has just begun
        ("queue", "NORTH-Q", 3600, 7200),  # it is to come
        ("queue", "NORTH-Q", -7200, -3600),  # it is over
        ("storage", "NORTH-DISK", 0, 7200),  # pilots still get what is ready
        ("site", "ELSEWHERE", 0, 7200),
    ],
)
def test_jobs_stay_where_a_downtime_does_not_keep_them_for_long(world, placed, kind, target, since_s, until_s):
    plan(world, kind, target, since_s, until_s)

    leave(world)

    assert queues_of(world, placed) == {"NORTH-Q": 2, "SOUTH-Q": 2}


def test_a_queue_that_is_closed_for_a_moment_keeps_its_jobs(world, placed):
    set_status(world, "NORTH-Q", "offline")

    leave(world, after_s=30)

    assert queues_of(world, placed) == {"NORTH-Q": 2, "SOUTH-Q": 2}


def test_a_job_that_no_pilot_took_in_time_rather_goes_elsewhere(world, placed):
    mine = [i for i in placed if world.job(i)["computing_site"] == "NORTH-Q"]
    world.pass_time(world.engine.pilot_wait_s + 1)
    world.query("UPDATE job_due SET due_at = panda_now() + interval '1 day' WHERE panda_id <> ALL(%(ids)s) RETURNING 1",
                ids=mine)  # fmt: skip

    world.sweep()
    world.settle()

    assert queues_of(world, mine) == {"SOUTH-Q": 2}


def test_a_retried_job_keeps_away_from_where_it_must_not_go(world, placed):
    ask(world, placed, exclude=["NORTH"])
    world.settle()
    [job] = world.acquire(1, queue="SOUTH-Q")
    world.fail(job)
    with world.begin() as connection:
        retry.retry(connection, [job.panda_id], stage=None, by="alice", reason="")
    world.settle()

    assert world.job(job.panda_id)["computing_site"] == "SOUTH-Q"


def test_many_jobs_are_brokered_anew_by_an_action(world, placed):
    wish = Wish("rebroker", "status:activated", None, None, "alice", None, "slow disk", ("NORTH",))
    found = bulk.preview(world.begin, wish, world.settings.api)
    with world.begin() as connection:
        bulk.confirm(connection, wish, found.token, found.n, world.settings.api, request_id=None)

    beat.advance_actions()
    world.settle()

    assert found.n == 4
    assert queues_of(world, placed) == {"SOUTH-Q": 4}


def test_an_action_that_is_confirmed_with_other_places_is_refused(world, placed):
    wish = Wish("rebroker", "status:activated", None, None, "alice", None, "", ("NORTH",))
    found = bulk.preview(world.begin, wish, world.settings.api)

    with world.begin() as connection, pytest.raises(Exception, match="not what was previewed"):
        bulk.confirm(connection, wish._replace(exclude=()), found.token, 4, world.settings.api, request_id=None)


def test_places_go_with_a_rebrokerage_alone(world):
    with pytest.raises(Invalid) as caught:
        bulk.preview(
            world.begin, Wish("cancel", "status:activated", None, None, "alice", None, "", ("A",)), world.settings.api
        )

    assert caught.value.code == "bad_exclude"


def test_a_kill_reaches_a_job_that_is_being_brokered_anew(world, placed):
    ask(world, placed)
    with world.begin() as connection:
        kill.request(connection, placed, by="alice", reason=uuid4().hex)
    world.settle()

    assert {world.status(i) for i in placed} == {"cancelled"}
