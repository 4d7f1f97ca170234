"""What nobody sends who means well, and sheets that the world has left behind."""

import asyncio
from urllib.parse import quote

import pytest

from monitoring.gate import Session
from monitoring.live import MAX_OF_ONE, Hub, Watcher, may_watch
from monitoring.pages.page import Parts
from panda.auth.identity import Identity, Role
from panda.jobs import retry
from panda.states import Stage
from tests.integration.monitoring.conftest import Browser, Token, World
from tests.integration.monitoring.test_monitor_acts import form, hidden_of

#: What no field of any form can mean.
ODD = ("%00", "a%00b", "1" * 5_000, "0" * 5_000, "00000000099999999999999999", "9" * 30, "%FF%FE", "%D9%A1", "-", "inf")


@pytest.mark.parametrize(
    ("path", "name", "more"),
    [
        ("/jobs/4/priority", "priority", {}),
        ("/jobs/4/priority", "key", {"priority": "1%00"}),
        ("/jobs/bulk/priority", "number", {"said": "status:activated", "priority": "1", "token": "x"}),
        ("/jobs/bulk/priority", "action_id", {"said": "status:activated", "priority": "1", "token": "x"}),
        ("/jobs/bulk/priority", "priority", {"said": "status:activated", "token": "x"}),
        ("/admin/switches/pause", "place", {"what": "dispatch"}),
        ("/admin/switches/pause", "for_s", {"what": "dispatch"}),
        ("/nodes/north/wn-1/pause", "for_s", {}),
        ("/queues/north/status", "for_s", {"status": "offline"}),
        ("/tokens/new", "ttl_s", {"owner": "dave", "role": "user"}),
        ("/tokens/new", "label", {"owner": "dave", "role": "user%00"}),
        ("/incidents/1/answer", "action", {}),
    ],
)
def test_an_odd_value_is_refused_and_nothing_is_done(
    world: World, parts: Parts, token: Token, path: str, name: str, more: dict[str, str]
) -> None:
    world.furnish()
    admin = Browser(parts, token("ada", "admin"))
    n_rows = "SELECT (SELECT count(*) FROM audit_log) + (SELECT count(*) FROM page_deeds)"
    before = world.count(n_rows)

    for odd in ODD:
        answer = admin.post(path, **form(admin, parts, **{**more, name: odd}))
        assert 400 <= answer.status_code < 500, (odd[:30], answer.text)
    assert world.count(n_rows) == before
    assert world.count("SELECT count(*) FROM switches") == 0


def test_a_name_that_cannot_be_stored_is_not_found(world: World, operator: Browser) -> None:
    for path in ("/queues/a%00b/status", "/users/%00", "/nodes/%00/x/pause", "/me/views/%00/forget", "/sites/%00"):
        assert operator.get(path).status_code == 404, path


def test_a_number_that_no_job_can_have_is_not_found(world: World, operator: Browser, parts: Parts) -> None:
    for deed in ("hold", "release", "priority", "rebroker", "debug", "retry", "cancel"):
        for number in (777, 2**63 - 1, 2**63, 10**30):
            answer = operator.post(f"/jobs/{number}/{deed}", **form(operator, parts, priority="1"))
            assert (answer.status_code, operator.get(f"/jobs/{number}/{deed}").status_code) == (404, 404), (
                deed,
                number,
            )


def test_a_place_that_is_none_never_means_everywhere(world: World, operator: Browser, parts: Parts) -> None:
    for k, place in enumerate(("north", "queue", "queue:", "node:wn-1", "site", "sites:NORTH")):
        answer = operator.post(
            "/admin/switches/pause", **form(operator, parts, key=f"k{k}", what="dispatch", place=place)
        )
        assert (answer.status_code, "bad_place" in answer.text or "is no place" in answer.text) == (400, True), place
        assert operator.get(f"/admin/switches/pause?what=dispatch&place={place}").status_code == 400
    gone = operator.json("/admin/switches/pause?what=dispatch&place=site:GONE")["data"]["sheet"]

    assert next(field for field in gone["fields"] if field["name"] == "place")["value"] == "site:GONE"
    assert world.count("SELECT count(*) FROM switches") == 0


def test_the_page_of_a_node_takes_out_that_node_alone(world: World, operator: Browser, parts: Parts) -> None:
    """Whatever the form says or leaves out: without a node it would be the whole queue."""
    for k, fields in enumerate(({}, {"queue": "", "node": ""}, {"queue": "south", "what": "brokerage"})):
        done = operator.post("/nodes/north/wn-1/pause", **form(operator, parts, key=f"k{k}", **fields))
        assert done.status_code == 303, fields

    assert "Node wn-1 of queue north is taken out." in operator.get("/nodes/north/wn-1?done=k0").text
    assert world.count("SELECT count(*) FROM switches") == 1
    assert (
        world.count("SELECT count(*) FROM switches WHERE queue = 'north' AND node = 'wn-1' AND what = 'dispatch'") == 1
    )


def test_a_link_writes_no_command_for_an_operator(world: World, operator: Browser) -> None:
    answer = operator.get("/queues/north/status?to=" + quote("online; rm -rf ~"))

    assert answer.status_code == 400
    assert "panda site set" not in answer.text


