"""What is called a trouble, and what is not: each finder on what it would see."""

from datetime import UTC, datetime, timedelta

import pytest

from monitoring.celery_side import WorkerSeen
from monitoring.health import Part
from monitoring.troubles import finding
from monitoring.troubles.seen import Seen
from panda.jobs.switches import Pause, Place, What

NOW = datetime(2026, 11, 22, 17, 0, tzinfo=UTC)
AN_HOUR_AGO = NOW - timedelta(hours=1)


def queue(name="NORTH-Q", status="online", ready=0, pilots=1, **jobs):
    return {"name": name, "site": "NORTH", "status": status, "status_reason": "storage upgrade",
            "status_by": "olga", "status_at": AN_HOUR_AGO, "status_until": None, "ready": ready,
            "pilots": pilots, "jobs": {"activated": ready, **jobs}}  # fmt: skip


def resting(n, code="pilot:1305", stage="dispatch", queue="NORTH-Q", node="wn-1", owner="anna", jobset_id=7):
    return {"code": code, "stage": stage, "queue": queue, "node": node, "owner": owner, "n": n, "first_at": AN_HOUR_AGO,
            "last_at": NOW, "n_jobsets": 1, "jobset_id": jobset_id, "panda_id": 1}  # fmt: skip


def code(n, name="pilot:1305", mark="", stage="dispatch", since=AN_HOUR_AGO, last_at=NOW):
    return {"error_code": name, "failed_stage": stage, "n": n, "mark": mark, "since": since if mark else None,
            "last_at": last_at}  # fmt: skip


def token(ended_at, *roles, label="north pilots"):
    return {"token_id": 3, "owner": "harvester", "label": label, "roles": list(roles), "expires_at": ended_at,
            "is_over": ended_at <= NOW}  # fmt: skip


def ended(node, n, n_failed, queue="NORTH-Q"):
    return {"queue": queue, "node": node, "n": n, "n_failed": n_failed}


def failing(node, n, queue="NORTH-Q"):
    return {"queue": queue, "node": node, "n": n, "first_at": AN_HOUR_AGO, "last_at": NOW}


def found(**seen):
    return finding.find(Seen(NOW, **seen))


def test_nothing_wrong_is_nothing_found():
    assert (
        found(queues=[queue(ready=5)], parts=[Part("API", "ok", "port 1")], codes=[code(3)], resting=[resting(3)]) == []
    )


def test_a_part_that_is_down_comes_first_and_says_what_to_do():
    parts = [Part("Beat", "warn", "3 min ago", since=NOW), Part("Redis", "down", "does not answer", since=AN_HOUR_AGO)]

    redis, beat = found(parts=parts, n_active=12)

    assert (redis.key, redis.since, redis.hits) == ("part Redis", AN_HOUR_AGO, "12 jobs on their way")
    assert "Start Redis again" in redis.told
    assert not beat.is_bad


def test_a_stage_that_outlives_its_limit_names_its_worker_and_what_it_holds():
    begun = [{"worker": "stages@node1", "since": AN_HOUR_AGO, "n_jobs": 500, "n": 1}]

    [trouble] = found(begun=begun)

    assert (trouble.since, trouble.hits.split(";")[0]) == (AN_HOUR_AGO, "500 jobs in its hands")
    assert trouble.acts == [("Its tasks in Flower", "/flower/worker/stages%40node1")]


def test_a_worker_that_says_nothing_any_more_is_named_with_its_process():
    workers = [
        WorkerSeen("stages@node1", False, 2, AN_HOUR_AGO, 4711), WorkerSeen("data@node1", True, 0, NOW, 4712),
        WorkerSeen("old@node1", False, 0, None, 4713),
    ]  # fmt: skip

    [trouble] = found(workers=workers)

    assert (trouble.key, trouble.since) == ("worker stages@node1", AN_HOUR_AGO)
    assert "kill -9 4711" in trouble.told


def test_workers_that_are_all_silent_say_nothing_of_one_of_them():
    workers = [WorkerSeen(f"{lane}@node1", False, 0, AN_HOUR_AGO, 4711) for lane in ("stages", "data")]

    assert found(workers=workers) == []


def test_a_lane_whose_canaries_are_not_taken_is_named():
    canaries = [{"lane": "stages", "at": AN_HOUR_AGO, "age_s": 3600.0}, {"lane": "final", "at": NOW, "age_s": 40.0}]

    assert [trouble.key for trouble in found(canaries=canaries)] == ["lane stages"]


def test_ready_jobs_at_a_closed_queue_wait_for_somebody():
    [trouble] = found(queues=[queue(status="offline", ready=30, assigned=4)])

    assert (trouble.kind, trouble.since) == ("closed", AN_HOUR_AGO)
    assert trouble.hits == "30 ready jobs there, 4 waiting for data"
    assert trouble.told == "storage upgrade (olga)"
    assert [link.partition("?")[0] for _, link in trouble.acts] == ["/queues/NORTH-Q/status", "/jobs/bulk/rebroker"]


