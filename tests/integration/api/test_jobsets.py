"""Job sets over HTTP: accepted once, shown to their owners, retried and cancelled."""

import pytest

from panda.db.session import rows

TEN = {"name": "ten", "template": {"command": ["echo", "${seq}"], "count": 10}}


def test_a_job_set_is_accepted_with_its_range_of_ids(anna):
    answer = anna.submit(TEN)

    assert answer.status_code == 201
    accepted = answer.json
    assert accepted["n_jobs"] == 10
    assert accepted["last_panda_id"] - accepted["first_panda_id"] == 9
    assert accepted["replayed"] is False
    assert answer.headers["Location"] == f"/v1/jobsets/{accepted['jobset_id']}"


def test_the_same_key_and_document_give_the_same_ids(anna):
    first = anna.submit(TEN, key="mine").json

    again = anna.submit(TEN, key="mine")

    assert again.status_code == 200
    assert again.json == {**first, "replayed": True}


def test_the_same_key_with_another_document_is_a_conflict(anna):
    anna.submit(TEN, key="mine")

    answer = anna.submit({**TEN, "name": "eleven"}, key="mine")

    assert (answer.status_code, answer.json["code"]) == (409, "idempotency_key_reused")


def test_the_same_key_of_somebody_else_is_another_key(anna, caller):
    first = anna.submit(TEN, key="mine").json

    assert caller("bert", "user").submit(TEN, key="mine").json["jobset_id"] != first["jobset_id"]


def test_without_a_key_nothing_is_accepted(anna, begin):
    answer = anna.post("/v1/jobsets", TEN)

    assert (answer.status_code, answer.json["code"]) == (400, "idempotency_key_missing")
    with begin() as connection:
        assert rows(connection, "SELECT 1 FROM jobsets") == []


def test_the_ledger_adds_up_before_and_after_the_jobs_are_made(anna, engine):
    jobset_id = anna.submit(TEN).json["jobset_id"]

    before = anna.get(f"/v1/jobsets/{jobset_id}").json
    engine.expand()
    after = anna.get(f"/v1/jobsets/{jobset_id}").json

    assert before["ledger"] == {"accepted": 10, "unexpanded": 10, "waiting": 0, "running": 0, "finished": 0,
                                "failed": 0, "cancelled": 0}  # fmt: skip
    assert after["ledger"]["waiting"] == 10
    assert after["ledger"]["unexpanded"] == 0
    assert after["by_status"] == {"pending": 10}
    assert after["status"] == "running"
    assert after["created_at"].endswith("Z")


def test_a_set_waits_for_the_sets_that_it_depends_on(anna):
    parent = anna.submit(TEN, key="parent").json["jobset_id"]

    child = anna.submit({**TEN, "depends_on": [parent]}, key="child").json["jobset_id"]

    shown = anna.get(f"/v1/jobsets/{child}").json
    assert (shown["status"], shown["depends_on"]) == ("pending", [parent])


def test_lists_go_page_by_page_from_the_newest_on(anna):
    made = [anna.submit(TEN, key=f"key-{i}").json["jobset_id"] for i in range(3)]

    first = anna.get("/v1/jobsets?limit=2").json
    second = anna.get(f"/v1/jobsets?limit=2&after={first['page']['next']}").json

    assert [each["jobset_id"] for each in first["data"] + second["data"]] == sorted(made, reverse=True)
    assert second["page"]["next"] is None


def test_a_user_sees_their_own_sets_alone(anna, caller, operator):
    jobset_id = anna.submit(TEN).json["jobset_id"]
    bert = caller("bert", "user")

    assert bert.get("/v1/jobsets").json["data"] == []
    assert bert.get(f"/v1/jobsets/{jobset_id}").status_code == 403
    assert bert.get(f"/v1/jobsets/{jobset_id}/jobs").status_code == 403
    assert bert.get("/v1/jobsets?owner=anna").status_code == 403
    assert len(operator.get("/v1/jobsets?owner=anna").json["data"]) == 1


def test_a_cancelled_set_is_marked_and_written_down(anna, begin):
    jobset_id = anna.submit(TEN).json["jobset_id"]

    answer = anna.post(f"/v1/jobsets/{jobset_id}/cancel", {"reason": "wrong seed"}, headers={"X-Request-Id": "r-1"})

    assert (answer.status_code, answer.json["n"]) == (202, 10)
    with begin() as connection:
        audit = rows(connection, "SELECT who, action, target, reason, request_id FROM audit_log")
    assert [tuple(row) for row in audit] == [("anna", "cancel", f"jobset {jobset_id}", "wrong seed", "r-1")]


