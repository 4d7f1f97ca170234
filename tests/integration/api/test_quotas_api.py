"""/v1/quotas, /v1/users/{name}/quota, /limit: what people may have, who may change it, and what a refusal looks like."""

from datetime import UTC, datetime, timedelta

import pytest

from panda.db.session import rows, run
from panda.jobs.quotas import history, picture
from panda.jobs.why import why


@pytest.fixture
def admin(caller):
    return caller("ada", "admin")


@pytest.fixture(autouse=True)
def fresh():
    """A second has passed since the last look."""
    picture.forget()


def audit(begin):
    with begin() as connection:
        return [(row.who, row.action, row.target, row.reason)
                for row in rows(connection, "SELECT * FROM audit_log ORDER BY audit_id")]  # fmt: skip


def test_an_operator_sets_a_quota_step_by_step_and_clears_it(operator, anna, begin):
    first = operator("PUT", "/v1/quotas/user:anna", {"running_cores": 5, "core_hours": 12.5, "reason": "new"})
    second = operator("PUT", "/v1/quotas/user:anna", {"running_cores": None, "beyond": "hold", "reason": "again"})
    listed = anna.get("/v1/quotas")
    cleared = operator.post("/v1/quotas/user:anna/clear", {"reason": "left"})
    twice = operator.post("/v1/quotas/user:anna/clear", {"reason": "left"})

    assert first.json == {
        "subject": "user:anna", "queued_jobs": None, "running_jobs": None, "running_cores": 5, "core_hours": 12.5,
        "beyond": None, "members": [],
    }  # fmt: skip
    assert second.json == first.json | {"running_cores": None, "beyond": "hold"}
    assert listed.json["data"] == [second.json]
    assert cleared.json == {"subject": "user:anna", "comes_back": False}
    assert (twice.status_code, twice.json["code"]) == (404, "not_found")
    assert [deed[1:] for deed in audit(begin)] == [
        ("set_quota", "quota user:anna", "new"), ("set_quota", "quota user:anna", "again"),
        ("clear_quota", "quota user:anna", "left"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("subject", "wish", "code"),
    [
        ("anna", {"running_cores": 1}, "unknown_subject"), ("user:anna", {"running_cores": -1}, "invalid"),
        ("user:anna", {"running_cores": 1.5}, "invalid"), ("user:anna", {"running": 1}, "invalid"),
        ("user:anna", {"members": ["x"]}, "bad_quota"), ("group:g", {"running_cores": 1}, "no_members"),
        ("group:g", {"members": []}, "no_members"), ("user:anna", {"running_cores": 1, "reason": " "}, "no_reason"),
        ("user:anna", {"beyond": "x"}, "invalid"), ("group:a%20b", {"members": ["x"]}, "bad_name"),
    ],
)  # fmt: skip
def test_a_quota_that_cannot_be_meant_is_refused(operator, begin, subject, wish, code):
    answer = operator("PUT", f"/v1/quotas/{subject}", {"reason": "why", **wish})

    assert (answer.status_code, answer.json["code"]) == (422, code)
    with begin() as connection:
        assert rows(connection, "SELECT FROM quotas") == []


def test_only_operators_change_quotas_and_people_see_their_own_standing_alone(anna, caller, operator):
    bob = caller("bob", "user")

    assert anna("PUT", "/v1/quotas/user:anna", {"running_cores": 5, "reason": "me"}).status_code == 403
    assert anna.post("/v1/quotas/default/clear", {"reason": "me"}).status_code == 403
    assert anna.post("/v1/users/bob/limit", {"reason": "me"}).status_code == 403
    assert bob.get("/v1/users/anna/quota").status_code == 403
    assert bob.get("/v1/users/bob/quota").status_code == 200
    assert operator.get("/v1/users/anna/quota").status_code == 200


def test_a_submission_beyond_the_quota_is_a_conflict_with_its_numbers_or_is_held(operator, anna, sites, begin, engine):
    operator("PUT", "/v1/quotas/default", {"queued_jobs": 2, "reason": "test"})
    three = {"name": "three", "template": {"command": ["true"], "count": 3}}

    refused = anna.submit(three, key="a")
    assert (refused.status_code, refused.json["code"]) == (409, "over_quota")
    assert "user:anna has 0 jobs queued and may have 2; this set has 3 more" in refused.json["detail"]

    operator("PUT", "/v1/quotas/default", {"beyond": "hold", "reason": "test"})
    held = anna.submit(three, key="b")
    again = anna.submit(three, key="b")
    assert (held.status_code, held.json["held"], again.json["held"]) == (201, True, True)
    engine.expand()
    told = anna.get(f"/v1/jobs/{held.json['first_panda_id']}/why")
    assert told.json["waits_for"] == "quota"
    assert "It is held back" in told.json["summary"]
    assert anna.get("/v1/jobs?filter=waits_for:quota").json["data"][0]["jobset_id"] == held.json["jobset_id"]
    standing = anna.get("/v1/users/anna/quota").json
    [own] = standing["quotas"]
    assert (own["subject"], own["n_held"], own["queued_jobs"]) == ("user:anna", 3, {"used": 0, "limit": 2})


def test_a_limited_user_is_shown_as_one(operator, anna, begin):
    operator("PUT", "/v1/quotas/limited", {"running_cores": 1, "reason": "test"})

    first = operator.post("/v1/users/anna/limit", {"reason": "noisy"})
    twice = operator.post("/v1/users/anna/limit", {"reason": "noisy"})

    assert (first.json["n"], twice.json["n"]) == (1, 0)
    told = anna.get("/v1/users/anna/quota").json
    assert (told["limited"], told["quotas"][0]["running_cores"]["limit"]) == ("noisy", 1)
    assert anna.get("/v1/users?filter=limited!=none").json["data"][0]["limit_reason"] == "noisy"
    assert operator.post("/v1/users/anna/unlimit", {"reason": "quiet"}).json["n"] == 1
    assert operator.post("/v1/users/nobody/limit", {"reason": "x"}).status_code == 404
    assert operator.post("/v1/users/anna/limit", {"reason": " "}).json["code"] == "no_reason"


@pytest.mark.parametrize("running", ["finish", "kill", None])
def test_a_ban_says_what_becomes_of_jobs_that_run(admin, anna, sites, engine, acquire, begin, running):
    first = anna.submit().json["first_panda_id"]
    second = anna.submit(key="key-2").json["first_panda_id"]
    engine.expand()
    engine.activate(first, second)
    [job] = acquire(1)

    asked = {"reason": "spam"} | ({"running": running} if running else {})
    assert admin.post("/v1/users/anna/ban", asked).json["n"] == 1

    with begin() as connection:
        found = rows(connection, "SELECT panda_id, kill_reason FROM jobs WHERE kill_requested_at IS NOT NULL")
        waiting = why(connection, second if job["panda_id"] == first else first)
    if running == "kill":
        assert [(row.panda_id, row.kill_reason) for row in found] == [(job["panda_id"], "anna is banned: spam")]
    else:
        assert found == []
    assert "none of its owner's jobs is started: anna is banned: spam" in waiting.summary


def test_what_somebody_used_is_told(admin, begin):
    with begin() as connection:
        run(connection, "INSERT INTO owner_usage VALUES ('anna', 0.25, 900000, 12, now())")

    told = admin.get("/v1/users/anna/quota").json

    assert (told["part"], told["late_s"], told["throttled"]) == (0.25, 900, "")


def test_a_standing_says_when_core_hours_are_used_up_and_when_there_are_some_again(anna, operator, begin, settings):
    operator("PUT", "/v1/quotas/user:anna", {"core_hours": 100, "reason": "test"})
    operator("PUT", "/v1/quotas/group:higgs", {"core_hours": 50, "members": ["anna", "bert"], "reason": "test"})
    with begin() as connection:
        run(
            connection,
            "INSERT INTO owner_days SELECT panda_now()::date - ago, 'anna', 36000 FROM generate_series(1, 6) ago",
        )
        history.make(connection, settings.quotas)

    own, group = anna.get("/v1/users/anna/quota").json["quotas"]

    today = datetime.now(UTC).date()
    assert own["outlook"]["period_days"] == settings.quotas.period_days
    assert own["outlook"]["per_day"] == pytest.approx(60 / 7, abs=0.01)
    assert own["outlook"]["used_up_on"] == (today + timedelta(days=5)).isoformat()
    assert own["outlook"]["room_on"] is None
    assert group["outlook"]["used_up_on"] is None
    assert group["outlook"]["room_on"] == (today + timedelta(days=settings.quotas.period_days - 5)).isoformat()
