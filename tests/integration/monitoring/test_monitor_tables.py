"""Pages as tables: the same address with ?csv, and a clear word where there is no table."""

import re
from urllib.parse import urlencode

import pytest

from panda.db.session import rows
from tests.integration.monitoring.conftest import JOBSET, PAGES, Browser, World

#: Pages that are no list, whatever they show beside.
NO_TABLE = ("/", "/jobs/7", "/help", "/incidents/1", "/search?q=nothing")
SHEETS = (
    "/retry",
    "/cancel",
    "/hold",
    "/release",
    "/priority",
    "/rebroker",
    "/debug",
    "/bulk/",
    "/status",
    "/new",
    "/forget",
    "/drop",
    "/revoke",
    "/answer",
    "/switches/",
    "/pause",
)


def test_a_list_is_csv_by_the_same_address(world: World, operator: Browser) -> None:
    world.furnish("=HYPERLINK(1)")

    jobs = operator.get("/jobs?csv").text.splitlines()
    incidents = operator.get("/incidents", accept="text/csv")

    assert jobs[0].startswith("panda_id,")
    assert len(jobs) == 1 + len(world.jobs)
    assert incidents.headers["content-type"] == "text/csv; charset=utf-8"
    assert ",'=HYPERLINK(1)," in incidents.text
    assert ",=HYPERLINK" not in incidents.text


@pytest.mark.parametrize("furnished", [True, False])
def test_every_page_is_csv_or_says_that_it_has_no_table(world: World, operator: Browser, furnished: bool) -> None:
    if furnished:
        world.furnish()
        world.sql("UPDATE queues SET status = 'offline', status_reason = 'upgrade'")
        world.sql("UPDATE pilots SET last_panda_ids = '{7}'")
    for page in (*PAGES, "/search?q=nothing"):
        path = page.format(jobset=world.jobset_id)
        answer = operator.get(path + ("&" if "?" in path else "?") + "csv")

        if not furnished and answer.status_code == 404:
            assert answer.json["code"] in ("not_found", "nothing_found"), path
        elif page in NO_TABLE or any(word in path for word in SHEETS):
            assert (answer.status_code, answer.json["code"]) in ((400, "no_table"), (404, "nothing_found")), path
            assert answer.headers["content-type"] == "application/problem+json", path
        else:
            lines = answer.text.splitlines()
            assert answer.status_code == 200, (path, answer.text)
            assert answer.headers["content-type"] == "text/csv; charset=utf-8", path
            assert len(lines[0].split(",")) > 2, path
    if furnished:
        assert "closed north" in operator.get("/troubles?csv").text


def test_a_table_has_the_columns_of_its_list(world: World, operator: Browser) -> None:
    world.furnish()
    for path, key in (("/jobs", "jobs"), ("/jobsets", "jobsets"), ("/sites", "queues"), ("/datasets", "datasets"),
                      ("/transfers", "transfers"), ("/tokens", "tokens"), ("/errors", "errors"), ("/pilots", "pilots"),
                      ("/audit", "deeds"), ("/users", "users"), ("/usage", "table"), ("/incidents", "incidents")):  # fmt: skip
        columns = operator.get(f"{path}?csv").text.splitlines()[0].split(",")
        first = operator.json(path)["data"][key][0]

        assert set(columns) <= set(first), path
        assert {name for name, value in first.items() if not isinstance(value, list | dict)} <= set(columns), path


