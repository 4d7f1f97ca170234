"""Users and tokens are ended by those who may, with a reason and a row in the audit log."""

import pytest

from panda.auth import tokens
from panda.db.session import rows


@pytest.fixture
def admin(caller):
    return caller("ada", "admin")


@pytest.fixture
def forgetful(monkeypatch):
    """Five seconds have passed since the last look."""
    monkeypatch.setattr(tokens, "REMEMBERED_S", 0.0)


def audit(begin):
    with begin() as connection:
        return [(row.who, row.action, row.target, row.reason)
                for row in rows(connection, "SELECT * FROM audit_log ORDER BY audit_id")]  # fmt: skip


def token_id(begin, owner):
    with begin() as connection:
        return rows(connection, "SELECT token_id FROM tokens WHERE owner = %(owner)s", {"owner": owner})[0].token_id


def test_a_user_is_made_once(admin, begin):
    wish = {"name": "bob", "roles": ["user", "user"], "reason": "new"}

    made, again = admin.post("/v1/users", wish), admin.post("/v1/users", wish)

    assert (made.status_code, made.json["roles"]) == (201, ["user"])
    assert (again.status_code, again.json["code"]) == (409, "user_exists")
    assert audit(begin) == [("ada", "create_user", "bob", "new")]


@pytest.mark.parametrize(("wish", "code"), [
    ({"name": "a b", "roles": ["user"]}, "bad_name"),
    ({"name": "bob", "roles": ["king"]}, "unknown_role"),
    ({"name": "bob", "roles": []}, "invalid"),
])  # fmt: skip
def test_a_user_that_cannot_be_meant_is_refused(admin, wish, code):
    answer = admin.post("/v1/users", wish)

    assert (answer.status_code, answer.json["code"]) == (422, code)


def test_a_banned_user_is_refused_until_let_in_again(admin, anna, begin, forgetful):
    banned = admin.post("/v1/users/anna/ban", {"reason": "floods"})
    refused = anna.get("/v1/whoami")
    twice = admin.post("/v1/users/anna/ban", {"reason": "floods"})
    let_in = admin.post("/v1/users/anna/unban", {"reason": "sorry"})

    assert (banned.json["n"], twice.json["n"], let_in.json["n"]) == (1, 0, 1)
    assert refused.status_code == 401
    assert anna.get("/v1/whoami").status_code == 200
    assert audit(begin) == [("ada", "ban", "anna", "floods"), ("ada", "unban", "anna", "sorry")]


def test_a_ban_wants_a_reason_and_somebody_else(admin, anna):
    assert admin.post("/v1/users/anna/ban", {"reason": " "}).json["code"] == "no_reason"
    assert admin.post("/v1/users/ada/ban", {"reason": "x"}).json["code"] == "own_account"
    assert admin.post("/v1/users/nobody/ban", {"reason": "x"}).status_code == 404


@pytest.mark.parametrize("path", ["/v1/users/bob/ban", "/v1/users/bob/unban", "/v1/users/bob/revoke-tokens"])
def test_a_user_does_none_of_this_to_others(anna, caller, path):
    caller("bob", "user")

    assert anna.post(path, {"reason": "x"}).status_code == 403


def test_a_revoked_token_is_believed_for_no_longer_than_the_memory(admin, anna, begin, monkeypatch):
    anna.get("/v1/whoami")

    answer = admin.post(f"/v1/tokens/{token_id(begin, 'anna')}/revoke", {"reason": "stolen"})

    assert answer.json["n"] == 1
    assert anna.get("/v1/whoami").status_code == 200  # it is still remembered
    later = tokens.time.monotonic() + tokens.REMEMBERED_S
    monkeypatch.setattr(tokens.time, "monotonic", lambda: later)
    assert anna.get("/v1/whoami").status_code == 401
    assert audit(begin) == [("ada", "revoke_token", f"token {token_id(begin, 'anna')}", "stolen")]


def test_people_revoke_their_own_tokens_and_nobody_elses(anna, caller, begin, forgetful):
    caller("bob", "user")

    assert anna.post(f"/v1/tokens/{token_id(begin, 'bob')}/revoke").status_code == 403
    assert anna.post(f"/v1/tokens/{token_id(begin, 'anna')}/revoke").json["n"] == 1
    assert anna.get("/v1/whoami").status_code == 401


def test_all_tokens_of_a_user_end_at_once(admin, caller, begin, forgetful):
    first, second = caller("bob", "user"), caller("bob", "user")

    answer = admin.post("/v1/users/bob/revoke-tokens", {"reason": "left"})

    assert answer.json["n"] == 2
    assert {first.get("/v1/whoami").status_code, second.get("/v1/whoami").status_code} == {401}
    assert admin.post("/v1/users/bob/revoke-tokens").json["n"] == 0
    assert admin.post("/v1/users/nobody/revoke-tokens").status_code == 404
