"""What single blocks of pages tell: of periods, job sets, data, places, pilots, errors and names."""

import json
from datetime import UTC, datetime, timedelta

import pytest
import yaml

from monitoring.pages.page import Parts
from monitoring.reads.error_rates import bins_of
from monitoring.show.yamltext import yaml_of
from panda.sites import versions
from panda.sites.versions import Deed
from tests.integration.monitoring.conftest import Browser, Token, World

HOUR_FAILED = """
INSERT INTO error_hours
SELECT date_trunc('hour', panda_now()) - make_interval(hours => %(ago)s), %(code)s, 'dispatch', 'north', %(n)s, 1
"""
ASKED = "INSERT INTO dispatch_counts (hour, queue, shape_id, word, n, most, last_at) VALUES (date_trunc('hour', panda_now()), 'north', 0, %(word)s, %(n)s, 0, panda_now())"


def ends(world: World, first: int, n: int, seconds_ago: int = 60) -> None:
    """`n` finished jobs of the set, archived, that ended a second after one another until so long ago."""
    for k in range(n):
        world.job(first + k, "finished", archived=True)
        world.sql("UPDATE jobs_archive SET ended_at = panda_now() - make_interval(secs => %(s)s) WHERE panda_id = %(id)s",
                  s=seconds_ago + n - k, id=first + k)  # fmt: skip


@pytest.mark.parametrize(("hours", "failed"), [(3, 1), (24, 3), (168, 7), (720, 15)])
def test_the_period_of_the_overview_is_in_its_address(world: World, operator: Browser, hours: int, failed: int) -> None:
    for ago, n in ((1, 1), (20, 2), (100, 4), (600, 8)):
        world.sql(HOUR_FAILED, ago=ago, code="pilot:1", n=n)
    world.sql(
        "INSERT INTO count_history SELECT panda_now() - make_interval(hours => h), s, h"
        " FROM generate_series(0, 720, 2) h, unnest(ARRAY['running', 'finished']) s"
    )

    data, page = operator.json(f"/?hours={hours}")["data"], operator.get(f"/?hours={hours}").text

    assert (data["hours"], data["chart"]["hours"]) == (hours, hours)
    assert data["kpis"]["ended"]["failed"] == failed
    assert [(row["n"], sum(row["trend"])) for row in data["errors"]] == [(failed, failed)]
    assert 1 < len(data["chart"]["times"]) <= 75
    assert f'<a href="/?hours={hours}" aria-current="true">' in page
    assert f"Failure rate, {'3 h' if hours == 3 else '24 h' if hours == 24 else f'{hours // 24} d'}" in page


def test_each_stage_leads_to_its_jobs_and_to_what_failed_there(world: World, operator: Browser) -> None:
    world.sql("INSERT INTO stage_runs VALUES (date_trunc('minute', panda_now()), 'broker', 60, 2, 120, 9)")

    stages = {row["stage"]: row for row in operator.json("/")["data"]["stages"]}
    page = operator.get("/").text

    assert stages["dispatch"]["jobs_link"] == "/jobs?q=status%3Asent%2Cstarting%2Crunning"
    for stage in stages.values():
        assert operator.get(stage["jobs_link"]).status_code == 200
        assert operator.get(stage["failed_link"]).status_code == 200
    assert "2 failed" in page
    assert page.count('class="whole"') == 7


def test_a_job_set_ends_at_its_pace_or_nobody_knows(world: World, operator: Browser) -> None:
    path = f"/jobsets/{world.jobset_id}"
    before = operator.json(path)["data"]["jobset"]["eta_s"]
    ends(world, 100, 20, seconds_ago=10)
    world.sql(
        "UPDATE jobsets SET n_jobs = 51, n_expanded = 51, n_open = 30, n_failed = 0, n_finished = 21, n_cancelled = 0"
    )

    page, listed = operator.json(path)["data"], operator.json("/jobsets")["data"]["jobsets"][0]
    told = operator.get("/jobsets").text
    world.sql("UPDATE jobs_archive SET ended_at = panda_now() - interval '2 hours'")
    stale = operator.json(path)["data"]["jobset"]["eta_s"]

    assert (before, stale) == (None, None)
    assert 25 < page["jobset"]["eta_s"] < 90
    assert listed["eta_s"] == pytest.approx(page["jobset"]["eta_s"], abs=10)
    assert "about" in told
    assert "too few jobs ended" in operator.get("/jobsets").text


