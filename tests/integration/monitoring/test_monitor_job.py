"""What the page of one job offers: each deed where it applies, to whom may, through a sheet."""

import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from markupsafe import escape

from monitoring.pages.page import Parts
from tests.integration.monitoring.conftest import Browser, Token, World
from tests.integration.monitoring.test_monitor_acts import form

MOVES = ("hold", "release", "priority", "rebroker", "debug")


def offered(browser: Browser, panda_id: int) -> set[str]:
    page = browser.get(f"/jobs/{panda_id}").text
    return {verb for verb in (*MOVES, "retry", "cancel") if f'href="/jobs/{panda_id}/{verb}"' in page}


def test_a_deed_is_offered_where_it_applies_and_its_sheet_agrees(world: World, operator: Browser) -> None:
    world.sql("UPDATE job_due SET waits_for = 'operator' WHERE panda_id = %(id)s", id=world.jobs["defined"])
    expected = {
        "pending": {"hold", "priority", "cancel"}, "defined": {"release", "priority", "cancel"},
        "activated": {"hold", "priority", "rebroker", "cancel"}, "running": {"cancel"},
        "failed": {"retry"}, "finished": set(),
    }  # fmt: skip

    assert {status: offered(operator, world.jobs[status]) for status in expected} == expected
    for status, verbs in expected.items():
        for verb in MOVES[:4]:
            sheet = operator.json(f"/jobs/{world.jobs[status]}/{verb}")["data"]["sheet"]
            assert sheet["is_possible"] == (verb in verbs), (status, verb)
            assert sheet["note"] or sheet["is_possible"]


@pytest.mark.parametrize("role", ["viewer", "user", "production", "operator"])
def test_nobody_is_offered_what_they_may_not_do(world: World, parts: Parts, token: Token, role: str) -> None:
    somebody = Browser(parts, token(f"some-{role}", role))

    deeds = {"hold", "priority", "rebroker", "cancel"} if role == "operator" else set()
    assert offered(somebody, world.jobs["activated"]) == deeds
    assert offered(Browser(parts, token("alice", "user")), world.jobs["activated"]) == {
        "hold", "priority", "rebroker", "cancel"
    }  # fmt: skip


def test_a_job_is_held_and_released_from_its_page(world: World, operator: Browser, parts: Parts, token: Token) -> None:
    panda_id = world.jobs["activated"]
    sheet = operator.json(f"/jobs/{panda_id}/hold")["data"]["sheet"]
    held = [operator.post(f"/jobs/{panda_id}/hold", **form(operator, parts)).status_code for _ in range(2)]
    again = operator.get(f"/jobs/{panda_id}/hold").text
    alice = Browser(parts, token("alice", "user"))

    assert (sheet["cli"], f"panda.hold({panda_id})" in sheet["python"]) == (f"panda hold {panda_id}", True)
    assert held == [303, 303]
    assert "It is held already" in again
    assert offered(operator, panda_id) == {"release", "priority", "cancel"}
    assert "held by olga, and an operator" in alice.get(f"/jobs/{panda_id}/release").text
    assert alice.post(f"/jobs/{panda_id}/release", **form(alice, parts)).status_code == 409
    assert dict(operator.json(f"/jobs/{panda_id}/release")["data"]["sheet"]["facts"])["Because"] == "because"
    assert operator.post(f"/jobs/{panda_id}/release", **form(operator, parts, key="k2")).status_code == 303
    assert offered(operator, panda_id) == {"hold", "priority", "rebroker", "cancel"}
    assert world.count("SELECT count(*) FROM audit_log WHERE target = %(t)s", t=f"job {panda_id}") == 2
    assert world.count("SELECT count(*) FROM audit_log WHERE action IN ('hold', 'release') AND reason = 'because'") == 2


