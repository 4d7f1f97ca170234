"""Pages as tables: the same address with ?csv, and a clear word where there is no table."""

import re
from dataclasses import replace
from urllib.parse import urlencode

import pytest

from monitoring.pages import incidents
from monitoring.pages.page import Parts
from panda.db.session import rows
from tests.integration.monitoring.conftest import JOBSET, PAGES, Browser, Token, World

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
    monkeypatch.setattr("monitoring.pages.listing.lists.MAX_PAGE", 40)

    whole = operator.get("/jobs?q=status:pending&csv")
    monkeypatch.setattr("monitoring.pages.listing.CSV_ROWS", 100)
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
    ["/", "/jobs", "/jobsets", "/jobs/actions", "/datasets", "/datasets/user.alice:out", "/files", "/errors", "/incidents", "/users",
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
    assert "known: cancelled, created, ended" in operator.get("/jobsets?lunch=hello&json").json["detail"]
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


@pytest.mark.parametrize(
    ("pairs", "text"),
    [
        ("/jobs?state=failed,running&user!=bob&priority>=0", "status:failed,running owner!=bob priority>=0"),
        ("/jobs?name=job-f*&changed=24h&add=attempt<2", "name:job-f* changed:24h attempt<2"),
        ("/jobsets?owner=alice&failed>0&created=7d", "owner:alice failed>0 created:7d"),
        ("/audit?who=olga&when=24h&target=queue*", "who:olga at:24h target:queue*"),
        ("/pilots?queue=north", "queue:north"),
        ("/datasets/user.alice:out?lfn=*.txt&size<100", "lfn:*.txt size<100"),
    ],
)  # fmt: skip
def test_an_address_says_a_filter_as_pairs_or_as_text(world: World, operator: Browser, pairs: str, text: str) -> None:
    world.furnish()
    path = pairs.partition("?")[0]

    by_pairs = operator.json(f"{pairs}&json")["data"]
    by_text = operator.get(path, params={"filter": text}, accept="application/json").json["data"]

    def rows(data: dict[str, object]) -> list[object]:
        found = next(value for value in data.values() if isinstance(value, list))
        return [{name: value for name, value in row.items() if name != "silent_s"} for row in found]

    assert rows(by_pairs) == rows(by_text)
    assert rows(by_pairs)


def test_a_list_has_the_columns_that_a_program_asks_for(world: World, operator: Browser) -> None:
    table = operator.get("/jobs?status=failed,running&fields=panda_id,status&sort=panda_id&csv").text.splitlines()
    rows = operator.json("/jobs?status=failed&fields=status,panda_id")["data"]["jobs"]
    refused = operator.get("/jobs?fields=panda_id,stauts&json")

    assert table == ["panda_id,status", f"{world.jobs['running']},running", f"{world.jobs['failed']},failed"]
    assert rows == [{"status": "failed", "panda_id": world.jobs["failed"]}]
    assert (refused.status_code, refused.json["code"]) == (400, "unknown_field")
    assert "did you mean 'status'" in refused.json["detail"]


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/jobsets?sort=lunch", "unknown_sort"), ("/datasets/user.alice:out?sort=created", "unserved_sort"),
        ("/audit?q=lunch:1", "bad_filter"), ("/audit?q=at:tomorrow", "bad_filter"), ("/incidents?state=shut", "bad_filter"),
        ("/jobs?after=x", "bad_cursor"), ("/datasets?sort=name&after=x", "bad_cursor"), ("/pilots?limit=0", "invalid"), ("/pilots?limit=00000000199999", "invalid"),
        ("/users?limit=501", "invalid"), ("/files?lfm=x", "unknown_filter"), ("/errors?q=owner:alice", "bad_filter"),
        ("/errors?sort=hour", "unserved_sort"), ("/transfers?status=lost", "bad_filter"), ("/tokens?q=(", "bad_filter"),
    ],
)  # fmt: skip
def test_a_list_refuses_what_it_cannot_mean(world: World, operator: Browser, path: str, code: str) -> None:
    world.furnish()
    answer = operator.get(path, accept="application/json")

    assert (answer.status_code, answer.json["code"]) == (400, code)


