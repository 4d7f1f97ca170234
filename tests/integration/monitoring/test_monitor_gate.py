"""Who comes in, how, and for how long."""

import re

import pytest
from falcon.testing import Result, TestClient
from sqlalchemy.exc import OperationalError

from monitoring.app import make_app
from monitoring.gate import COOKIE, SESSION_S, Sessions, safe_next
from monitoring.pages.page import Parts
from panda.auth.identity import Identity, Role
from panda.auth.page_sessions import Drawer
from panda.auth.tokens import Verifier
from panda.db.session import Begin
from panda.errors import Forbidden, Unauthenticated
from tests.integration.monitoring.conftest import Browser, Token, World


def test_without_a_session_a_browser_is_sent_to_the_login(world: World, parts: Parts) -> None:
    stranger = Browser(parts)

    for path in ("/", "/jobs?status=failed", "/jobs/7", "/jobsets", "/queues", "/search?q=1", "/nowhere"):
        answer = stranger.get(path)
        assert answer.status_code == 303, path
        assert answer.headers["location"].startswith("/login?next=%2F"), path
        assert "alice" not in answer.text


def test_without_a_session_a_program_gets_401(world: World, parts: Parts) -> None:
    stranger = Browser(parts)

    assert stranger.get("/jobs", accept="application/json").status_code == 401
    assert stranger.get("/jobs?json").status_code == 401
    assert stranger.post("/logout").status_code == 401


def test_a_program_reads_pages_with_its_token(world: World, parts: Parts, token: Token) -> None:
    world.job(600, "running", owner="bob")
    stranger, alice = (
        Browser(parts),
        {"Authorization": f"Bearer {token('alice', 'user')}", "Accept": "application/json"},
    )

    def get(path: str, headers: dict[str, str] = alice) -> Result:
        return TestClient(make_app(parts)).simulate_get(path, headers=headers)

    mine = get("/jobs")
    sheet = get(f"/jobs/{world.jobs['failed']}/retry?json")

    assert {job["owner"] for job in mine.json["data"]["jobs"]} == {"alice"}
    assert get("/jobs?csv").text.startswith("panda_id,")
    assert get("/jobs/600").status_code == get("/audit").status_code == 403
    assert (mine.cookies, len(parts.sessions), sheet.status_code) == ({}, 0, 200)
    assert stranger.get("/jobs?json").status_code == 401


def test_a_token_that_opens_nothing_is_told_so_and_no_cookie_helps(
    world: World, parts: Parts, token: Token, operator: Browser
) -> None:
    for wrong, status in (("nonsense", 401), ("", 401), (token("harvester", "pilot"), 403)):
        headers = {"Authorization": f"Bearer {wrong}", "Accept": "application/json"}
        answer = TestClient(make_app(parts)).simulate_get("/jobs", headers=headers, cookies=operator.cookies)
        assert answer.status_code == status, wrong
        assert answer.json["code"] in ("unauthenticated", "forbidden")


def test_with_a_token_alone_nobody_acts(world: World, parts: Parts, token: Token) -> None:
    headers = {"Authorization": f"Bearer {token('olga', 'operator')}"}
    page = TestClient(make_app(parts)).simulate_get(f"/jobs/{world.jobs['failed']}/retry", headers=headers)
    seal = re.search(r'name="seal" value="([^"]+)"', page.text)
    assert seal is not None

    for path in (f"/jobs/{world.jobs['failed']}/retry", "/logout"):
        acted = TestClient(make_app(parts)).simulate_post(
            path, body=f"seal={seal[1]}&key=k&reason=because",
            headers=headers | {"Content-Type": "application/x-www-form-urlencoded"},
        )  # fmt: skip
        assert acted.status_code == 401, path
    assert world.count("SELECT count(*) FROM page_deeds") == 0


def test_the_login_and_static_files_are_open(parts: Parts) -> None:
    stranger = Browser(parts)

    assert "Log in" in stranger.get("/login").text
    assert stranger.get("/static/monitor.css").headers["content-type"] == "text/css; charset=utf-8"
    assert stranger.get("/static/..%2frender.py").status_code == 404


def test_a_token_opens_a_session_and_the_way_goes_on(world: World, parts: Parts, token: Token) -> None:
    browser = Browser(parts)

    answer = browser.log_in(token("olga", "operator"), next="/jobs/7")
    cookie = answer.cookies[COOKIE]

    assert answer.status_code == 303
    assert answer.headers["location"] == "/jobs/7"
    assert cookie.http_only
    assert cookie.same_site == "Strict"
    assert cookie.max_age == SESSION_S
    assert browser.get("/jobs/7").status_code == 200


def test_a_token_in_the_address_opens_nothing(parts: Parts, token: Token) -> None:
    assert Browser(parts).get(f"/?token={token('olga', 'operator')}").status_code == 303


@pytest.mark.parametrize("wrong", ["", "nonsense", "panda_nonsense"])
def test_a_wrong_token_opens_nothing(parts: Parts, wrong: str) -> None:
    answer = Browser(parts).log_in(wrong, next="/jobs")

    assert answer.status_code == 401
    assert COOKIE not in answer.cookies
    assert 'value="/jobs"' in answer.text