def test_whoever_was_banned_a_moment_ago_does_nothing(world: World, parts: Parts, token: Token) -> None:
    olga, rex = Browser(parts, token("olga", "operator", "user")), Browser(parts, token("rex", "operator"))
    panda_id = world.jobs["activated"]
    hers, his = form(olga, parts), form(rex, parts)

    world.sql("UPDATE users SET banned_at = panda_now() WHERE name = 'rex'")
    world.sql("UPDATE users SET roles = '{user}' WHERE name = 'olga'")

    assert rex.post(f"/jobs/{panda_id}/hold", **his).status_code == 401
    assert olga.post(f"/jobs/{panda_id}/hold", **hers).status_code == 403
    assert rex.get("/jobs").status_code == 303
    assert world.count("SELECT count(*) FROM holds") == 0


def test_a_retry_that_would_be_refused_says_so_before(world: World, operator: Browser, parts: Parts) -> None:
    """What the sheet counts is what runs, also where some jobs cannot start at the stage that is chosen."""
    world.job(600, "failed")
    world.sql("UPDATE jobs SET failed_stage = 'dispatch' WHERE panda_id = 600")
    here = f"/jobs/bulk/retry?q=jobset:{world.jobset_id}+status:failed&stage=stage_out"

    sheet = operator.json(here)["data"]["sheet"]
    facts = dict(sheet["facts"])
    with parts.begin() as connection:
        outcome = retry.retry(
            connection, [600, world.jobs["failed"]], stage=Stage.STAGE_OUT, by="olga", reason="as shown"
        )

    assert facts["Jobs"] == "2"
    assert facts["Runs again"] == "1 from stage-out"
    assert facts["Refused: 1"] == "it failed in dispatch and never came to stage_out"
    assert [row[5] for row in sheet["rows"]] == [f"no: {facts['Refused: 1']}", "stage-out …"]
    assert (outcome.retried, list(outcome.refused)) == ([world.jobs["failed"]], [600])

    none = operator.get("/jobs/bulk/retry?q=panda_id:600&stage=stage_out").text
    assert "No job that fits can be retried from there." in none
    assert '<select id="c-stage"' in none  # another stage can still be chosen
    assert 'name="seal"' not in none


def test_one_job_that_cannot_start_there_says_so_on_its_sheet(world: World, operator: Browser) -> None:
    panda_id = world.jobs["failed"]
    world.sql(
        "INSERT INTO job_files (panda_id, kind, did, lfn, status) VALUES (%(id)s, 'output', 'user.alice:out', 'a', 'expected')",
        id=panda_id,
    )

    sheet = operator.json(f"/jobs/{panda_id}/retry")["data"]["sheet"]

    assert not sheet["is_possible"]
    assert sheet["note"] == "From there it cannot: its outputs are not at the site; retry from broker."
    assert operator.json(f"/jobs/{panda_id}/retry?stage=broker")["data"]["sheet"]["is_possible"]


def test_a_sheet_is_good_for_the_attempt_that_it_was_about(world: World, operator: Browser, parts: Parts) -> None:
    panda_id = world.jobs["failed"]
    fields = form(operator, parts, **hidden_of(operator.json(f"/jobs/{panda_id}/retry")["data"]["sheet"]))
    world.sql("UPDATE jobs SET attempt_nr = 2 WHERE panda_id = %(id)s", id=panda_id)

    stale = operator.post(f"/jobs/{panda_id}/retry", **fields)

    assert (stale.status_code, "failed again since this sheet was made" in stale.text) == (409, True)
    assert world.count("SELECT count(*) FROM jobs WHERE panda_id = %(id)s AND status = 'failed'", id=panda_id) == 1
    assert world.count("SELECT count(*) FROM audit_log") == 0


def test_actions_are_watched_and_opened_by_those_who_may_see_them(world: World, parts: Parts, token: Token) -> None:
    alice = Browser(parts, token("alice", "user"))
    sheet = alice.json("/jobs/bulk/hold?q=status:activated")["data"]["sheet"]
    done = alice.post("/jobs/bulk/hold", **form(alice, parts, **hidden_of(sheet)))
    number = int(done.headers["location"].partition("?")[0].rpartition("/")[2])
    opens = {}
    for name, role in (("alice", "user"), ("bob", "user"), ("vic", "viewer"), ("olga", "operator")):
        seen = may_watch(
            parts.reader, Session(Identity(name, frozenset({Role(role)})), "", 0, ""), [f"action:{number}"]
        )
        status = Browser(parts, token(name, role)).get(f"/jobs/actions/{number}").status_code
        opens[name] = (seen, status)

    assert opens == {"alice": (True, 200), "bob": (False, 403), "vic": (True, 200), "olga": (True, 200)}


def test_one_person_keeps_nobody_else_from_watching(parts: Parts) -> None:
    hub, loop = Hub(parts.reader, MAX_OF_ONE + 10), asyncio.new_event_loop()
    try:
        alices = [hub.add(Watcher(["overview"], loop, "alice"), None) for _ in range(MAX_OF_ONE + 5)]
        bobs = hub.add(Watcher(["overview"], loop, "bob"), None)
    finally:
        loop.close()

    assert (sum(alices), alices[-1], bobs) == (MAX_OF_ONE, False, True)
