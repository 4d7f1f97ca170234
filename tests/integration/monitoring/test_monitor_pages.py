"""What every page promises: HTML for people, the same data as JSON, and never a failure of the whole."""

import html
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote

import pytest
from click.testing import CliRunner
from sqlalchemy import create_engine

from monitoring.celery_side import Chain
from monitoring.pages import jobs
from monitoring.pages.page import Parts
from monitoring.reads import queries
from monitoring.reads.blocks import Memory, Reader
from panda.cli.main import panda
from panda.cli.selectors import parse
from panda.db.session import begin_of, make_engine, rows, run
from panda.jobs.quotas import table
from panda.states import JobStatus, Stage
from tests.integration.monitoring.conftest import CHAIN, CORPUS, JOBSET, NASTY, PAGES, Browser, CeleryStub, Token, World

UNKNOWN_TASK = "3c04f63e-9999-4222-8333-9f2c00000000"
FAILED_ONCE = "INSERT INTO error_hours SELECT date_trunc('hour', panda_now()), %(code)s, 'stage_out', 'south', %(n)s, 1"


def test_a_container_shows_its_datasets_and_what_they_have(world: World, operator: Browser) -> None:
    world.furnish()

    page = operator.json("/datasets/user.alice:all?json")["data"]

    assert (page["dataset"]["kind"], page["dataset"]["n_files"], page["dataset"]["size_bytes"]) == ("container", 1, 12)
    assert [member["name"] for member in page["members"]] == ["out"]
    assert [rule["storage"] for rule in operator.json("/datasets/user.alice:out?json")["data"]["rules"]] == [
        "NORTH-DISK"
    ]
    assert "A container of datasets" in operator.get("/datasets/user.alice:all").text


def test_a_page_is_html_and_the_same_data_is_json(world: World, operator: Browser) -> None:
    world.furnish()
    for page in PAGES:
        path = page.format(jobset=world.jobset_id)

        html = operator.get(path)
        document = operator.json(path + ("&" if "?" in path else "?") + "json")

        assert html.status_code == 200, path
        assert html.headers["content-type"].startswith("text/html"), path
        assert set(document) == {"data", "as_of"}, path
        assert document["as_of"].endswith("Z"), path


def test_what_payloads_say_is_not_on_everybodys_overview(world: World, parts: Parts, token: Token) -> None:
    world.furnish("a secret")
    alice = Browser(parts, token("alice", "user"))

    data = alice.json("/")["data"]

    assert "pilot:1137" in {row["error_code"] for row in data["errors"]}
    assert not any("message" in row for row in data["errors"])
    assert data["incidents"] == []
    assert "no room" not in alice.get("/").text


@pytest.mark.parametrize("status", list(JobStatus))
def test_a_job_of_each_status_has_a_page(world: World, operator: Browser, status: JobStatus) -> None:
    page = operator.get(f"/jobs/{world.jobs[status]}")
    data = operator.json(f"/jobs/{world.jobs[status]}")["data"]

    assert page.status_code == 200
    assert f"Job {world.jobs[status]}" in page.text
    assert data["job"]["status"] == status
    assert [row["stage"] for row in data["chain"]] == list(Stage)


def test_the_chain_of_a_failed_job_shows_where_it_broke(world: World, operator: Browser) -> None:
    chain = operator.json(f"/jobs/{world.jobs['failed']}")["data"]["chain"]

    assert [row["mark"] for row in chain] == ["done"] * 5 + ["failed", "todo"]


def test_a_kill_shows_its_proof_and_a_job_how_much_more_may_go_wrong(world: World, operator: Browser) -> None:
    panda_id = world.jobs["running"]
    before = operator.get(f"/jobs/{panda_id}").text
    world.sql(
        "UPDATE jobs SET kill_requested_at = panda_now(), kill_delivered_at = panda_now(), kill_by = 'olga'"
        " WHERE panda_id = %(id)s",
        id=panda_id,
    )

    told = operator.get(f"/jobs/{panda_id}").text
    world.sql("UPDATE jobs SET kill_confirmed_at = panda_now() WHERE panda_id = %(id)s", id=panda_id)
    confirmed = operator.get(f"/jobs/{panda_id}").text

    assert "<dt>Further attempts</dt>" in before
    assert "<dt>Kill</dt>" not in before
    assert "<dt>Kill</dt><dd>delivered · asked for" in told
    assert "by olga · told" in told
    assert "<dt>Kill</dt><dd>confirmed · asked for" in confirmed


