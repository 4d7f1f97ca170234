"""Streams of events over real HTTP, from the server that we ship: complete, bounded, and in nobody's way."""

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

import pytest

from panda.api.events import KEEP_ALIVE_S
from panda.auth import tokens
from panda.db.session import Begin, begin_of, make_engine, run
from panda.jobs import event_feed
from panda.local.ports import free_pair
from tests.livesystem import await_that, clean_environ

THREADS, STREAMS = 4, 6
MOVE = """
INSERT INTO job_events (panda_id, at, was, now, attempt_nr, stage, by)
VALUES (%(panda_id)s, panda_now(), 'sent', %(now)s, 1, 'dispatch', 'test')
"""
SETS = """
INSERT INTO jobs (panda_id, jobset_id, seq, name, owner, share, priority, status, max_attempts, shape_id, created_at,
    changed_at, spec)
SELECT i, %(jobset_id)s, 0, 'x', %(owner)s, 'default', 0, 'running', 3, 1, panda_now(), panda_now(), '{}'
FROM unnest(%(ids)s::bigint[]) AS i
"""


class Server:
    """granian with the API, as the Procfile starts it, and who calls it."""

    def __init__(self, port: int, process: "subprocess.Popen[bytes]") -> None:
        self.port, self.process = port, process

    def request(self, token: str, path: str, **headers: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}", **headers})
        return connection.getresponse()

    @contextmanager
    def stream(self, token: str, query: str = "", last: str | None = None) -> Iterator["Stream"]:
        answer = self.request(token, f"/v1/events{query}", **({"Last-Event-ID": last} if last else {}))
        assert answer.status == 200, answer.read()
        try:
            yield Stream(answer)
        finally:
            answer.close()


class Stream:
    """Events, one after the other."""

    def __init__(self, answer: http.client.HTTPResponse) -> None:
        self.answer = answer
        self.last = ""

    def next(self) -> tuple[str, Any]:
        """Kind and data of the next event; comments are passed over."""
        found: dict[str, str] = {}
        while True:
            line = self.answer.readline().decode()
            if not line:
                return "over", None
            name, _, value = line.rstrip("\n").partition(": ")
            if name:
                found[name] = value
            elif not line.strip() and "data" in found:
                self.last = found.get("id", self.last)
                return found.get("event", "message"), json.loads(found["data"])

    def job(self) -> tuple[int, str]:
        kind, data = self.next()
        assert kind == "job", (kind, data)
        return data["panda_id"], data["now"]


@pytest.fixture
def server(database_url: str, settings: Any) -> Iterator[Server]:
    port = free_pair("127.0.0.1")
    environ = clean_environ() | {
        "PANDA_DATABASE_URL": database_url, "PANDA_DATA_DIR": str(settings.data_dir), "PANDA_API_PORT": str(port),
        "PANDA_API_THREADS": str(THREADS), "PANDA_API_MAX_STREAMS": str(STREAMS),
    }  # fmt: skip
    words = ["--interface", "wsgi", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
             "--blocking-threads", str(THREADS + STREAMS), "--no-ws", "--log-level", "warning", "panda.api.wsgi:app"]  # fmt: skip
    process = subprocess.Popen([sys.executable, "-m", "granian", *words], env=environ, start_new_session=True)

    def answers() -> bool:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
            connection.request("GET", "/healthz")
            return connection.getresponse().status == 200
        except OSError:
            return False

    try:
        await_that(answers, 30)
        yield Server(port, process)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture
def token(begin: Begin) -> Callable[..., str]:
    def make(owner: str, *roles: str, ttl_s: float = 3600) -> str:
        with begin() as connection:
            return tokens.create(connection, owner, roles, "test", ttl_s)

    return make


@pytest.fixture
def jobs(begin: Begin) -> None:
    """Anna's jobs 1 and 2 in one set, 3 in another; Bob's job 4."""
    with begin() as connection:
        run(connection, "INSERT INTO shapes (cores, memory_mb, disk_mb, walltime_s) VALUES (1, 1, 1, 1)")
        for jobset_id, owner, ids in ((1, "anna", [1, 2]), (2, "anna", [3]), (3, "bob", [4])):
            run(connection, SETS, {"jobset_id": jobset_id, "owner": owner, "ids": ids})


@pytest.fixture
def move(begin: Begin) -> Callable[[int, str], None]:
    def make(panda_id: int, now: str) -> None:
        with begin() as connection:
            run(connection, MOVE, {"panda_id": panda_id, "now": now})

    return make


