"""Events as they come, calls that are awaited, answers in notebooks and data frames."""

import asyncio
import inspect
import json
import sys
import time
from itertools import islice
from typing import Any

import pytest
from cli_scripted import Reply, Scripted

from panda.client import AsyncClient, Client, Invalid, NotFound, Unauthenticated, Unavailable
from panda.client.actions import Action
from panda.client.frames import MissingExtra, to_pandas, to_polars
from panda.client.replies import Job

STREAM = {"Content-Type": "text/event-stream; charset=utf-8"}
AT = "2026-01-01T00:00:00Z"


def moved(number: int, now: str = "running", kind: str = "job") -> bytes:
    facts = {"event_id": number, "panda_id": 7, "now": now, "at": AT}
    return f"id: {number}\nevent: {kind}\ndata: {json.dumps(facts)}\n\n".encode()


def stream(*parts: bytes) -> Reply:
    return Reply(200, b"".join(parts), STREAM)


def page(*items: Any, following: Any = None) -> dict[str, Any]:
    return {"data": list(items), "page": {"next": following}}


def job(panda_id: int, status: str = "running", **facts: Any) -> dict[str, Any]:
    return {"panda_id": panda_id, "status": status, "changed_at": AT, **facts}


@pytest.fixture
def client(script: Scripted) -> Client:
    return Client(script.url, "t", sleep=lambda _: None)


def test_a_stream_that_breaks_off_goes_on_where_it_ended(client: Client, script: Scripted) -> None:
    start = b"retry: 2000\n\nid: 4\nevent: start\ndata: {}\n\n"
    script.on("GET", "/v1/events", stream(start, moved(5), b": still here\r\n\r\n"), stream(moved(5), moved(6)))

    found = list(islice(client.follow(jobset=9), 2))

    assert [each.event_id for each in found] == [5, 6]
    assert [each.headers.get("Last-Event-ID") for each in script.received] == [None, "5"]
    assert found[0].at is not None
    assert found[0].at.tzinfo is not None


def test_other_calls_are_made_while_a_stream_is_read(client: Client, script: Scripted) -> None:
    script.on("GET", "/v1/events", stream(moved(1), moved(2)))
    script.on("GET", "/v1/jobs/7", job(7))

    seen = [(each.event_id, client.job(7).status) for each in islice(client.follow(job=7), 2)]

    assert seen == [(1, "running"), (2, "running")]


@pytest.mark.parametrize(
    "refusal",
    [
        Reply(404, {"code": "no_such_path", "detail": "-"}),
        Reply(503, {"code": "too_many_streams", "detail": "-"}),
        Reply(200, {"name": "an older server"}),
    ],
)
def test_without_a_stream_the_jobs_are_looked_at(client: Client, script: Scripted, refusal: Reply) -> None:
    script.on("GET", "/v1/events", refusal)
    script.on("GET", "/v1/jobs", page(job(7), job(8)), page(job(7, "finished"), job(8)), page(job(8, "failed"), job(9)))

    found = list(islice(client.follow(poll_s=0), 3))

    assert [(each.panda_id, each.was, each.now) for each in found] == [
        (7, "running", "finished"),
        (8, "running", "failed"),
        (9, None, "running"),
    ]
    assert script.targets("GET").count("/v1/events") == 1
    assert "changed%3E%3D2026-01-01T00%3A00%3A00Z" in script.received[-1].target


def test_a_stream_of_a_job_that_is_not_there_is_not_polled_for(client: Client, script: Scripted) -> None:
    with pytest.raises(NotFound):
        next(iter(client.follow(job=7)))


def test_a_token_that_ends_ends_the_stream(client: Client, script: Scripted) -> None:
    script.on("GET", "/v1/events", stream(b'event: end\ndata: {"code": "unauthenticated"}\n\n'))

    with pytest.raises(Unauthenticated):
        next(iter(client.follow()))


def test_a_server_that_stays_away_ends_the_stream(client: Client, script: Scripted) -> None:
    script.on("GET", "/v1/events", Reply(0))

    with pytest.raises(Unavailable, match="no stream"):
        next(iter(client.follow(patience_s=0)))
    with pytest.raises(Invalid):
        client.follow(job=1, jobset=2)


# ---- awaited -----------------------------------------------------------------------------------------------


def public(kind: type) -> set[str]:
    return {name for name, each in inspect.getmembers(kind, callable) if not name.startswith("_")}


def test_the_awaited_client_has_every_verb_of_the_plain_one() -> None:
    assert public(Client) - public(AsyncClient) == set()