def test_a_job_sets_page_shows_its_ledger(world: World, operator: Browser) -> None:
    world.sql(
        "UPDATE jobsets SET n_jobs = 13, n_expanded = 13, n_open = 9, n_finished = 1, n_failed = 1, n_cancelled = 2 WHERE jobset_id = %(id)s",
        id=world.jobset_id,
    )

    shown = operator.get(f"/jobsets/{world.jobset_id}").text

    assert "accepted 13 = waiting 4 + running 5 + final 4" in shown


def test_what_a_page_says_to_type_are_commands_that_exist(world: World, operator: Browser) -> None:
    shown: set[str] = set()
    for path in (f"/jobs/{world.jobs['failed']}", f"/jobs/{world.jobs['running']}", f"/jobsets/{world.jobset_id}"):
        shown |= set(re.findall(r'data-copy="panda ([^"]+)"', operator.get(path).text))

    assert f"retry set:{world.jobset_id}" in shown
    for line in shown:
        verb, *selectors = line.split()
        assert CliRunner().invoke(panda, [verb, "--help"]).exit_code == 0, line
        assert parse(selectors), line


def test_a_chain_that_flower_remembers_is_a_link(world: World, operator: Browser, celery: CeleryStub) -> None:
    forgotten = operator.get(f"/jobs/{world.jobs['defined']}").text
    celery.tasks.add(CHAIN)
    remembered = operator.get(f"/jobs/{world.jobs['defined']}").text

    assert f'href="/flower/task/{CHAIN}"' not in forgotten
    assert f'href="/flower/task/{CHAIN}"' in remembered


def test_the_list_by_status_holds_exactly_the_jobs_of_that_status(world: World, operator: Browser) -> None:
    for status in JobStatus:
        found = operator.json(f"/jobs?status={status}")["data"]["jobs"]

        assert [job["panda_id"] for job in found] == [world.jobs[status]]


def test_pages_of_the_list_hold_every_job_once(world: World, operator: Browser) -> None:
    for panda_id in range(100, 230):
        world.job(panda_id, "pending")

    seen: list[int] = []
    before = ""
    while True:
        data = operator.json(f"/jobs?jobset={world.jobset_id}{before}")["data"]
        seen += [job["panda_id"] for job in data["jobs"]]
        if data["next"] is None:
            break
        before = f"&before={data['next']}"

    assert seen == sorted([*range(100, 230), *world.jobs.values()], reverse=True)


def test_a_list_stops_looking_and_goes_on_where_it_stopped(
    world: World, operator: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "LISTING", replace(jobs.LISTING, noun=replace(jobs.JOBS, window=3)))

    first = operator.json("/jobs?status=pending")["data"]
    below, found = first["next"], list(first["jobs"])
    while below is not None:
        data = operator.json(f"/jobs?status=pending&before={below}")["data"]
        below, found = data["next"], found + data["jobs"]

    assert first["next"] is not None
    assert first["jobs"] == []
    assert [job["panda_id"] for job in found] == [world.jobs["pending"]]


