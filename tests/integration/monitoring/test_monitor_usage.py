"""/usage: the URL is the plot; names that are told apart, the others, and the same as a table for programs."""

import csv
import io
from datetime import date, timedelta

import pytest
from integration.monitoring.conftest import Browser, Token, World

from monitoring.pages.page import Parts
from panda.db.session import rows, run
from panda.jobs.quotas import history, table

#: Twelve users of two working groups at one queue, each a little more than the one before, three days long.
USED = """
INSERT INTO usage_days
SELECT panda_now()::date - ago, 'user' || lpad(u::text, 2, '0'), 'default', CASE WHEN u < 12 THEN 'north' ELSE '' END,
    CASE WHEN u %% 2 = 0 THEN 'higgs' ELSE '' END, CASE WHEN u < 3 THEN 'production' ELSE 'analysis' END,
    u, 1, 0, 3600 * u, 1800 * u, 7200 * u, 1000000 * u, 10
FROM generate_series(1, 12) u, generate_series(0, 2) ago
"""


@pytest.fixture
def used(world: World) -> World:
    with world.begin() as connection:
        run(connection, USED)
    return world


def test_the_largest_are_told_apart_and_the_others_together(used: World, operator: Browser) -> None:
    page = page_of(operator, "/usage?by=user&top=3&days=7")

    assert [name in page for name in ("user12", "user11", "user10")] == [True] * 3
    assert "others" in page
    assert "12 in all" in page
    assert "100.0%" in page
    assert 'aria-label="Core time a day by user"' in page
    assert "<style" not in page
    assert "style=" not in page


def test_programs_get_a_series_by_name_whole(used: World, operator: Browser) -> None:
    table = list(csv.DictReader(io.StringIO(operator.get("/usage?by=user&days=7&csv").text)))
    assert len(table) == 12 * 3
    assert {row["day"] for row in table} == {(today(used) - timedelta(days=ago)).isoformat() for ago in range(3)}
    assert sum(float(row["core_s"]) for row in table) == 3 * 7200 * 78

    data = operator.json("/usage?by=group&days=7&bin=month&measure=in_bytes")["data"]
    assert [(row["name"], row["in_bytes"]) for row in data["rows"]] == [("higgs", 126e6), ("", 108e6)]
    assert {date.fromisoformat(row["day"]).day for row in data["table"]} == {1}


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("by=user&kind=production", ["user02", "user01"]),
        ("by=kind&group=higgs", ["analysis", "production"]),
        ("by=kind&owner=user02&queue=north&share=default", ["production"]),
        ("by=user&site=NORTH&group=higgs", ["user10", "user08", "user06", "user04", "user02"]),
        ("by=site", ["NORTH", ""]),
        ("by=share&owner=nobody", []),
    ],
)
def test_a_plot_may_be_of_some_alone(used: World, operator: Browser, query: str, told: list[str]) -> None:
    assert [row["name"] for row in operator.json(f"/usage?{query}")["data"]["rows"]] == told
    assert operator.get(f"/usage?{query}").status_code == 200


def test_what_it_is_restricted_to_stands_there_and_can_be_dropped(used: World, operator: Browser) -> None:
    page = page_of(operator, "/usage?by=kind&group=higgs&owner=user02&bin=week&as=table&days=365&top=5&measure=cpu_s")

    assert 'aria-label="Not only of user user02"' in page
    assert '<input type="hidden" name="group" value="higgs">' in page
    assert "panda usage --by kind --bin week --period 365d --owner user02 --group higgs" in page
    assert "data-plot" not in page
    assert "CPU time a week" in page


@pytest.mark.parametrize(
    ("query", "suggested"),
    [("by=grop", "group"), ("bin=fortnight", "week"), ("as=pie", "stack"), ("measure=core", "core_s"), ("days=8", "7"),
     ("top=4", "3"), ("grup=higgs", "group")],
)  # fmt: skip
def test_an_unknown_word_is_refused_with_the_known_ones(operator: Browser, query: str, suggested: str) -> None:
    answer = operator.get(f"/usage?{query}")

    assert answer.status_code == 400
    assert suggested in answer.text
    assert '<a class="l" href="/usage">the usual plot</a>' in answer.text


def test_a_user_sees_their_own_use_alone(used: World, parts: Parts, token: Token) -> None:
    user = Browser(parts, token("ursula", "user"))

    assert user.json("/usage?by=user")["data"]["rows"] == []
    assert user.get("/usage?owner=user02").status_code == 403


def test_quotas_of_core_hours_have_a_bar_and_an_outlook(
    used: World, operator: Browser, parts: Parts, token: Token
) -> None:
    with used.begin() as connection:
        for subject, hours, members in (("user:alice", 10, []), ("group:higgs", 1000, ["alice", "bob"])):
            values = {"core_hours": hours, "members": members}
            table.set_quota(connection, subject, values, by="olga", reason="test")
        run(connection, "INSERT INTO owner_days SELECT panda_now()::date - 1, 'alice', 43200")
        history.make(connection, parts.settings.quotas)

    data = operator.json("/usage")["data"]["quotas"]
    found = data["value"] if isinstance(data, dict) else data
    assert [(each["subject"], each["limit"]) for each in found] == [("user:alice", 10), ("group:higgs", 1000)]
    assert found[0]["used"] == found[1]["used"] > 12  # and a job of hers runs
    page = page_of(operator, "/usage")
    assert "room again on" in page
    assert "✓ lasts at" in page
    alice, bob = Browser(parts, token("alice", "user")), Browser(parts, token("bob", "user"))
    assert "room again on" in page_of(alice, "/me")
    assert "user:alice" not in page_of(bob, "/usage")
    assert "group:higgs" in page_of(bob, "/usage")


def page_of(browser: Browser, path: str) -> str:
    answer = browser.get(path)
    assert answer.status_code == 200
    return str(answer.text)


def today(world: World) -> date:
    with world.begin() as connection:
        day: date = rows(connection, "SELECT panda_now()::date AS day")[0].day
    return day