def test_the_table_of_jobs_is_all_of_them_down_to_a_bound_that_is_told(
    world: World, operator: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    for panda_id in range(100, 230):
        world.job(panda_id, "pending")
    monkeypatch.setattr("monitoring.pages.jobs.lists.MAX_PAGE", 40)

    whole = operator.get("/jobs?q=status:pending&csv")
    monkeypatch.setattr("monitoring.pages.jobs.CSV_ROWS", 100)
    first = operator.get("/jobs?q=status:pending&csv")
    onward = re.search(r"<(/jobs\?[^>]+)>; rel=next", first.headers["link"])
    assert onward is not None
    rest = operator.get(onward[1])

    def ids(table: str) -> list[str]:
        return [line.split(",")[0] for line in table.splitlines()[1:]]

    assert len(ids(whole.text)) == 131
    assert "link" not in whole.headers
    assert (len(ids(first.text)), ids(first.text) + ids(rest.text)) == (100, ids(whole.text))
    assert "CSV, newest 100" in operator.get("/jobs?q=status:pending").text
    assert ">CSV<" in operator.get("/jobs?q=status:running").text


def test_a_table_that_cannot_be_read_is_no_empty_one(
    world: World, operator: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitoring.reads.blocks.STATEMENT_TIMEOUT", "SET LOCAL statement_timeout = 50")
    monkeypatch.setattr("monitoring.reads.error_rates.CODES", "SELECT pg_sleep(5)")

    answer = operator.get("/errors?csv")

    assert (answer.status_code, answer.json["code"]) == (503, "unavailable")


@pytest.mark.parametrize(
    "path",
    ["/", "/jobs", "/jobsets", "/jobs/actions", "/datasets", "/datasets/user.alice:out", "/errors", "/incidents", "/users",
     "/pilots", "/sites", "/queues", "/tokens", "/transfers", "/troubles", "/usage", "/audit", "/admin", "/celery"],
)  # fmt: skip
def test_a_list_does_not_pass_over_a_word_that_it_does_not_know(world: World, operator: Browser, path: str) -> None:
    world.furnish()

    refused = operator.get(path, params={"lunch": "hello"}, accept="application/json")
    done = operator.get(path, params={"done": "k1"}, accept="application/json")

    assert (refused.status_code, refused.json["code"]) == (400, "unknown_filter")
    assert "unknown filter 'lunch'" in refused.json["detail"]
    assert done.status_code == 200


def test_the_words_that_a_list_knows_are_told(world: World, operator: Browser) -> None:
    assert "known: before, name, owner" in operator.get("/jobsets?lunch=hello&json").json["detail"]
    assert "did you mean 'owner'" in operator.get("/jobsets?owner_=hello&json").json["detail"]


def test_jobs_are_counted_by_kind_and_by_what_they_ask_for(world: World, operator: Browser) -> None:
    world.sql("INSERT INTO shapes (cores, memory_mb, disk_mb, walltime_s) VALUES (1, 2000, 1000, 3600)")
    with world.begin() as connection:
        values = {"name": "mc", "owner": "alice", "document": '{"kind": "production"}'}
        [(jobset_id,)] = rows(connection, JOBSET, values)
    world.sql("UPDATE jobsets SET document_hash = '\\x77' WHERE jobset_id = %(id)s", id=jobset_id)
    world.sql("UPDATE jobs SET jobset_id = %(id)s, shape_id = 2, attempt_nr = 2 WHERE status = 'running'", id=jobset_id)

    facets = operator.json("/jobs")["data"]["facets"]
    page = operator.get("/jobs?q=cores:1").text

    assert facets["kind"] == [["analysis", 12], ["production", 1]]
    assert facets["cores"] == [["4", 12], ["1", 1]]
    assert facets["memory"] == [["8000", 12], ["2000", 1]]
    assert facets["attempt"] == [["1", 12], ["2", 1]]
    assert operator.json("/jobs?q=status:failed")["data"]["facets"]["kind"] == [["analysis", 1]]
    for word in ("kind:production", "kind:prod*", "cores:1", "memory<=2000", "attempt>1", "kind!=analysis"):
        found = operator.json("/jobs?" + urlencode({"q": word}))["data"]["jobs"]
        assert [job["panda_id"] for job in found] == [world.jobs["running"]], word
    assert "2 GB" in page
    assert 'href="/jobs?q=kind%3Aproduction"' in operator.get("/jobs").text