def test_the_overview_counts_and_explains(world: World, operator: Browser) -> None:
    world.sql(
        "INSERT INTO count_history SELECT panda_now() - make_interval(mins => m), s, 5 "
        "FROM generate_series(1, 50) m, unnest(ARRAY['running', 'activated']) s"
    )
    world.sql(FAILED_ONCE, code="pilot:1137", n=1)
    world.sql("INSERT INTO stage_runs VALUES (date_trunc('minute', panda_now()), 'broker', 60, 2, 120, 9)")
    world.sql(
        "INSERT INTO incidents (component, level, key, message, first_at, last_at) "
        "VALUES ('relay', 'warning', 'k', 'the relay was late', panda_now(), panda_now())"
    )

    data = operator.json("/")["data"]
    page = operator.get("/")

    assert data["jobs"]["running"] == 1
    assert data["kpis"]["running"] == 3
    assert data["kpis"]["cores_in_use"] == 12
    assert data["chart"]["hours"] == 1
    assert {row["stage"]: row["failed"] for row in data["stages"]}["broker"] == 2
    assert [(row["error_code"], row["n"]) for row in data["errors"]] == [("pilot:1137", 1)]
    assert [row["name"] for row in data["queues"]] == ["north"]
    assert "the relay was late" in page.text
    assert '<path class="fill c-running"' in page.text
    assert not data["is_first_run"]


def test_a_pilot_that_is_busy_for_long_is_alive(world: World, operator: Browser) -> None:
    """A pilot asks when it has room; one that works for hours is heard of through its leases alone."""
    world.sql(
        "UPDATE pilots SET last_seen_at = panda_now() - interval '3 hours', last_panda_ids = %(ids)s",
        ids=[world.jobs["running"]],
    )

    busy = operator.json("/")["data"]
    keys = [trouble["key"] for trouble in operator.json("/troubles")["data"]["troubles"]]
    fleet = operator.json("/queues/north")["data"]["fleet"]
    told = next(part["told"] for part in busy["health"] if part["name"] == "Pilots")
    page = operator.get("/pilots/pilot-1").text
    world.sql("UPDATE leases SET lease_until = panda_now() - interval '1 s'")
    gone = operator.json("/")["data"]

    assert (busy["queues"][0]["pilots"], busy["kpis"]["cores_of_pilots"], told) == (1, 8, "1 · 8 cores")
    assert "pilots north" not in keys
    assert [(row["n"], row["n_alive"]) for row in fleet] == [(1, 1)]
    assert "busy: it asks when it has room" in page
    assert gone["queues"][0]["pilots"] == 0
    assert "pilots north" in [trouble["key"] for trouble in operator.json("/troubles")["data"]["troubles"]]


def test_jobs_that_try_a_queue_hit_nobody_and_those_that_it_gave_back_wait_for_it(
    world: World, operator: Browser
) -> None:
    for n in range(5):
        world.job(1000 + n, "failed")
        world.job(1010 + n, "failed", owner="panda")
    world.job(1020, "defined")
    for statement in (
        "UPDATE jobs SET error_code = 'pilot:1333' WHERE status = 'failed' AND panda_id >= 1000",
        "UPDATE jobs SET jobset_id = 99999 WHERE owner = 'panda'",
        "INSERT INTO queue_tests (jobset_id, queue, rule, n_jobs, sent_at) VALUES (99999, 'north', '', 5, panda_now())",
        "UPDATE jobs SET computing_site = 'north' WHERE panda_id = 1020",
        "UPDATE job_due SET waits_for = 'queue' WHERE panda_id = 1020",
        "UPDATE queues SET status = 'test' WHERE name = 'north'",
    ):
        world.sql(statement)

    found = {trouble["key"]: trouble for trouble in operator.json("/troubles")["data"]["troubles"]}
    full, closed = found["code pilot:1333"], found["closed north"]
    [[words, link]] = full["acts"]

    assert full["hits"] == "5 jobs of alice"
    assert full["told"].endswith("north is test already.")
    assert words == "Retry them…"
    assert "<h1>Retry 5 jobs" in operator.get(link).text
    assert closed["hits"].endswith("1 called back that fit no other queue")


