"""Actions on many jobs: looked at, confirmed, carried out by and by, and never on more than was said."""

import dataclasses

import pytest
from falcon.testing import TestClient

from panda.api.app import create_app
from panda.auth import users
from panda.db.session import rows, run
from panda.jobs import bulk

TEN = {"name": "ten", "template": {"command": ["echo", "${seq}"], "count": 10}}
RETRY = {"action": "retry", "filter": "status:failed", "reason": "disk is back"}


@pytest.fixture
def ten(anna, engine, sites):
    accepted = anna.submit(TEN).json
    engine.expand()
    return list(range(accepted["first_panda_id"], accepted["last_panda_id"] + 1))


def look(caller, document):
    answer = caller.post("/v1/jobs/actions", {**document, "dry_run": True})
    assert answer.status_code == 200, answer.text
    return answer.json


def begin_it(caller, document, **more):
    return caller.post("/v1/jobs/actions", {**document, "token": look(caller, document)["token"], **more})


def carried_out(begin, caller, action_id, limit=500):
    busy = True
    while busy:
        with begin() as connection:
            busy = bulk.advance(connection, limit)
    return caller.get(f"/v1/actions/{action_id}").json


def statuses(begin):
    with begin() as connection:
        return {row.panda_id: row.status for row in rows(connection, "SELECT panda_id, status FROM jobs")}


def test_a_preview_tells_what_would_be_done_and_does_nothing(anna, ten, engine, begin):
    engine.fail(*ten[:4])
    engine.archive(ten[0])

    seen = look(anna, {**RETRY, "filter": "created:1h"})

    assert (seen["n"], seen["status"]) == (3, "previewed")
    assert [job["panda_id"] for job in seen["first"]] == ten[3:0:-1]
    assert seen["untouched"] == {"it is pending; only a failed job can be retried": 6}
    assert statuses(begin)[ten[1]] == "failed"
    assert carried_out(begin, anna, seen["action_id"])["status"] == "previewed"


def test_a_preview_tells_what_a_retry_would_be_refused_for(anna, ten, engine):
    engine.fail(*ten[:4])

    seen = look(anna, {**RETRY, "stage": "stage_out"})

    assert (seen["n"], seen["n_looked"]) == (4, 4)
    assert sum(seen["refused"].values()) == 4
    assert all("stage_out" in why or "outputs" in why for why in seen["refused"])
    assert look(anna, RETRY)["refused"] == {}


def test_an_action_ends_when_its_owner_is_banned(anna, ten, engine, begin):
    engine.fail(*ten)
    begun = begin_it(anna, RETRY, count=10).json
    with begin() as connection:
        bulk.advance(connection, 2)
        users.ban(connection, "anna", by="olga", reason="a stolen token", request_id=None)
        bulk.advance(connection, 2)
        [action] = rows(connection, "SELECT status, n_done, note FROM bulk_actions")

    assert begun["n"] == 10
    assert (action.status, action.n_done, action.note) == ("stopped", 2, "stopped: anna is banned")


def test_what_was_previewed_is_done_in_chunks_and_written_down(anna, ten, engine, begin):
    engine.fail(*ten)

    begun = begin_it(anna, RETRY)
    done = carried_out(begin, anna, begun.json["action_id"], limit=3)

    assert (begun.status_code, begun.json["status"]) == (202, "running")
    assert (done["status"], done["n_previewed"], done["n_done"], done["n_refused"]) == ("done", 10, 10, 0)
    assert "failed" not in statuses(begin).values()
    with begin() as connection:
        audit = rows(connection, "SELECT who, action, target, reason, facts FROM audit_log")
    assert [tuple(row[:4]) for row in audit] == [("anna", "bulk_retry", f"action {done['action_id']}", "disk is back")]
    assert (audit[0].facts["n"], audit[0].facts["filter"]) == (10, "status:failed")


def test_a_token_begins_one_action_however_often_it_is_sent(anna, ten, engine, begin):
    engine.fail(*ten[:2])
    document = {**RETRY, "token": look(anna, RETRY)["token"]}

    first = anna.post("/v1/jobs/actions", document)
    carried_out(begin, anna, first.json["action_id"])
    second = anna.post("/v1/jobs/actions", document)

    assert (second.status_code, second.json["action_id"]) == (202, first.json["action_id"])
    assert second.json["status"] == "done"