def test_jobs_that_a_closed_queue_gave_back_wait_for_it_all_the_same():
    [trouble] = found(queues=[queue(status="test")], called_back=[{"queue": "NORTH-Q", "n": 26}])

    assert (trouble.title, trouble.since) == ("Queue NORTH-Q is test", AN_HOUR_AGO)
    assert trouble.hits == "0 ready jobs there, 0 waiting for data, 26 called back that fit no other queue"
    assert [words for words, _ in trouble.acts] == ["Set the status…"]


@pytest.mark.parametrize(
    ("status", "is_offered", "said"), [("online", True, ""), ("test", False, "NORTH-Q is test already."),
                                      ("offline", False, "NORTH-Q is offline already.")],
)  # fmt: skip
@pytest.mark.parametrize("name", ["pilot:1333", "pilot:1099"])
def test_a_queue_that_is_closed_is_not_opened_by_what_closes_one(name, status, is_offered, said):
    [trouble] = found(resting=[resting(9, name)], codes=[code(9, name, "new")], queues=[queue(status=status)])

    assert ("Close the queue to new jobs…" in dict(trouble.acts)) == is_offered
    assert trouble.told.endswith(said)


def test_a_closed_queue_that_nobody_waits_for_is_no_trouble():
    assert found(queues=[queue(status="offline")]) == []


def test_a_queue_without_pilots_is_told_since_the_last_one_was_seen():
    [trouble] = found(queues=[queue(ready=9, pilots=0)], last_seen=[{"queue": "NORTH-Q", "last_seen_at": AN_HOUR_AGO}])

    assert (trouble.kind, trouble.since, trouble.hits) == ("pilots", AN_HOUR_AGO, "9 ready jobs at NORTH")


@pytest.mark.parametrize(
    ("roles", "kind"), [(["pilot@NORTH-Q"], "token"), (["pilot"], "token"), (["pilot@SOUTH-Q"], "pilots")]
)
def test_a_token_that_ended_when_the_pilots_stopped_coming_explains_it(roles, kind):
    last_seen = [{"queue": "NORTH-Q", "last_seen_at": AN_HOUR_AGO - timedelta(seconds=5)}]

    [trouble] = found(queues=[queue(ready=9, pilots=0)], last_seen=last_seen, tokens=[token(AN_HOUR_AGO, *roles)])

    assert trouble.kind == kind
    if kind == "token":
        assert trouble.since == AN_HOUR_AGO
        assert trouble.acts[0][1].startswith("/tokens/new?role=pilot&queue=NORTH-Q")


@pytest.mark.parametrize(("quiet_s", "is_told"), [(10, False), (40, True)])
def test_a_token_of_one_queue_explains_its_silence_before_two_minutes_are_over(quiet_s, is_told):
    ended = NOW - timedelta(seconds=quiet_s)
    last_seen = [{"queue": "NORTH-Q", "last_seen_at": ended}]

    found_now = found(queues=[queue(ready=9, pilots=2)], last_seen=last_seen, tokens=[token(ended, "pilot@NORTH-Q")])

    assert [trouble.kind for trouble in found_now] == (["token"] if is_told else [])


def test_pilots_that_came_after_the_token_ended_had_another_one():
    last_seen = [{"queue": "NORTH-Q", "last_seen_at": NOW - timedelta(minutes=10)}]

    [trouble] = found(queues=[queue(ready=9, pilots=0)], last_seen=last_seen, tokens=[token(AN_HOUR_AGO, "pilot")])

    assert trouble.kind == "pilots"


def test_a_token_that_ends_soon_is_told_beforehand():
    [trouble] = found(tokens=[token(NOW + timedelta(hours=5), "pilot@NORTH-Q")])

    assert (trouble.is_bad, trouble.hits) == (False, "pilots of NORTH-Q")


def test_a_node_that_fails_what_the_others_do_not_is_a_black_hole():
    seen = {
        "nodes": [failing("wn-7", 40)], "ended": [ended("wn-7", 42, 40), ended("wn-1", 100, 3)],
        "resting": [resting(25, node="wn-7"), resting(5, node="wn-7", owner="bert", code="pilot:1099")],
        "codes": [code(43, mark="rising")],
    }  # fmt: skip

    [trouble] = found(**seen)

    assert (trouble.kind, trouble.since) == ("node", AN_HOUR_AGO)
    assert trouble.hits == "30 jobs of 2 users (anna, bert)"
    assert [word for word, _ in trouble.acts] == ["Take the node out…", "Retry its failed jobs…"]


@pytest.mark.parametrize(
    "others", [[], [ended("wn-1", 20, 15)]], ids=["the only node of its queue", "the others fail as well"]
)
def test_a_node_is_not_to_blame_for_what_its_queue_does(others):
    seen = {"nodes": [failing("wn-7", 40)], "ended": [ended("wn-7", 42, 40), *others]}

    assert found(**seen) == []