def test_a_pilot_has_no_business_here(parts: Parts, token: Token) -> None:
    answer = Browser(parts).log_in(token("pilot-service", "pilot"))

    assert answer.status_code == 403
    assert COOKIE not in answer.cookies


def test_another_site_can_neither_log_in_nor_out(parts: Parts, token: Token, operator: Browser) -> None:
    plain = token("mallory", "user")

    crossed = Browser(parts).post("/login", {"Origin": "https://evil.example"}, token=plain)
    fetched = Browser(parts).post("/login", {"Sec-Fetch-Site": "cross-site"}, token=plain)
    logout = operator.post("/logout", {"Sec-Fetch-Site": "cross-site"})

    assert (crossed.status_code, fetched.status_code, logout.status_code) == (403, 403, 403)
    assert operator.get("/").status_code == 200


def test_logging_out_ends_the_session(operator: Browser) -> None:
    assert operator.post("/logout").status_code == 303
    assert operator.get("/").status_code == 303


@pytest.mark.parametrize(
    "path", ["//evil.example", "https://evil.example", "/\\evil.example", "", None, "/login", "/a\nb"]
)
def test_after_a_login_nobody_is_sent_elsewhere(path: str | None) -> None:
    assert safe_next(path) == "/"


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Door:
    """Verifies the tokens that it knows."""

    def __init__(self) -> None:
        self.known: dict[str, Identity] = {"good": Identity("ada", frozenset({Role.USER}))}
        self.is_away = False

    def __call__(self, token: str) -> Identity:
        if self.is_away:
            raise OSError("the database is away")
        if token not in self.known:
            raise Unauthenticated("this token is not known here")
        return self.known[token]


def test_a_session_ends_after_twelve_hours() -> None:
    clock = Clock()
    sessions = Sessions(Door(), clock)
    key, _ = sessions.open("good")

    clock.now = SESSION_S - 1
    before = sessions.get(key)
    clock.now = SESSION_S + 1

    assert before is not None
    assert sessions.get(key) is None


def test_a_revoked_token_ends_its_session_and_a_store_that_is_away_does_not() -> None:
    door = Door()
    sessions = Sessions(door)
    key, _ = sessions.open("good")

    door.is_away = True
    sessions.ask_again()
    while_away = sessions.get(key)
    door.is_away = False
    door.known.clear()
    sessions.ask_again()

    assert while_away is not None
    assert sessions.get(key) is None


def test_a_store_that_goes_away_while_a_session_ends_stops_nobody_from_asking_again(begin: Begin, token: Token) -> None:
    class Stuck(Drawer):
        is_away = True

        def drop(self, key: str) -> None:
            if self.is_away:
                raise OperationalError("DELETE", {}, Exception("the store is away"))
            super().drop(key)

    drawer = Stuck(begin)
    sessions = Sessions(Verifier(begin), drawer=drawer)
    keys = [sessions.open(token(name, "operator"))[0] for name in ("ada", "bob")]
    with begin() as connection:
        connection.exec_driver_sql("UPDATE tokens SET revoked_at = panda_now()")

    sessions.ask_again()
    drawer.is_away = False
    sessions.ask_again()

    assert [sessions.recall(key) for key in keys] == [None, None]
    assert len(sessions) == 0


def test_a_pilots_token_is_refused_by_name() -> None:
    door = Door()
    door.known["pilot"] = Identity("wn-1", frozenset({Role.PILOT}))

    with pytest.raises(Forbidden):
        Sessions(door).open("pilot")


def test_a_monitor_that_starts_anew_knows_who_was_logged_in(begin: Begin, token: Token) -> None:
    plain = token("ada", "operator")
    key, before = Sessions(Verifier(begin), drawer=Drawer(begin)).open(plain)

    after = Sessions(Verifier(begin), drawer=Drawer(begin)).recall(key)

    assert after is not None
    assert (after.subject, after.seal, after.token) == ("ada", before.seal, "")
    with begin() as connection:
        stored = str(connection.exec_driver_sql("SELECT * FROM page_sessions").all())
    assert key not in stored
    assert plain not in stored


def test_what_ended_is_not_recalled(begin: Begin, token: Token) -> None:
    first = Sessions(Verifier(begin), drawer=Drawer(begin))
    left, _ = first.open(token("ada", "operator"))
    revoked, _ = first.open(token("bob", "operator"))
    late, _ = first.open(token("eve", "operator"))
    second = Sessions(Verifier(begin), drawer=Drawer(begin))
    assert second.recall(left) is not None

    first.close(left)
    with begin() as connection:
        connection.exec_driver_sql("UPDATE tokens SET revoked_at = panda_now() WHERE owner = 'bob'")
        connection.exec_driver_sql("UPDATE page_sessions SET until = panda_now() WHERE token_hash = ("
                                   "SELECT token_hash FROM tokens WHERE owner = 'eve')")  # fmt: skip
    second.ask_again()

    assert [second.recall(key) for key in (left, revoked, late, "guessed", "", None)] == [None] * 6


def test_a_session_of_an_issuers_token_is_its_process_s(begin: Begin) -> None:
    vouched = "head.body.signature"
    sessions = Sessions(lambda _: Identity("ada", frozenset({Role.USER})), drawer=Drawer(begin))

    key, session = sessions.open(vouched)

    assert session.token == vouched
    assert Sessions(Verifier(begin), drawer=Drawer(begin)).recall(key) is None