def test_after_a_retry_the_overview_still_counts_the_attempts_that_failed(world: World, operator: Browser) -> None:
    """The status of a job is that of its newest attempt: counters of failed jobs lose those that were retried."""
    world.sql(FAILED_ONCE, code="pilot:1137", n=6)
    world.sql("INSERT INTO job_count_deltas VALUES ('failed', 'north', -1)")
    for hours, n in ((3, 2), (2, 5), (1, 9)):
        world.sql("INSERT INTO count_history SELECT date_trunc('hour', panda_now()) - make_interval(hours => %(h)s), 'finished', %(n)s",
                  h=hours, n=n)  # fmt: skip

    data, page = operator.json("/")["data"], operator.get("/").text

    assert data["jobs"].get("failed", 0) == 0
    assert data["kpis"]["ended"]["failed"] == sum(row["n"] for row in data["errors"]) == 6
    assert data["kpis"]["ended"]["failure_rate"] == 6 / 7
    assert "6 attempts failed" in page
    assert data["kpis"]["lines"]["failure_rate"] == [0.0, 0.0]


def test_a_node_is_called_a_black_hole_only_where_it_is_one(world: World, operator: Browser) -> None:
    for panda_id in range(500, 504):
        world.job(panda_id, "finished", archived=True, name="wn-good")
    world.sql(
        "INSERT INTO node_failures (hour, queue, node, n, wall_s) VALUES (date_trunc('hour', panda_now()), 'north', 'wn-bad', 9, 18)"
    )

    good, bad = operator.get("/nodes/north/wn-good"), operator.get("/nodes/north/wn-bad")

    assert (good.status_code, bad.status_code) == (200, 200)
    assert "black hole" not in good.text
    assert "A black hole" in bad.text
    assert "after 2.0 s on average" in bad.text


def test_the_errors_of_the_day_say_what_their_newest_job_said(world: World, operator: Browser) -> None:
    world.sql(FAILED_ONCE, code="pilot:1137", n=2)
    world.sql(FAILED_ONCE, code="payload:3", n=1)
    world.sql("INSERT INTO error_hours SELECT panda_now() - interval '2 days', 'pilot:1', 'dispatch', 'north', 9, 1")
    for panda_id in (500, 501):
        world.job(panda_id, "failed", archived=True)
    world.sql("UPDATE jobs_archive SET error_code = 'payload:3', error_message = 'no tree' WHERE panda_id = 501")

    errors = operator.json("/")["data"]["errors"]

    assert {row["error_code"]: row["n"] for row in errors} == {"pilot:1137": 2, "payload:3": 1}
    assert {row["message"] for row in errors if row["panda_id"] == 501} == {"no tree"}
    assert all(sum(row["trend"]) == row["n"] for row in errors)


def test_the_first_visit_shows_how_to_submit(parts: Parts, token: Token) -> None:
    page = Browser(parts, token("olga", "operator")).get("/")

    assert page.status_code == 200
    for command in ("panda submit -- echo hello", "panda status", "panda logs last"):
        assert command in page.text