def test_a_retry_of_a_set_reaches_its_failed_jobs(anna, engine, operator):
    accepted = anna.submit(TEN).json
    engine.expand()
    failed = [accepted["first_panda_id"], accepted["last_panda_id"]]
    engine.fail(*failed)

    answer = operator.post(f"/v1/jobsets/{accepted['jobset_id']}/retry", {"stage": "broker", "reason": "site is back"})

    assert (answer.status_code, answer.json) == (200, {"n": 2, "refused": {}, "action_id": None})
    assert anna.get(f"/v1/jobs/{failed[0]}").json["attempt_nr"] == 2


@pytest.mark.parametrize("verb", ["retry", "cancel"])
def test_nobody_acts_on_somebody_elses_set(anna, caller, begin, verb):
    jobset_id = anna.submit(TEN).json["jobset_id"]

    assert caller("bert", "user").post(f"/v1/jobsets/{jobset_id}/{verb}").status_code == 403
    with begin() as connection:
        assert rows(connection, "SELECT 1 FROM audit_log") == []


def test_a_set_that_does_not_exist_is_not_found(anna):
    for path in ("/v1/jobsets/999", "/v1/jobsets/999/jobs", "/v1/jobsets/abc", "/v1/jobsets/0", f"/v1/jobsets/{2**70}"):
        assert anna.get(path).status_code == 404


def test_a_sandbox_that_was_never_uploaded_is_refused_at_submission(anna):
    answer = anna.submit({"name": "set", "jobs": [{"command": ["true"], "sandbox": "0" * 64}]})

    assert (answer.status_code, answer.json["code"]) == (404, "not_found")
    assert "sandbox" in answer.json["detail"]


def test_a_job_that_is_promised_and_not_made_cannot_be_cancelled_yet(anna):
    accepted = anna.submit(TEN).json

    answer = anna.post(f"/v1/jobs/{accepted['last_panda_id']}/cancel", {})

    assert (answer.status_code, answer.json["code"]) == (404, "not_expanded")


@pytest.mark.parametrize(
    ("brokerage", "where", "words"),
    [
        ({"sites": ["HOLAND"]}, "brokerage.sites[0]", "did you mean 'HOLLAND'"),
        ({"sites": ["holland-cpu"]}, "brokerage.sites[0]", "did you mean 'HOLLAND-CPU'"),
        ({"sites": ["HOLLAND", "!NOSUCH"]}, "brokerage.sites[1]", "no site, queue or cloud 'NOSUCH'; a pattern"),
        ({"exclude": ["NOSUCH"]}, "brokerage.exclude[0]", "NOSUCH"),
        ({"prefer": ["HOLLAND", "NOSUCH"]}, "brokerage.prefer[1]", "NOSUCH"),
    ],
)
def test_a_place_that_nobody_knows_is_refused(anna, sites, brokerage, where, words):
    answer = anna.submit({**TEN, "brokerage": brokerage})

    assert (answer.status_code, answer.json["code"], answer.json["where"]) == (422, "unknown_place", where)
    assert words in answer.json["detail"]
    assert anna.get("/v1/jobsets").json["data"] == []


def test_sites_queues_clouds_and_patterns_are_places(anna, sites):
    wishes = {"sites": ["HOLLAND", "HOLLAND-CPU", "NL", "!LATER-*"], "exclude": ["L?TER"], "prefer": ["NL", "[A]"]}

    assert anna.submit({**TEN, "brokerage": wishes}).status_code == 201


def test_why_of_a_set_is_for_who_may_read_it(anna, caller):
    jobset_id = anna.submit(TEN).json["jobset_id"]

    answer = anna.get(f"/v1/jobsets/{jobset_id}/why")

    assert answer.json == {
        "jobset_id": jobset_id, "n_open": 10, "n_not_made": 10, "n_seen": 0, "is_whole": True, "groups": [], "n_more": 0,
    }  # fmt: skip
    assert caller("bob", "user").get(f"/v1/jobsets/{jobset_id}/why").status_code in (403, 404)
    assert anna.get("/v1/jobsets/77777/why").status_code == 404