def test_an_action_never_reaches_more_jobs_than_were_previewed_nor_later_ones(anna, ten, engine, begin):
    engine.fail(*ten[:2])
    begun = begin_it(anna, RETRY).json
    engine.fail(*ten[5:])
    later = anna.submit(TEN, key="later").json["first_panda_id"]
    engine.expand()
    engine.fail(later)

    done = carried_out(begin, anna, begun["action_id"])

    assert (done["n_done"], done["status"]) == (2, "stopped")
    assert done["note"] == "stopped: more jobs fit now than before"
    assert statuses(begin)[later] == "failed"


def test_jobs_are_cancelled_and_those_that_ended_are_left_alone(operator, ten, engine, begin):
    engine.fail(ten[0])
    document = {"action": "cancel", "filter": f"jobset:1 panda_id<={ten[7]}", "reason": "typo"}

    seen = look(operator, document)
    done = carried_out(begin, operator, begin_it(operator, document).json["action_id"])

    assert seen["untouched"] == {"it is failed already": 1}
    assert done["n_done"] == 7
    assert [statuses(begin)[i] for i in ten] == ["failed", *["cancelled"] * 7, "pending", "pending"]


def test_waiting_jobs_get_another_priority_and_another_place_in_line(anna, ten, engine, begin):
    engine.activate(*ten[:3])
    with begin() as connection:
        before = rows(connection, "SELECT panda_id, rank FROM ready ORDER BY panda_id")
    document = {"action": "priority", "priority": 5, "filter": f"panda_id:{ten[1]},{ten[9]}", "reason": "urgent"}

    done = carried_out(begin, anna, begin_it(anna, document).json["action_id"])

    with begin() as connection:
        after = rows(connection, "SELECT panda_id, rank FROM ready ORDER BY panda_id")
        priorities = rows(connection, "SELECT priority FROM jobs WHERE priority = 5")
    assert (done["n_done"], len(priorities)) == (2, 2)
    assert [new.rank - old.rank for new, old in zip(after, before, strict=True)] == [0, -5 * 60_000, 0]


def test_a_hold_of_many_tells_what_it_leaves_alone_and_leaves_a_trace(anna, caller, ten, engine, begin):
    engine.fail(ten[0])
    assert anna.post(f"/v1/jobs/{ten[1]}/hold", {"reason": "one"}).json == {"n": 1, "refused": {}}
    document = {"action": "hold", "filter": "jobset:1", "reason": "all"}

    seen = look(anna, document)
    done = carried_out(begin, anna, begin_it(anna, document).json["action_id"])
    release = look(anna, {**document, "action": "release"})
    freed = anna.post("/v1/jobsets/1/release").json

    assert (seen["n"], seen["untouched"]) == (
        8, {"it is failed; only a job that no pilot has can be held": 1, "it is held already": 1},
    )  # fmt: skip
    assert (done["n_done"], release["n"], release["untouched"]) == (8, 9, {"it is not held": 1})
    assert freed == {"n": 9, "refused": {}, "action_id": None, "n_parents": 0}
    with begin() as connection:
        audit = rows(connection, "SELECT action, target, reason FROM audit_log ORDER BY audit_id")
    assert [tuple(row) for row in audit] == [
        ("hold", f"job {ten[1]}", "one"), ("bulk_hold", f"action {done['action_id']}", "all"), ("release", "jobset 1", ""),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v1/jobs/1/hold", 409, "cannot_hold"),
        ("/v1/jobs/1/release", 409, "cannot_release"),
        ("/v1/jobs/9999/hold", 404, "not_found"),
        ("/v1/jobsets/1/hold", 403, "forbidden"),
        ("/v1/jobsets/2/hold", 409, "not_expanded"),
        ("/v1/jobsets/9/release", 404, "not_found"),
    ],
)
def test_what_cannot_be_held_or_released_is_refused(caller, anna, ten, engine, path, status, code):
    engine.fail(ten[0])
    bert = caller("bert", "user")
    bert.submit(TEN)
    asker = bert if "jobsets" in path else anna

    answer = asker.post(path.replace("jobs/1/", f"jobs/{ten[0]}/"), {"reason": "r"})

    assert (answer.status_code, answer.json["code"]) == (status, code)


def test_everybody_acts_on_their_own_and_operators_on_all(caller, operator, ten, engine):
    engine.fail(*ten[:2])
    bert = caller("bert", "production")

    assert look(bert, RETRY)["n"] == 0
    assert look(operator, RETRY)["n"] == 2
    assert caller("pia", "pilot").post("/v1/jobs/actions", RETRY).status_code == 403