def test_a_page_of_a_list_goes_on_in_the_same_filter_and_order(world: World, operator: Browser) -> None:
    world.furnish()
    for number in range(5):
        world.sql(
            "INSERT INTO datasets (scope, name, owner, created_at) VALUES ('a', %(n)s, 'bob', panda_now())",
            n=f"d{number}",
        )

    seen: list[str] = []
    path: str | None = "/datasets?owner=bob&sort=name&limit=2"
    while path:
        page = operator.get(path).text
        seen += re.findall(r'href="/datasets/a%3A(d\d)"', page)
        onward = re.search(r'href="([^"]+)">Next →', page)
        path = onward[1].replace("&amp;", "&") if onward else None

    assert seen == ["d0", "d1", "d2", "d3", "d4"]
    assert (
        "panda datasets --filter &#39;owner:bob&#39; --sort name" in operator.get("/datasets?owner=bob&sort=name").text
    )


def test_what_a_page_asks_for_by_itself_stands_there_and_can_be_taken_away(world: World, operator: Browser) -> None:
    world.sql("UPDATE pilots SET last_seen_at = panda_now() - interval '3 hours'")

    usual, every = operator.get("/pilots").text, operator.json("/pilots?q=")["data"]["pilots"]

    assert 'class="chip" href="/pilots?q="' in usual
    assert ">seen:7h</a>" in usual
    assert [pilot["pilot_id"] for pilot in every] == ["pilot-1"]


def test_a_filter_that_cannot_be_meant_may_be_mended_on_the_spot(world: World, operator: Browser) -> None:
    page = operator.get("/jobsets?q=stauts:failed").text

    assert "did you mean &#39;status&#39;?</p>" in page
    assert '<form class="panel filter" action="/jobsets"' in page
    assert 'name="q" value="stauts:failed"' in page
    assert '<a class="l" href="/jobsets">the whole list</a>' in page


def test_a_filter_shows_nobody_more_than_they_may_see(
    world: World, operator: Browser, parts: Parts, token: Token
) -> None:
    world.furnish()
    world.sql("UPDATE jobs SET owner = 'bob' WHERE panda_id = %(id)s", id=world.jobs["running"])
    bob = Browser(parts, token("bob", "user"))

    for text in ("", "owner!=bob or owner:bob", "owner:alice or owner:bob", "not owner:nobody"):
        path = f"/jobs?q={text.replace(' ', '+')}"
        assert [job["panda_id"] for job in bob.json(path)["data"]["jobs"]] == [world.jobs["running"]], text
        assert len(operator.json(path)["data"]["jobs"]) == len(world.jobs), text
    assert bob.json("/jobsets?q=owner:alice+or+name:*")["data"]["jobsets"] == []
    for path in (
        "/jobsets?owner=alice",
        "/jobs?q=owner:alice",
        "/tokens?owner=alice",
        "/jobs/actions?by=alice",
        "/audit",
    ):
        assert bob.get(path).status_code == 403, path


def test_a_page_looks_at_a_bounded_number_of_rows_and_goes_on(
    world: World, operator: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(8):
        world.sql(
            "INSERT INTO incidents (component, level, key, message, first_at, last_at)"
            " VALUES ('relay', %(level)s, %(key)s, 'm', panda_now(), panda_now())",
            level="error" if number == 0 else "warning", key=f"k{number}",
        )  # fmt: skip
    listing = incidents.LISTING
    monkeypatch.setattr(incidents, "LISTING", replace(listing, noun=replace(listing.noun, window=2)))

    first = operator.get("/incidents?level=error").text
    onward = re.search(r'href="([^"]+)">Next →', first)
    assert onward is not None
    then = operator.get(onward[1].replace("&amp;", "&")).text
    table = operator.get("/incidents?level=error&csv").text

    assert "None among the rows that were looked at" in first
    assert '<a class="l" href="/incidents/1">1</a>' in then
    assert len(table.splitlines()) == 2