class Tags(HTMLParser):
    """What of a page a browser would run: scripts of its own, handlers, addresses that are scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.would_run: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "img":
            self.would_run.append(tag)
        if tag == "script" and not given.get("src", "").startswith("/static/"):
            self.would_run.append(tag)
        self.would_run += [name for name in given if name.startswith("on")]
        self.would_run += [value for name, value in given.items()
                           if name in ("href", "src", "action", "formaction") and value.strip().lower().startswith("javascript")]  # fmt: skip
        if "data-plot" in given:
            json.loads(given["data-plot"])


@pytest.mark.parametrize("text", CORPUS)
def test_everything_that_people_write_is_escaped(world: World, operator: Browser, parts: Parts, text: str) -> None:
    panda_id = world.job(900, "failed", name=text)
    world.sql("UPDATE jobsets SET name = %(n)s", n=text)
    world.sql("UPDATE queues SET status_reason = %(n)s, status = 'test'", n=text)
    world.sql(
        "INSERT INTO incidents (component, level, key, message, first_at, last_at) "
        "VALUES (%(n)s, 'error', 'k', %(n)s, panda_now(), panda_now())",
        n=text,
    )
    world.sql(
        "INSERT INTO job_files (panda_id, kind, lfn, did, status) VALUES (900, 'input', %(n)s, %(n)s, 'ready')", n=text
    )
    world.sql(
        "INSERT INTO pilots (pilot_id, queue, node, version, cores, memory_mb, started_at, last_seen_at, nothing_because)"
        " VALUES (%(n)s, 'north', %(n)s, %(n)s, 8, 16000, panda_now(), panda_now(), %(n)s)",
        n=text,
    )
    world.sql("INSERT INTO node_failures VALUES (date_trunc('hour', panda_now()), 'north', %(n)s, 9, 18)", n=text)
    folder = Path(parts.settings.data_dir) / "spool" / "logs" / "000000" / "000"
    folder.mkdir(parents=True)
    (folder / "900.1.payload.stderr").write_text(f"ERROR {text}\n")
    world.sql("INSERT INTO job_logs VALUES (900, 1, 'payload.stderr', 100, panda_now())")

    world.furnish(text)
    world.sql("UPDATE files SET lfn = %(n)s WHERE dataset_id = 1", n=text)
    pages = [page.format(jobset=world.jobset_id) for page in PAGES]
    shown = 0
    for path in (
        *pages,
        f"/jobs/{panda_id}",
        f"/jobs/{panda_id}?find=ERROR",
        f"/jobs/{panda_id}/retry",
        "/jobs?cols=node&cols=pilot&cols=name",
        *(f"/{place}/{quote(text, safe='')}" for place in ("nodes/north", "pilots", "errors", "users", "datasets")),
        f"/search?q={quote(text)}",
        f"/jobs?q={quote(text)}",
        f"/jobs?q=name:{quote(json.dumps(text))}",
    ):
        page = operator.get(path).text
        assert Tags(page).would_run == [], path
        assert ">49<" not in page, path
        shown += html.escape(text, quote=False).replace("\x1b", "")[:12] in page.replace("\x1b", "")

    world.sql("UPDATE datasets SET name = %(n)s WHERE dataset_id = 1", n=text)
    for path in ("/datasets", "/me", "/users/alice", "/transfers", f"/jobsets/{world.jobset_id}"):
        assert Tags(operator.get(path).text).would_run == [], path
    assert shown > 10


def test_no_page_needs_an_inline_script_or_style(world: World, operator: Browser) -> None:
    world.furnish()
    for path in (*(page.format(jobset=world.jobset_id) for page in PAGES), "/login"):
        page = operator.get(path)

        assert "default-src 'self'" in page.headers["content-security-policy"]
        assert "unsafe-inline" not in page.headers["content-security-policy"]
        assert " style=" not in page.text, path
        assert " onclick=" not in page.text, path
        assert "<style" not in page.text, path
        assert "http://" not in page.text.replace("http://www.w3.org/", ""), path
        assert "https://" not in page.text, path


def test_a_log_is_shown_and_served_as_plain_text(world: World, operator: Browser, parts: Parts) -> None:
    panda_id = world.jobs["failed"]
    lines = [f"line {k}" for k in range(400)] + ["ERROR <b>the disk is full</b>"]
    content = "\n".join(lines) + "\n"
    folder = Path(parts.settings.data_dir) / "spool" / "logs" / "000000" / "000"
    folder.mkdir(parents=True)
    (folder / f"{panda_id}.1.payload.stderr").write_text(content)
    world.sql(
        "INSERT INTO job_logs VALUES (%(id)s, 1, 'payload.stderr', %(n)s, panda_now())", id=panda_id, n=len(content)
    )

    log = operator.json(f"/jobs/{panda_id}")["data"]["log"]
    page = operator.get(f"/jobs/{panda_id}").text
    raw = operator.get(f"/jobs/{panda_id}/logs/1/payload.stderr")

    assert len(log["lines"]) == 200
    assert not log["is_whole"]
    assert "ERROR &lt;b&gt;the disk is full&lt;/b&gt;</div>" in page
    found = operator.json(f"/jobs/{panda_id}?find=LINE+39")["data"]["log"]
    assert (found["n_found"], found["numbers"][0]) == (11, 40)
    assert raw.text == content
    assert raw.headers["content-type"] == "text/plain; charset=utf-8"
    assert raw.headers["x-content-type-options"] == "nosniff"
    assert operator.get(f"/jobs/{panda_id}/logs/1/..%2f..%2ftoken").status_code in (400, 404)


def test_an_unknown_job_has_a_page_that_helps(world: World, operator: Browser) -> None:
    unknown = operator.get("/jobs/123456")
    promised = operator.get("/jobs/950")
    as_json = operator.get("/jobs/123456?json")

    assert unknown.status_code == 404
    assert "There is no job 123456" in unknown.text
    assert "panda status" in unknown.text
    assert promised.status_code == 404
    assert "is not made yet" in promised.text
    assert f"/jobsets/{world.jobset_id}" in promised.text
    assert as_json.status_code == 404
    assert as_json.headers["content-type"] == "application/problem+json"


def test_a_page_that_is_not_there_keeps_the_menu_of_its_reader(
    world: World, operator: Browser, parts: Parts, token: Token
) -> None:
    alice = Browser(parts, token("alice", "user"))
    operator.get("/")

    for path in ("/nowhere", "/jobs/123456", "/search?q=nothing-like-that", "/jobs?status=runing"):
        mine, hers = operator.get(path).text, alice.get(path).text
        for link in ("/troubles", "/incidents", "/admin", "/audit", "/users"):
            assert f'<a href="{link}"' in mine, (path, link)
            assert f'<a href="{link}"' not in hers, (path, link)
        assert re.search(r'<a href="/jobs"[^>]*>Jobs<i>\d+</i>', mine), path


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/jobs?status=runing", 400), ("/jobs?stauts=running", 400), ("/jobs?q=stauts:running", 400), ("/jobs?q=(", 400),
        ("/errors?hours=5", 400), ("/usage?by=planet", 400), ("/queues/nowhere", 404), ("/sites/nowhere", 404),
        ("/pilots/nobody", 404), ("/datasets/nothing", 400), ("/datasets/a:b", 404), ("/incidents/5", 404),
        ("/users/nobody", 404), ("/jobs/bulk/explode?q=status:failed", 400), ("/jobs?before=x", 400), ("/jobs?jobset=-1", 200),
        ("/?hours=5", 400), ("/nowhere", 404), ("/jobs/99999999999999999999999", 404), ("/jobsets/77777", 404),
        ("/jobsets/99999999999999999999999", 404), ("/static/nothing.js", 404), ("/jobs/1/logs/1/x", 404),
        ("/jobs/7?attempt=x", 400), ("/jobs/7?log=nothing", 200), ("/jobs?queue=%00", 400), ("/search?q=%00", 404),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_answered_with_a_reason(
    world: World, operator: Browser, path: str, status: int
) -> None:
    answer = operator.get(path)

    assert answer.status_code == status
    assert answer.text


def test_a_queue_tells_how_pilots_asked_and_what_they_had_too_little_of(world: World, operator: Browser) -> None:
    none = operator.json("/queues/north?json")["data"]
    assert (none["asks"], none["misfits"]) == ([], [])
    world.sql("UPDATE shapes SET tags = '{avx512}' WHERE shape_id = 1")
    for shape_id, word, n, most, hours in (
        (0, "got", 5, 0, 0), (0, "nothing_fits", 1200, 0, 0), (0, "nothing_fits", 40, 0, 30), (0, "paused", 2, 0, 2),
        (1, "memory_mb", 1100, 4000, 0), (1, "memory_mb", 50, 6000, 2), (1, "tags", 30, 0, 0),
    ):  # fmt: skip
        world.sql(
            "INSERT INTO dispatch_counts VALUES (date_trunc('hour', panda_now()) - make_interval(hours => %(hours)s),"
            " 'north', %(shape_id)s, %(word)s, %(n)s, %(most)s, panda_now())",
            shape_id=shape_id, word=word, n=n, most=most, hours=hours,
        )  # fmt: skip
    world.sql("INSERT INTO dispatch_counts VALUES (panda_now(), 'south', 0, 'got', 7, 0, panda_now())")

    data = operator.json("/queues/north?json")["data"]
    page = operator.get("/queues/north").text

    assert [(each["word"], each["n"]) for each in data["asks"]] == [("nothing_fits", 1200), ("got", 5), ("paused", 2)]
    assert [(each["word"], each["n"], each["needs"], each["most"]) for each in data["misfits"]] == [
        ("memory_mb", 1150, 8000, 6000), ("tags", 30, ["avx512"], 0),
    ]  # fmt: skip
    assert "nothing fitted" in page
    assert "<td>memory</td>" in page
    assert '<td class="n">8 GB</td><td class="n">6 GB</td>' in page


def test_a_mistyped_status_is_corrected(world: World, operator: Browser) -> None:
    assert "did you mean &#39;running&#39;" in operator.get("/jobs?status=runing").text


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("7", "/jobs/7"), ("7 000", "/jobs/7000"), ("set:3", "/jobsets/3"), ("north", "/queues/north"),
        ("alice", "/jobsets?owner=alice"), (UNKNOWN_TASK, f"/flower/task/{UNKNOWN_TASK}"), ("", "/"),
        ("panda why 7", "/jobs/7"),
    ],
)  # fmt: skip
def test_search_finds_by_number_name_or_celery_id(world: World, operator: Browser, text: str, target: str) -> None:
    answer = operator.get("/search", params={"q": text})

    assert answer.status_code == 303
    assert answer.headers["location"] == target


def test_a_job_set_is_found_by_its_name(world: World, operator: Browser, parts: Parts, token: Token) -> None:
    def target(browser: Browser) -> str | None:
        return browser.get("/search", params={"q": "analysis"}).headers.get("location")

    alone = target(operator)
    bob = Browser(parts, token("bob", "user"))

    assert alone == f"/jobsets/{world.jobset_id}"
    assert target(bob) is None
    with world.begin() as connection:
        document = json.dumps({"name": "analysis", "jobs": []})
        rows(
            connection,
            JOBSET.replace("'key-' || %(name)s", "'another'"),
            {"name": "analysis", "owner": "bob", "document": document},
        )
    assert target(operator) == "/jobsets?q=name%3Aanalysis"
    assert {row["owner"] for row in operator.json("/jobsets?name=analysis")["data"]["jobsets"]} == {"alice", "bob"}
    assert [row["owner"] for row in bob.json("/jobsets?name=analysis")["data"]["jobsets"]] == ["bob"]
    nothing = operator.get("/jobsets?q=name:hello+created:24h").text
    assert "Nothing fits" in nothing
    assert all(word in nothing for word in (">created:1w</a>", ">without name:hello</a>", ">show all</a>"))


def test_a_celery_id_leads_to_the_jobs_that_its_chain_moved(
    world: World, operator: Browser, celery: CeleryStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, later = "3c04f63e-2222-4222-8333-9f2c00000000", "3c04f63e-3333-4222-8333-9f2c00000000"
    panda_id = world.jobs["running"]
    celery.chains[later] = Chain(other, [panda_id])

    def target(text: str) -> str:
        return operator.get("/search", params={"q": text}).headers["location"]

    moved = {job["panda_id"] for job in operator.json(target(CHAIN))["data"]["jobs"]}
    world.event(panda_id, "starting", "running", 1, chain_id=other)
    alone = target(later)
    for k in range(20):
        world.event(world.jobs["pending"], None, "pending", k)
    monkeypatch.setattr("monitoring.pages.search.LOOK_AT", 10)
    monkeypatch.setattr("monitoring.pages.search.BEYOND", 5)

    assert moved == set(world.jobs.values()) - {world.jobs["pending"]}
    assert alone == f"/jobs/{panda_id}"
    assert target(other) == f"/flower/task/{other}"  # too long ago for a look at the newest
    assert target(later) == f"/jobs/{panda_id}"  # its job says where to look


def test_a_link_to_the_monitor_of_old_leads_to_the_job(operator: Browser) -> None:
    assert operator.get("/job?pandaid=7").headers["location"] == "/jobs/7"
    assert operator.get("/job?pandaid=x").status_code == 400
    assert operator.get("/job").status_code == 400


def test_a_user_sees_their_own_jobs_alone(world: World, parts: Parts, token: Token) -> None:
    world.job(600, "running", owner="bob")
    alice = Browser(parts, token("alice", "user"))

    mine = alice.json("/jobs")["data"]["jobs"]

    assert {job["owner"] for job in mine} == {"alice"}
    assert alice.get("/jobs/600").status_code == 403
    assert alice.get("/jobs/600/logs/1/payload.stdout").status_code == 403
    assert alice.get("/jobs?owner=bob").status_code == 403
    assert alice.get("/").status_code == 200


def test_a_users_page_says_how_they_stand_to_their_quotas(world: World, operator: Browser) -> None:
    with world.begin() as connection:
        run(connection, "INSERT INTO owner_usage VALUES ('alice', 0.5, 1800000, 12, panda_now())")
        run(connection, "INSERT INTO users (name, roles, created_at, limited_at, limit_reason)"
            " VALUES ('alice', '{user}', panda_now(), panda_now(), %(text)s)", {"text": NASTY})  # fmt: skip
        table.set_quota(connection, "limited", {"core_hours": 10, "running_cores": 9}, by="olga", reason="test")

    data, page = operator.json("/users/alice")["data"], operator.get("/users/alice").text

    quota = data["quota"]["value"] if "value" in data["quota"] else data["quota"]
    assert quota["throttled"] == "user:alice used 12 of 10 core hours of this period"
    assert {limit["name"]: limit["limit"] for limit in quota["limits"]} == {"core hours": 10, "running cores": 9}
    assert "No ready job is started: user:alice used 12 of 10 core hours" in page
    assert "queue as if submitted 30 min later" in page
    assert "limited: &lt;script&gt;" in page
    assert "limited: &lt;script&gt;" in operator.get("/users").text


def test_a_block_that_is_too_slow_does_not_cost_the_page(
    world: World, operator: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitoring.reads.blocks.STATEMENT_TIMEOUT", "SET LOCAL statement_timeout = 50")
    monkeypatch.setattr(queries, "STAGES", "SELECT pg_sleep(5)")

    data = operator.json("/")["data"]
    page = operator.get("/")

    assert data["stages"] == {"trouble": "too slow"}
    assert data["queues"][0]["name"] == "north"
    assert page.status_code == 200
    assert "took longer than 2 s" in page.text


def test_without_a_database_the_overview_says_so(parts: Parts, token: Token) -> None:
    viewer = Browser(parts, token("olga", "operator"))
    away = begin_of(make_engine("postgresql://nobody@/nothing?host=/nonexistent"))
    without = replace(parts, reader=Reader(away), memory=Memory(keep_s=0))
    blind = Browser(without)
    blind.cookies = viewer.cookies

    overview, job = blind.get("/"), blind.get("/jobs/7")

    assert overview.status_code == 200
    assert "The database does not answer" in overview.text
    assert job.status_code == 503
    assert re.search(r"Request [0-9a-f]{12}\.", job.text)


def test_no_question_walks_through_all_jobs(world: World, database_url: str) -> None:
    """The plan of each list, with sequential scans made dear, touches `jobs` by an index alone."""
    engine = create_engine(database_url.replace("postgresql://", "postgresql+psycopg://"))
    values = {
        "before": queries.BIGGEST, "status": "running", "queue": None, "error": None, "jobset_id": 1, "owner": "alice",
        "n": 50, "look_at": 100, "window_s": 259200, "codes": ["pilot:1137"], "hours": 24, "bin_s": 7200,
    }  # fmt: skip
    with engine.connect() as connection:
        connection.exec_driver_sql("SET enable_seqscan = off")
        for sql in (*queries.LISTS.values(), queries.ERRORS, queries.ERROR_TREND):
            plan = "\n".join(row[0] for row in connection.exec_driver_sql("EXPLAIN " + sql, values))
            assert "Seq Scan on jobs" not in plan, plan
    engine.dispose()