def test_a_job_gets_another_priority_from_its_page(world: World, operator: Browser, parts: Parts) -> None:
    panda_id = world.jobs["activated"]
    path = f"/jobs/{panda_id}/priority"

    for k, wrong in enumerate(("", "lots", "10001", "-10001", "1.5", "0" * 9 + "99999", "9" * 5000)):
        assert operator.post(path, **form(operator, parts, key=f"w{k}", priority=wrong)).status_code == 400, wrong
    done = operator.post(path, **form(operator, parts, priority="-7"))
    running = operator.post(f"/jobs/{world.jobs['running']}/priority", **form(operator, parts, key="k2", priority="5"))

    assert (done.status_code, running.status_code) == (303, 409)
    assert world.count("SELECT priority FROM jobs WHERE panda_id = %(id)s", id=panda_id) == -7
    assert world.count("SELECT count(*) FROM audit_log WHERE action = 'priority'") == 1
    assert "has priority -7" in operator.get(done.headers["location"]).text


def test_a_job_is_brokered_elsewhere_from_its_page(world: World, operator: Browser, parts: Parts) -> None:
    panda_id = world.jobs["activated"]
    path = f"/jobs/{panda_id}/rebroker"
    sheet = operator.json(f"{path}?exclude=north")["data"]["sheet"]

    done = operator.post(path, **form(operator, parts, exclude="north", more="SOUTH*,west*"))

    assert [value for value, _ in sheet["choice"]["options"]] == ["", "north", "NORTH"]
    assert sheet["cli"] == f"panda rebroker {panda_id} --exclude north"
    assert "exclude=['north']" in sheet["python"]
    assert operator.json(f"{path}?exclude=no-such-place")["data"]["sheet"]["choice"]["value"] == ""
    assert done.status_code == 303
    assert world.count("SELECT count(*) FROM job_avoids WHERE panda_id = %(id)s", id=panda_id) == 3
    assert world.count("SELECT count(*) FROM jobs WHERE panda_id = %(id)s AND status = 'defined'", id=panda_id) == 1
    assert operator.post(path, **form(operator, parts, key="k2", more="x" * 300)).status_code == 400
    wrong = operator.post(path, **form(operator, parts, key="k3", more="nroth"))
    assert (wrong.status_code, "did you mean &#39;north&#39;" in wrong.text) == (400, True)


def test_debug_mode_is_offered_where_upstreams_pilots_may_come(world: World, parts: Parts, token: Token) -> None:
    panda_id = world.jobs["running"]
    settings = replace(parts.settings, upstream=replace(parts.settings.upstream, enabled=True))
    with_upstream = replace(parts, settings=settings)
    olga, here = Browser(parts, token("olga", "operator")), Browser(with_upstream, token("olga", "operator"))

    assert "debug" not in offered(olga, panda_id)
    assert "Native pilots send their logs" in olga.get(f"/jobs/{panda_id}/debug").text
    assert olga.post(f"/jobs/{panda_id}/debug", **form(olga, parts, on="yes")).status_code == 409
    assert "debug" in offered(here, panda_id)
    for key, word, is_on in (("k1", "yes", True), ("k2", "no", False)):
        sheet = here.json(f"/jobs/{panda_id}/debug")["data"]["sheet"]
        assert f"setDebugMode({panda_id}, {is_on}, False)" in sheet["python"]
        assert here.post(f"/jobs/{panda_id}/debug", **form(here, parts, key=key, on=word)).status_code == 303
        assert world.count("SELECT is_debug::int FROM upstream_jobs WHERE panda_id = %(id)s", id=panda_id) == is_on
    assert here.post(f"/jobs/{panda_id}/debug", **form(here, parts, key="k3", on="maybe")).status_code == 400
    failed = here.post(f"/jobs/{world.jobs['failed']}/debug", **form(here, parts, key="k4", on="yes"))
    assert failed.status_code == 409
    assert world.count("SELECT count(*) FROM audit_log WHERE action = 'debug'") == 2