def test_what_is_stuck_is_not_said_to_end_at_once(world: World, operator: Browser) -> None:
    ends(world, 100, 20)
    world.sql("UPDATE jobs_archive SET ended_at = ended_at - interval '1500 seconds'")
    world.sql("UPDATE jobsets SET n_jobs = 4, n_expanded = 4, n_open = 1")

    assert operator.json(f"/jobsets/{world.jobset_id}")["data"]["jobset"]["eta_s"] >= 1500


def test_a_job_sets_page_shows_its_jobs_over_time(world: World, operator: Browser) -> None:
    ends(world, 100, 5)

    page = operator.get(f"/jobsets/{world.jobset_id}").text
    found = operator.json(f"/jobsets/{world.jobset_id}")["data"]["over_time"]

    last = {word: values[-1] for word, _, values in found["series"]}
    assert last == {"finished": 6, "failed": 1, "cancelled": 2, "running": 4, "waiting": 5}
    assert all(values[0] == 0 for _, _, values in found["series"])
    assert len(found["times"]) == len(found["series"][0][2])
    assert '<path class="fill c-finished"' in page


def test_failures_of_a_job_set_are_by_code_each_with_its_retry(
    world: World, operator: Browser, parts: Parts, token: Token
) -> None:
    for panda_id in (100, 101):
        world.job(panda_id, "failed")
    world.sql("UPDATE jobs SET error_code = 'payload:65' WHERE panda_id > 99")
    world.job(102, "failed", archived=True)

    found = operator.json(f"/jobsets/{world.jobset_id}")["data"]["failures"]
    page = operator.get(f"/jobsets/{world.jobset_id}").text
    viewer = Browser(parts, token("vera", "viewer")).get(f"/jobsets/{world.jobset_id}").text

    assert [(row["error_code"], row["n"], row["n_resting"]) for row in found] == [
        ("payload:65", 2, 2),
        ("pilot:1137", 2, 1),
    ]
    assert [job["panda_id"] for job in operator.json(found[0]["jobs_link"])["data"]["jobs"]] == [101, 100]
    assert operator.get(found[0]["retry_link"]).status_code == 200
    assert "Retry all" in page
    assert "Retry…" not in viewer


def test_the_submitted_document_is_yaml_or_json(world: World, operator: Browser) -> None:
    path = f"/jobsets/{world.jobset_id}"

    assert "jobs:\n  - command:\n      - echo\n      - hello\nname: analysis\n" in operator.get(path).text
    assert "&#34;name&#34;: &#34;analysis&#34;" in operator.get(f"{path}?document=json").text


@pytest.mark.parametrize("document", [
    {"a": "no", "b": "6:30", "c": "1e5", "d": "0o17", "e": "", "f": " x ", "g": "# no", "h": "- x", "i": None},
    {"script": "import sys\nprint('x: y')\n", "tail": "a\n\n", "ends": "a\nb", "tabs": "a\tb\n c", "bad": "\x07\n"},
    {"list": [[1, 2], [{"x": [1.5, True]}]], "empty": [], "none": {}, "ä": "ü\u2028x"},
])  # fmt: skip
def test_yaml_says_what_the_document_says(document: object) -> None:
    assert yaml.safe_load(yaml_of(document)) == document
    assert json.loads(json.dumps(document)) == document


def test_a_dataset_tells_who_writes_and_who_reads_it_and_where_it_lies(world: World, operator: Browser) -> None:
    world.furnish()
    world.sql("UPDATE jobsets SET output_dataset_id = 1")
    for panda_id in (2, 10):
        world.sql("INSERT INTO job_files (panda_id, kind, lfn, did, dataset_id, file_id, status)"
                  " VALUES (%(id)s, 'input', 'a.txt', 'user.alice:out', 1, 1, 'ready')", id=panda_id)  # fmt: skip

    data, page = operator.json("/datasets/user.alice:out")["data"], operator.get("/datasets/user.alice:out").text

    assert [(row["jobset_id"], row["name"]) for row in data["written_by"]] == [(world.jobset_id, "analysis")]
    assert [(row["jobset_id"], row["n_jobs"], row["n_files"]) for row in data["read_by"]] == [(world.jobset_id, 2, 1)]
    assert [(row["site"], row["storage"], row["n_files"]) for row in data["by_storage"]] == [("NORTH", "NORTH-DISK", 1)]
    assert [(row["destination"], row["status"], row["n"]) for row in data["moved"]] == [("NORTH-DISK", "queued", 1)]
    assert '<a class="l" href="/sites/NORTH">NORTH</a>' in page