def test_a_node_that_was_taken_out_is_told_as_a_pause():
    pause = Pause(What.DISPATCH, Place(queue="NORTH-Q", node="wn-7"), "olga", "bad disk", AN_HOUR_AGO, None)
    seen = {"nodes": [failing("wn-7", 40)], "ended": [ended("wn-7", 42, 40), ended("wn-1", 100, 3)]}

    [trouble] = found(**seen, pauses=[pause], queues=[queue(ready=3)])

    assert (trouble.kind, trouble.title, trouble.since) == ("paused", "Node wn-7 of NORTH-Q is taken out", AN_HOUR_AGO)
    assert trouble.acts[0][1].startswith("/admin/switches/resume?what=dispatch")


@pytest.mark.parametrize(
    ("given", "kind", "title"),
    [
        ({"resting": [resting(9, "pilot:1333")]}, "storage", "The site's storage is full at NORTH-Q"),
        ({"resting": [resting(9, "stage_out:deadline", "stage_out")]}, "stage_out", "Outputs did not get to their place at NORTH-Q"),
        ({"resting": [resting(1, "dispatch:kills_pilots")]}, "poison", "The job ended every pilot that took it"),
        ({"resting": [resting(1, "define:poison", "define")]}, "poison", "The submission cannot be carried out"),
        ({"resting": [resting(9), resting(1, queue="SOUTH-Q")]}, "errors", "The payload ended with an exit code other than 0 at NORTH-Q"),
        ({"codes": [code(900, "pilot:1099", "rising")]}, "errors", "An error rises: An input could not be copied to the node"),
        ({"codes": [code(12, "pilot:1099", "new")]}, "errors", "A new error: An input could not be copied to the node"),
    ],
)  # fmt: skip
def test_failures_with_something_in_common_are_told_by_it(given, kind, title):
    [trouble] = found(**given)

    assert (trouble.kind, trouble.title, trouble.since) == (kind, title, AN_HOUR_AGO)
    assert trouble.link.startswith("/errors/")


@pytest.mark.parametrize(
    "given",
    [
        {"resting": [resting(4, "pilot:1333")]},
        {"resting": [resting(50), resting(50, queue="SOUTH-Q")], "codes": [code(100)]},
        {"resting": [resting(50, "payload:3")], "codes": [code(50, "payload:3", "new")]},
    ],
    ids=["few", "old and everywhere", "a payload's own"],
)
def test_failures_that_tell_nothing_are_no_trouble(given):
    assert found(**given) == []


@pytest.mark.parametrize("name", ["pilot:1333", "pilot:1099"])
def test_what_was_retried_and_does_not_come_again_is_a_trouble_no_more(name):
    [lately] = found(codes=[code(25, name, "new")])

    assert (lately.hits, lately.is_bad, lately.acts) == ("25 attempts, all tried again", False, [])
    assert found(codes=[code(25, name, "new", last_at=NOW - timedelta(hours=3))]) == []
    assert found(codes=[code(25, name, "new", last_at=NOW - timedelta(hours=3))], resting=[resting(5, name)]) != []


def test_a_storage_that_takes_nothing_is_told_with_its_queues():
    storage = {"name": "NORTH-DISK", "site": "NORTH", "full_because": "2.1 TB of 2.1 TB are used"}
    near = {**queue(assigned=3), "storage": "NORTH-DISK", "running": 4}

    [trouble] = found(storages=[storage], queues=[near])

    assert (trouble.kind, trouble.hits) == ("storage", "7 jobs running there or waiting for data")
    assert trouble.acts == [("Close NORTH-Q to new jobs…", "/queues/NORTH-Q/status?to=brokeroff")]


def test_poison_is_mended_at_its_job_set():
    [trouble] = found(resting=[resting(2, "dispatch:kills_pilots", jobset_id=9)])

    assert trouble.acts == [("Cancel job set 9…", "/jobsets/9/cancel")]


@pytest.mark.parametrize(
    ("n", "others", "is_one"), [(5000, [20], True), (900, [20], False), (5000, [], False), (5000, [4000], False)]
)
def test_one_user_who_floods_the_system_is_named_if_others_wait(n, others, is_one):
    owners = [
        {"owner": name, "n_open": k, "since": AN_HOUR_AGO, "n_jobsets": 1}
        for name, k in [("bert", n), *enumerate(others)]
    ]

    assert [trouble.key for trouble in found(owners=owners)] == (["flood bert"] if is_one else [])


def test_what_is_paused_says_who_waits_and_is_resumed_there():
    pause = Pause(What.BROKERAGE, Place(site="NORTH"), "olga", "upgrade", AN_HOUR_AGO, NOW)

    [trouble] = found(pauses=[pause], queues=[queue(defined=4)])

    assert (trouble.title, trouble.hits) == ("Brokerage is paused: site NORTH", "4 waiting jobs there")
    assert trouble.told == "upgrade (olga until 22 Nov 17:00 UTC)"


def test_jobs_that_stay_too_long_are_told_by_status():
    row = {"status": "assigned", "changed_at": AN_HOUR_AGO, "owner": "anna", "p99_s": 60.0}

    [trouble] = found(stuck=[row, {**row, "owner": "bert"}])

    assert (trouble.key, trouble.hits) == ("stuck assigned", "2 jobs of 2 users (anna, bert)")
    assert trouble.link == "/jobs?q=status%3Aassigned"