def test_the_payload_is_told_as_a_shell_takes_it_and_what_was_asked_in_words(world: World, operator: Browser) -> None:
    panda_id = world.jobs["running"]
    spec = '{"command": ["sh", "-c", "echo \\"a  b\\" $HOME; it\'s"], "env": {"GREETING": "<b>"}, "direct_read": true}'
    world.sql("UPDATE jobs SET spec = %(spec)s WHERE panda_id = %(id)s", spec=spec, id=panda_id)
    world.sql("""UPDATE jobsets SET document = document || '{"kind": "production", "brokerage": {"sites": ["N*"]}}'""")
    world.sql(
        'INSERT INTO upstream_jobs (panda_id, attributes) VALUES (%(id)s, \'{"container_name": "alma:9"}\')',
        id=panda_id,
    )

    page = operator.get(f"/jobs/{panda_id}").text
    data = operator.json(f"/jobs/{panda_id}")["data"]

    assert shlex.split(data["payload"]) == ["sh", "-c", 'echo "a  b" $HOME; it\'s']
    assert page.count(f'data-copy="{escape(data["payload"])}"') == 2
    for word, value in (("Kind", "production"), ("Only at", "N*"), ("Container image", "alma:9"), ("Cores", "4"),
                        ("Memory", "8 GB"), ("Inputs", "read where they lie")):  # fmt: skip
        assert f"<dt>{word}</dt><dd>{value}</dd>" in page, word
    assert '<td class="mono long">&lt;b&gt;</td>' in page
    assert f'<a href="/jobs/{panda_id}?json' in page


def logged(world: World, parts: Parts, panda_id: int, content: str) -> str:
    """The page of a job that wrote this."""
    folder = Path(parts.settings.data_dir) / "spool" / "logs" / "000000" / "000"
    folder.mkdir(parents=True)
    (folder / f"{panda_id}.1.payload.stderr").write_text(content)
    world.sql(
        "INSERT INTO job_logs VALUES (%(id)s, 1, 'payload.stderr', %(n)s, panda_now())", id=panda_id, n=len(content)
    )
    return f"/jobs/{panda_id}"


@pytest.mark.parametrize("n_after", [10, 400, 9_000])
def test_the_first_error_is_one_click_away_however_far_up_it_stands(
    world: World, operator: Browser, parts: Parts, n_after: int
) -> None:
    lines = [
        *(f"start {k}" for k in range(50)),
        "ERROR the first",
        *(f"line {k}" for k in range(n_after)),
        "ERROR last",
    ]
    path = logged(world, parts, world.jobs["failed"], "\n".join(lines) + "\n")

    link = re.search(r'<a class="bad" href="([^"]*)#first-error">', operator.get(path).text)
    assert link is not None
    page = operator.get(path + link[1].replace("&amp;", "&")).text
    at_error = operator.json(f"{path}?at=error")["data"]["log"]

    assert bool(link[1]) == (n_after > 200)
    assert page.index('id="first-error"') < page.index("ERROR the first") < page.index('id="first-error"') + 120
    assert at_error["lines"].index("ERROR the first") == 20
    assert at_error["numbers"][20] == 51
    assert len(at_error["lines"]) <= 200


def test_a_log_without_an_error_says_so_and_a_part_of_it_can_be_fetched(
    world: World, operator: Browser, parts: Parts
) -> None:
    path = logged(world, parts, world.jobs["failed"], "0123456789\n")
    raw = f"{path}/logs/1/payload.stderr"

    assert "No line tells of an error" in operator.get(f"{path}?at=error").text
    for asked, status, text in (("2-4", 206, "234"), ("8-", 206, "89\n"), ("-3", 206, "89\n"), ("99-", 416, None)):
        part = operator._client.simulate_get(raw, headers={"Range": f"bytes={asked}"}, cookies=operator.cookies)
        assert part.status_code == status, asked
        assert text is None or (part.text, part.headers["content-range"].split("/")[1]) == (text, "11")
    assert operator.get(raw).headers["accept-ranges"] == "bytes"


def test_saved_views_stand_on_the_list_of_jobs(world: World, operator: Browser, parts: Parts) -> None:
    assert "/jobs?q=%40lost" not in operator.get("/jobs").text

    operator.post("/me/views/new", **form(operator, parts, reason="", name="lost", filter="status:failed"))

    assert 'href="/jobs?q=%40lost" title="status:failed"' in operator.get("/jobs").text