@pytest.mark.parametrize(("reader", "name"), [("alice", "analysis"), ("bob", None)])
def test_of_others_job_sets_a_dataset_does_not_tell_the_names(
    world: World, parts: Parts, token: Token, reader: str, name: str | None
) -> None:
    world.furnish()
    world.sql("UPDATE jobsets SET output_dataset_id = 1")
    world.sql("INSERT INTO job_files (panda_id, kind, lfn, did, dataset_id, file_id, status)"
              " VALUES (2, 'input', 'a.txt', 'user.alice:out', 1, 1, 'ready')")  # fmt: skip

    data = Browser(parts, token(reader, "user")).json("/datasets/user.alice:out")["data"]

    told = [(row["owner"], row["name"]) for part in ("written_by", "read_by") for row in data[part]]
    assert told == [("alice", name)] * 2


def test_a_file_tells_its_past_and_its_readers(world: World, operator: Browser) -> None:
    world.furnish()
    world.sql(
        "INSERT INTO job_files (panda_id, kind, lfn, did, file_id, status) VALUES (10, 'input', 'raw', 'a:b', NULL, 'ready')"
    )
    world.sql("INSERT INTO job_files (panda_id, kind, lfn, did, dataset_id, file_id, status)"
              " VALUES (7, 'input', 'a.txt', 'user.alice:out', 1, 1, 'ready')")  # fmt: skip
    world.sql("INSERT INTO transfers (file_id, source, destination, status, due_at, created_at, ended_at)"
              " VALUES (1, 'NORTH-DISK', 'NORTH-DISK', 'done', panda_now(), panda_now(), panda_now())")  # fmt: skip

    data, page = operator.json("/files/user.alice:out/a.txt")["data"], operator.get("/files/user.alice:out/a.txt").text

    assert [(row["dataset"], row["lfn"]) for row in data["lineage"]["made_from"]] == [("a:b", "raw")]
    assert [(row["panda_id"], row["status"]) for row in data["lineage"]["read_by"]] == [(7, "running")]
    assert {row["status"] for row in data["transfers"]} == {"queued", "done"}
    assert 'href="/jobs/7"' in page
    assert "panda lineage user.alice:out a.txt" in page


def test_settings_tell_where_they_come_from(world: World, operator: Browser) -> None:
    with world.begin() as connection, versions.changing(connection, Deed("sites.toml", "file", "read at the start")):
        connection.exec_driver_sql("UPDATE queues SET cores = 16 WHERE name = 'north'")
    with world.begin() as connection, versions.changing(connection, Deed("olga", "http", "slow disks")):
        connection.exec_driver_sql("UPDATE queues SET max_running = 5 WHERE name = 'north'")

    config = {row["name"]: row for row in operator.json("/queues/north")["data"]["config"]}
    site = operator.json("/sites/NORTH")["data"]
    page = operator.get("/queues/north").text

    assert (config["cores"]["origin"], config["cores"]["value"]) == ("sites.toml", "16")
    assert (config["max_running"]["origin"], config["max_running"]["who"]) == ("override", "olga")
    assert (config["vos"]["origin"], config["vos"]["value"]) == ("default", "all")
    assert [(row["queue"], row["name"], row["why"]) for row in site["overrides"]] == [
        ("north", "max_running", "slow disks")
    ]
    assert {row["name"] for row in site["config"]} == {"cloud", "description", "max_running"}
    assert '<span class="tag by"' in page


def test_the_audit_log_of_a_place_is_for_those_who_may_read_it(
    world: World, operator: Browser, parts: Parts, token: Token
) -> None:
    world.furnish()
    world.sql("UPDATE audit_log SET reason = 'for operators'")
    viewer = Browser(parts, token("vera", "viewer"))

    assert [row["target"] for row in operator.json("/sites/NORTH")["data"]["deeds"]] == ["queue north"]
    assert viewer.json("/sites/NORTH")["data"]["deeds"] is None
    assert "for operators" not in viewer.get("/sites/NORTH").text


def test_pilots_are_counted_by_what_they_do_and_when_they_were_heard_of(world: World, operator: Browser) -> None:
    for name, heard_s, started_s, n_jobs in (("idle", 30, 900, 2), ("young", 5, 30, 0), ("gone", 900, 5000, 1)):
        world.sql(
            "INSERT INTO pilots (pilot_id, queue, node, version, cores, memory_mb, started_at, last_seen_at, n_jobs)"
            " VALUES (%(name)s, 'north', 'n', '1', 8, 1, panda_now() - make_interval(secs => %(started)s),"
            " panda_now() - make_interval(secs => %(heard)s), %(n)s)",
            name=name, heard=heard_s, started=started_s, n=n_jobs,
        )  # fmt: skip
    for word, n in (("got", 3), ("nothing_ready", 9)):
        world.sql(ASKED, word=word, n=n)

    data, page = operator.json("/pilots")["data"], operator.get("/pilots").text
    elsewhere = operator.json("/pilots?queue=south")["data"]

    assert {state: each["n"] for state, each in data["states"].items()} == {
        "running": 1,
        "idle": 1,
        "starting": 1,
        "silent": 1,
    }
    assert [row["n"] for row in data["ages"]] == [2, 1, 0, 0, 1, 0]
    assert data["match"] == {"n": 12, "n_got": 3, "rate": 0.25}
    assert [(row["submitter"], row["n_alive"]) for row in data["submitters"]] == [("local", 3)]
    assert (data["queues"][0]["match_rate"], data["queues"][0]["states"]["silent"]) == (0.25, 1)
    assert "25.0%" in page
    assert elsewhere["queues"] == []
    assert operator.get("/pilots?queue=south").status_code == 200