def test_a_stream_tells_what_its_caller_may_see_and_asked_for(server, token, jobs, move):
    anna, admin = token("anna", "user"), token("ada", "admin")

    with (
        server.stream(anna) as hers,
        server.stream(anna, "?job=2") as one,
        server.stream(admin) as everything,
        server.stream(admin, "?mine=true") as nothing,
    ):
        for stream in (hers, one, everything, nothing):
            assert stream.next()[0] == "start"
        for panda_id in (4, 1, 2, 3):
            move(panda_id, "running")

        assert [hers.job() for _ in range(3)] == [(1, "running"), (2, "running"), (3, "running")]
        assert one.job() == (2, "running")
        assert [everything.job()[0] for _ in range(4)] == [4, 1, 2, 3]


def test_nobody_hears_of_what_is_not_theirs(server, token, jobs):
    anna = token("anna", "user")

    assert server.request(anna, "/v1/events?job=4").status == 403
    assert server.request(anna, "/v1/events?job=99").status == 404
    assert server.request(anna, "/v1/events?mine=perhaps").status == 400
    assert server.request("wrong", "/v1/events").status == 401
    assert server.request(anna, "/v1/events", **{"Last-Event-ID": "x"}).status == 400


def test_a_stream_goes_on_where_it_broke_off_and_misses_nothing(server, token, jobs, move):
    anna = token("anna", "user")
    with server.stream(anna) as stream:
        stream.next()
        move(1, "starting")
        assert stream.job() == (1, "starting")
        last = stream.last

    move(1, "running")
    move(2, "running")

    with server.stream(anna, last=last) as stream:
        assert [stream.job(), stream.job()] == [(1, "running"), (2, "running")]
        move(3, "failed")
        assert stream.job() == (3, "failed")


def test_an_event_that_commits_after_a_later_one_is_not_missed(server, token, jobs, move, database_url):
    anna = token("anna", "user")
    slow = make_engine(database_url, pool_size=1)
    with server.stream(anna) as stream:
        stream.next()
        with begin_of(slow)() as connection:
            run(connection, MOVE, {"panda_id": 1, "now": "holding"})
            move(2, "running")
            assert stream.job() == (2, "running")
            before = stream.last

        assert stream.job() == (1, "holding")
    slow.dispose()
    with server.stream(anna, last=before) as stream:  # the cursor lay below what was missing
        assert {stream.job(), stream.job()} == {(1, "holding"), (2, "running")}


def test_a_stream_ends_with_its_token(server, token, jobs):
    with server.stream(token("anna", "user", ttl_s=2)) as stream:
        assert stream.next()[0] == "start"
        began = time.monotonic()

        assert stream.next() == ("end", {"code": "unauthenticated"})
        assert stream.next()[0] == "over"
        assert time.monotonic() - began < 3 * KEEP_ALIVE_S + tokens.REMEMBERED_S


def test_streams_beyond_the_bound_are_refused_and_calls_go_on_beside_those_that_are_open(server, token, jobs):
    anna = token("anna", "user")
    open_streams = [server.request(anna, "/v1/events") for _ in range(STREAMS)]
    assert {answer.status for answer in open_streams} == {200}

    refused = server.request(anna, "/v1/events")
    assert (refused.status, refused.getheader("Retry-After")) == (503, "10")
    assert json.loads(refused.read())["code"] == "too_many_streams"

    found: list[int] = []
    callers = [
        Thread(target=lambda: found.append(server.request(anna, "/v1/whoami").status)) for _ in range(3 * THREADS)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert found == [200] * (3 * THREADS)

    for answer in open_streams:
        answer.close()
    again = await_that(
        lambda: (answer := server.request(anna, "/v1/events")).status == 200 and answer, 4 * KEEP_ALIVE_S
    )
    again.close()


def test_the_server_ends_while_streams_are_open(server, token, jobs):
    with server.stream(token("anna", "user")) as stream:
        stream.next()

        server.process.send_signal(signal.SIGTERM)

        assert server.process.wait(timeout=20) is not None


def test_a_listener_that_comes_back_too_late_is_told_so(begin, jobs, move, monkeypatch):
    monkeypatch.setattr(event_feed, "MAX_REPLAY", 2)
    for _ in range(5):
        move(1, "running")

    feed = event_feed.Feed(begin)
    listener = feed.listen(event_feed.Wish())
    feed.leave(listener)

    assert listener.started_at >= 5
    assert event_feed.replay(begin, event_feed.Wish(panda_id=1), 3, 5)[1] == 5
    assert len(event_feed.replay(begin, event_feed.Wish(panda_id=1), 3, 5)[0]) == 2
    assert event_feed.replay(begin, event_feed.Wish(panda_id=2), 0, 5)[0] == []