def test_a_preview_belongs_to_who_asked_for_it(anna, operator, ten, engine):
    engine.fail(*ten[:2])
    token = look(anna, RETRY)["token"]

    answer = operator.post("/v1/jobs/actions", {**RETRY, "token": token})

    assert (answer.status_code, answer.json["code"]) == (404, "not_found")


def test_an_action_is_seen_by_its_asker_and_by_operators(anna, caller, operator, ten):
    action_id = look(anna, RETRY)["action_id"]

    assert operator.get(f"/v1/actions/{action_id}").status_code == 200
    assert caller("bert", "user").get(f"/v1/actions/{action_id}").status_code == 403
    assert caller("bert", "user").get("/v1/actions").json["data"] == []


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"token": ""}, 409, "preview_needed"),
        ({"token": "nonsense"}, 404, "not_found"),
        ({"filter": "status:failed priority>1"}, 409, "preview_differs"),
        ({"stage": "broker"}, 409, "preview_differs"),
        ({"count": 3}, 409, "count_not_confirmed"),
        ({"dry_run": True, "filter": "stauts:failed"}, 400, "bad_filter"),
        ({"dry_run": True, "filter": " "}, 422, "no_filter"),
        ({"dry_run": True, "action": "cancel", "stage": "broker"}, 422, "bad_stage"),
        ({"dry_run": True, "priority": 3}, 422, "bad_priority"),
        ({"dry_run": True, "action": "priority"}, 422, "bad_priority"),
        ({"dry_run": True, "exclude": ["A"]}, 422, "bad_exclude"),
        ({"dry_run": True, "action": "rebroker", "exclude": [" "]}, 422, "bad_name"),
        ({"dry_run": True, "action": "rebroker", "exclude": ["X*", "NOSUCH"]}, 422, "unknown_place"),
    ],
)
def test_what_does_not_fit_its_preview_is_not_done(anna, ten, engine, begin, change, status, code):
    engine.fail(*ten[:2])
    token = look(anna, RETRY)["token"]

    answer = anna.post("/v1/jobs/actions", {**RETRY, "token": token, **change})

    assert (answer.status_code, answer.json["code"]) == (status, code)
    assert carried_out(begin, anna, 1)["status"] == "previewed"


def test_a_wide_action_needs_its_count_and_a_late_one_a_new_look(begin, settings, anna, ten, engine):
    engine.fail(*ten[:3])
    strict = dataclasses.replace(settings, api=dataclasses.replace(settings.api, confirm_above=2))
    wide = type(anna)(TestClient(create_app(begin, strict)), anna.token)
    token = look(wide, RETRY)["token"]

    without = wide.post("/v1/jobs/actions", {**RETRY, "token": token})
    with begin() as connection:
        run(connection, "UPDATE bulk_actions SET expires_at = panda_now() - interval '1 second'")
    late = wide.post("/v1/jobs/actions", {**RETRY, "token": token, "count": 3})
    good = begin_it(wide, RETRY, count=3)

    assert (without.status_code, without.json["code"]) == (409, "count_not_confirmed")
    assert "3 jobs" in without.json["detail"]
    assert (late.status_code, late.json["code"]) == (409, "preview_expired")
    assert good.status_code == 202


def test_a_filter_that_would_look_at_too_much_is_refused(begin, settings, anna, ten, monkeypatch):
    monkeypatch.setattr(bulk, "WINDOW", 4)
    narrow = dataclasses.replace(settings, api=dataclasses.replace(settings.api, max_looked=8))
    answer = type(anna)(TestClient(create_app(begin, narrow)), anna.token).post(
        "/v1/jobs/actions", {**RETRY, "dry_run": True}
    )

    assert (answer.status_code, answer.json["code"]) == (422, "too_wide")
    assert look(anna, RETRY)["n"] == 0


def test_a_retry_of_a_large_set_goes_on_by_itself(anna, ten, engine, begin, monkeypatch):
    monkeypatch.setattr(bulk, "CHUNK", 4)
    engine.fail(*ten)

    answer = anna.post("/v1/jobsets/1/retry", {"reason": "again"}).json

    assert answer["n"] == 4
    assert carried_out(begin, anna, answer["action_id"])["n_done"] == 10


def test_what_is_refused_meanwhile_is_counted_with_its_reason(anna, ten, engine, begin):
    engine.fail(*ten[:3])
    document = {**RETRY, "stage": "stage_out"}

    done = carried_out(begin, anna, begin_it(anna, document).json["action_id"])

    assert (done["n_done"], done["n_refused"]) == (0, 3)
    assert sum(done["refused"].values()) == 3