def test_calls_are_awaited_side_by_side_and_lists_come_page_by_page(script: Scripted) -> None:
    for panda_id in range(20):
        script.on("GET", f"/v1/jobs/{panda_id}", job(panda_id))
    script.on("GET", "/v1/jobs", page(job(3), job(2), following=2), page(following=1), page(job(1)))
    script.on("GET", "/v1/users", page({"name": "ann"}))
    script.on("GET", "/v1/events", stream(moved(1), moved(2)))

    async def all_of_them() -> None:
        async with AsyncClient(script.url, "t", n_threads=3) as client:
            jobs = await asyncio.gather(*(client.job(panda_id) for panda_id in range(20)))
            assert [each.panda_id for each in jobs] == list(range(20))
            assert [each.panda_id async for each in client.jobs(filter="status:running")] == [3, 2, 1]
            assert [each.raw["name"] async for each in client.users.list()] == ["ann"]
            async for each in client.follow(job=7):
                assert each.event_id == 1
                break
            with pytest.raises(NotFound):
                await client.jobset(404)

    asyncio.run(all_of_them())
    assert script.n_connections <= 6


def test_a_wait_that_is_cancelled_ends_at_once_and_frees_its_thread(script: Scripted) -> None:
    script.on("GET", "/v1/jobs/7", job(7))

    async def cancelled() -> None:
        async with AsyncClient(script.url, "t", n_threads=1) as client:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.wait(jobs=[7]), 0.3)
            assert (await asyncio.wait_for(client.job(7), 20)).status == "running"

    began = time.monotonic()
    asyncio.run(cancelled())
    assert time.monotonic() - began < 20


# ---- shown -------------------------------------------------------------------------------------------------


def test_a_notebook_shows_tables_in_which_every_word_is_escaped(client: Client, script: Scripted) -> None:
    evil = "<script>alert('x')</script>"
    script.on("GET", "/v1/jobs", page(*(job(n, name=evil) for n in range(30))))
    script.on("GET", "/v1/jobs/7", job(7, name=evil, tags=[evil], error_message="x" * 900))
    ledger = {"accepted": 4, "finished": 3, "failed": 1, "running": evil}
    script.on("GET", "/v1/jobsets/9", {"jobset_id": 9, "status": evil, "ledger": {**ledger, "running": 0}})

    jobs = client.jobs()
    shown = [jobs._repr_html_(), client.job(7)._repr_html_(), client.jobset(9)._repr_html_()]

    assert all("<script" not in html and "&lt;script&gt;" in html for html in shown)
    assert "3 finished, 1 failed" in shown[2]
    assert shown[0].count("<tr>") == 21
    assert len(jobs.to_dicts()) == 30
    assert len(shown[1]) < 3000


def test_lists_become_frames(client: Client, script: Scripted) -> None:
    pandas = pytest.importorskip("pandas")
    polars = pytest.importorskip("polars")
    script.on("GET", "/v1/jobs", page(job(7, tags=["a"]), job(8, ended_at=AT)))

    by_pandas, by_polars = client.jobs().to_pandas(), client.jobs().to_polars()

    assert list(by_pandas["panda_id"]) == by_polars["panda_id"].to_list() == [7, 8]
    assert str(by_pandas["changed_at"].dtype.tz) == "UTC"
    assert by_polars.schema["changed_at"] == polars.Datetime("us", "UTC")
    assert by_pandas["ended_at"].isna().tolist() == [True, False]
    assert isinstance(to_pandas([], Job), pandas.DataFrame)
    assert "panda_id" in to_polars([], Job).columns


@pytest.mark.parametrize("package", ["pandas", "polars"])
def test_a_frame_without_its_package_says_what_to_install(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(MissingExtra, match=f"panda-wms\\[{package}\\]"):
        (to_pandas if package == "pandas" else to_polars)([], Job)


def test_an_action_is_looked_at_confirmed_and_waited_for(client: Client, script: Scripted) -> None:
    script.on(
        "POST", "/v1/jobs/actions",
        {"action_id": 5, "n": 3, "token": "t5", "first": [job(7)], "untouched": {"why": 2}},
        Reply(0), Reply(202, {"action_id": 5, "n": 3, "status": "running"}),
    )  # fmt: skip
    script.on(
        "GET", "/v1/actions/5", {"action_id": 5, "status": "running"}, {"action_id": 5, "status": "done", "n_done": 3}
    )

    preview = client.actions.preview("retry", "set:9", reason="disk is back", stage="broker")
    done = client.actions.wait(client.actions.confirm(preview).action_id)

    assert (preview.n, preview.untouched) == (3, {"why": 2})
    assert isinstance(done, Action)
    assert (done.n_done, done.is_ended) == (3, True)
    sent = [json.loads(each.body) for each in script.received if each.method == "POST"]
    words = {"action": "retry", "filter": "set:9", "reason": "disk is back", "stage": "broker"}
    assert sent == [{**words, "dry_run": True}, *[{**words, "token": "t5", "count": 3}] * 2]


def test_a_redirect_is_not_followed_and_the_token_stays_here(client: Client, script: Scripted) -> None:
    script.on("GET", "/v1/jobs/7", Reply(307, b"", {"Location": "http://192.0.2.1/v1/jobs/7"}))

    with pytest.raises(Exception, match=r"sends us to http://192\.0\.2\.1") as caught:
        client.job(7)

    assert getattr(caught.value, "code", "") == "redirected"
    assert len(script.received) == 1