def test_a_node_stands_beside_the_others_of_its_queue(world: World, operator: Browser) -> None:
    for panda_id in range(500, 508):
        world.job(panda_id, "finished", archived=True, name="wn-good")
    world.sql("INSERT INTO node_failures (hour, queue, node, n, wall_s)"
              " VALUES (date_trunc('hour', panda_now()), 'north', 'wn-bad', 9, 18)")  # fmt: skip

    data, page = operator.json("/nodes/north/wn-bad")["data"], operator.get("/nodes/north/wn-bad").text

    assert data["beside"] == {"n_nodes": 2, "n": 9, "n_failed": 0}
    assert "other nodes of its queue: 0.0%" in page


def test_a_trend_has_every_piece_of_its_period(world: World, operator: Browser) -> None:
    world.sql(HOUR_FAILED, ago=0, code="pilot:1", n=4)

    errors = operator.json("/errors")["data"]["errors"]
    hours = operator.json("/errors/pilot:1")["data"]["hours"]

    assert (len(errors[0]["trend"]), sum(errors[0]["trend"]), errors[0]["trend"][-1]) == (24, 4, 4)
    assert (len(hours), hours[-1]["n"]) == (168, 4)
    assert operator.json("/errors/pilot:2")["data"]["hours"] == []


def test_pieces_of_a_period_are_cut_as_the_database_cuts_them() -> None:
    found = bins_of(datetime(2026, 11, 29, 13, 59, tzinfo=UTC), 168, 7)

    assert len(found) == 24
    assert found[-1] <= datetime(2026, 11, 29, 13, 59, tzinfo=UTC) < found[-1] + timedelta(hours=7)
    assert all(at.timestamp() % (7 * 3600) == 0 for at in found)


def test_the_matrix_of_errors_leads_to_the_jobs(world: World, operator: Browser) -> None:
    world.sql(HOUR_FAILED, ago=0, code="pilot:1137", n=4)

    page = operator.get("/errors").text

    assert '<td class="n m4"><a href="/jobs?q=status%3Afailed+queue%3Anorth+error%3A' in page


def test_the_beginning_of_a_name_finds_it_or_lists_what_begins_so(
    world: World, operator: Browser, parts: Parts, token: Token
) -> None:
    world.furnish()
    alice = Browser(parts, token("alice", "user"))

    listed = operator.json("/search?q=user.al")["data"]["found"]
    page = operator.get("/search?q=user.al")

    assert operator.get("/search?q=nor").headers["location"] == "/queues/north"
    assert operator.get("/search?q=anal").headers["location"] == "/jobsets?name=analysis"
    assert operator.get("/search?q=ali").headers["location"] == "/users/alice"
    assert [(row["kind"], row["name"]) for row in listed] == [
        ("dataset", "user.alice:all"),
        ("dataset", "user.alice:out"),
    ]
    assert (page.status_code, 'href="/datasets/user.alice%3Aout"' in page.text) == (200, True)
    assert operator.get("/search?q=user.al&csv").text.startswith("kind,name,about,link\n")
    assert operator.get("/search?q=n").status_code == 404
    assert alice.get("/search?q=olg").status_code == 404
    for row in listed:
        assert operator.get(row["link"]).status_code == 200


def test_my_page_has_my_theme_and_clock(world: World, operator: Browser) -> None:
    before = operator.get("/me").text
    operator.cookies |= {"panda_zone": "local", "panda_theme": "dark"}
    after = operator.get("/me").text
    operator.cookies["panda_zone"] = "<b>"

    assert 'data-zone-to="utc" aria-pressed="true"' in before
    assert 'data-zone-to="local" aria-pressed="true"' in after
    assert 'data-theme-to="dark" aria-pressed="true"' in after
    assert "<b>" not in operator.get("/me").text.split("data-zone-to")[1]
