"""The contract with Flower: the real process, a real Redis, a real database, one port."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from celery import Celery

from panda.db.session import Begin
from panda.local.redis import EmbeddedRedis
from panda.settings import REDIS_KEY_PREFIX
from tests.integration.monitoring.conftest import Token, World

WAIT_S = 30


def until(is_so: Callable[[], bool], wait_s: float = WAIT_S) -> bool:
    deadline = time.monotonic() + wait_s
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@dataclass
class Monitor:
    url: str
    process: subprocess.Popen[bytes]
    redis: EmbeddedRedis

    def client(self, token: str | None = None) -> httpx.Client:
        client = httpx.Client(base_url=self.url, headers={"Accept": "text/html"}, timeout=10)
        if token is not None:
            assert client.post("/login", data={"token": token}).status_code == 303
        return client


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    server = EmbeddedRedis(tmp_path / "redis").start()
    yield server
    server.stop()


@pytest.fixture
def monitor(redis: EmbeddedRedis, database_url: str, tmp_path: Path) -> Iterator[Monitor]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environ = {
        **os.environ, "PANDA_DATABASE_URL": database_url, "PANDA_REDIS_URL": redis.url,
        "PANDA_DATA_DIR": str(tmp_path / "data"), "PANDA_MONITOR_PORT": str(port), "PANDA_API_PORT": "1",
    }  # fmt: skip
    with (tmp_path / "monitor.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "monitoring"], env=environ, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert process.poll() is None, (tmp_path / "monitor.log").read_text()
        try:
            return httpx.get(url + "/healthz").text == "ok\n"
        except httpx.TransportError:
            return False

    assert until(answers)
    yield Monitor(url, process, redis)
    process.terminate()
    assert process.wait(20) == 0


def test_flower_stands_behind_the_same_login(world: World, monitor: Monitor, token: Token, begin: Begin) -> None:
    stranger, viewer = monitor.client(), monitor.client(token("olga", "operator"))
    program = httpx.Client(base_url=monitor.url)

    for path in ("/flower/", "/flower/workers", "/flower/tasks", "/flower/broker"):
        refused, shown = stranger.get(path), viewer.get(path)
        assert refused.status_code == 303, path
        assert refused.headers["location"].startswith("/login?next=/flower/"), path
        assert shown.status_code == 200, path
        assert "PanDA monitor" in shown.text, path
        assert "frame-ancestors 'none'" in shown.headers["content-security-policy"]
    for path in ("/flower/metrics", "/flower/api/workers", "/flower/healthcheck", "/flower/static/css/flower.css"):
        assert program.get(path).status_code == 401, path
        assert viewer.get(path).status_code == 200, path
    assert viewer.get("/flower").headers["location"] == "/flower/"
    assert viewer.get("/").status_code == 200
    assert program.get("/flowers").status_code == 303  # a page of ours that does not exist: the pages' gate


def test_only_an_admin_acts_through_flower_and_it_is_written_down(world: World, monitor: Monitor, token: Token) -> None:
    viewer, admin = monitor.client(token("olga", "operator")), monitor.client(token("ada", "admin"))
    act = "/flower/api/task/revoke/3c04f63e-1111-4222-8333-9f2c00000000"
    written = "SELECT count(*) FROM audit_log WHERE who = 'ada' AND target = %(act)s"

    refused = viewer.post(act)
    crossed = admin.post(act, headers={"Sec-Fetch-Site": "cross-site"})
    before = world.count(written, act=act)
    done = admin.post(act)

    assert (refused.status_code, crossed.status_code) == (403, 403)
    assert "olga" in refused.text
    assert before == 0
    assert done.status_code == 200
    assert world.count(written, act=act) == 1
    assert world.count("SELECT count(*) FROM audit_log") == 1


def test_the_list_of_tasks_is_a_post_that_only_reads(monitor: Monitor, token: Token) -> None:
    viewer = monitor.client(token("olga", "operator"))
    asked = {"draw": "1", "start": "0", "length": "10", "search[value]": "", "order[0][column]": "0",
             "order[0][dir]": "asc", "columns[0][data]": "name"}  # fmt: skip

    answer = viewer.post("/flower/tasks/datatable", data=asked)

    assert answer.status_code == 200
    assert answer.json()["recordsTotal"] == 0


def test_events_under_our_prefix_reach_flower_and_the_pages(monitor: Monitor, token: Token) -> None:
    viewer = monitor.client(token("olga", "operator"))
    app = Celery("elsewhere", broker=monitor.redis.url)
    app.conf.broker_transport_options = {"global_keyprefix": REDIS_KEY_PREFIX}

    def has_arrived() -> bool:
        with app.events.default_dispatcher(hostname="lane@w1") as sender:
            sender.send("worker-heartbeat", freq=2, active=3, processed=5, sw_ident="x", sw_ver="1", sw_sys="Linux")
        parts = viewer.get("/?json").json()["data"]["health"]
        celery = next(part for part in parts if part["name"] == "Celery")
        return (celery["state"], celery["told"], celery["link"]) == ("ok", "1 worker · 3 busy", "/flower/")

    assert until(has_arrived)
    assert "lane@w1" in viewer.get("/flower/workers").text


def test_a_stage_in_flower_leads_to_its_jobs(world: World, monitor: Monitor, token: Token) -> None:
    viewer = monitor.client(token("olga", "operator"))
    app = Celery("elsewhere", broker=monitor.redis.url)
    app.conf.broker_transport_options = {"global_keyprefix": REDIS_KEY_PREFIX}
    first, second = "3c04f63e-4444-4222-8333-9f2c00000000", "3c04f63e-5555-4222-8333-9f2c00000000"
    tick = "3c04f63e-6666-4222-8333-9f2c00000000"
    panda_id = world.jobs["running"]
    world.event(panda_id, "starting", "running", 1, chain_id=first)
    ways = {}

    def has_arrived() -> bool:
        with app.events.default_dispatcher(hostname="lane@w1") as sender:
            for task_id, name in ((first, "panda.define"), (second, "panda.broker"), (tick, "panda.tick.sweep")):
                sender.send(
                    "task-received", uuid=task_id, name=name, args=f"([{panda_id}],)", kwargs="{}", root_id=first
                )
        ways.update({task_id: viewer.get(f"/flower/task/{task_id}") for task_id in (first, second, tick)})
        return all(answer.status_code == 200 for answer in ways.values())

    assert until(has_arrived)
    link = f'href="/search?q={second}"'
    assert link in ways[second].text
    assert "Its jobs in PanDA" not in ways[tick].text
    for task_id in (first, second):
        assert viewer.get(f"/search?q={task_id}").headers["location"] == f"/jobs/{panda_id}"


def test_the_pages_stay_when_redis_goes(monitor: Monitor, token: Token) -> None:
    viewer = monitor.client(token("olga", "operator"))
    assert until(lambda: _state(viewer, "Redis") == "ok")

    monitor.redis.stop()

    assert until(lambda: _state(viewer, "Redis") == "down")
    assert viewer.get("/jobs").status_code == 200
    assert viewer.get("/flower/workers").status_code == 200
    assert viewer.get("/flower/broker").status_code == 200


def _state(viewer: httpx.Client, name: str) -> str:
    parts = viewer.get("/?json").json()["data"]["health"]
    return next(part["state"] for part in parts if part["name"] == name)


def test_it_ends_in_order_and_says_why_it_cannot_start(monitor: Monitor, tmp_path: Path, database_url: str) -> None:
    environ = {**os.environ, "PANDA_DATABASE_URL": database_url, "PANDA_MONITOR_PORT": monitor.url.rsplit(":", 1)[1]}

    second = subprocess.run([sys.executable, "-m", "monitoring"], env=environ, capture_output=True, timeout=60)
    monitor.process.send_signal(signal.SIGTERM)

    assert second.returncode == 1
    assert b"cannot start" in second.stderr
    assert monitor.process.wait(10) == 0


def test_changes_come_as_events_on_the_same_port(world: World, monitor: Monitor, token: Token) -> None:
    viewer, stranger = monitor.client(token("olga", "operator")), monitor.client()
    panda_id = world.jobs["running"]

    assert stranger.get(f"/events/stream?topics=job:{panda_id}").status_code == 401
    assert viewer.get("/events/stream?topics=lunch").status_code == 400
    assert monitor.client(token("bob", "user")).get(f"/events/stream?topics=job:{panda_id}").status_code == 403
    with viewer.stream("GET", f"/events/stream?topics=job:{panda_id}", timeout=20) as stream:
        lines = stream.iter_lines()
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert next(line for line in lines if line.startswith("event:")) == "event: hello"
        time.sleep(2.5)  # the hub looks once a second: the first look is what changes are told from
        world.sql("UPDATE jobs SET changed_at = panda_now() WHERE panda_id = %(id)s", id=panda_id)
        told = [next(line for line in lines if line.startswith(start)) for start in ("id:", "event:", "data:")]

    assert told[1:] == ["event: changed", f"data: job:{panda_id}"]
    with viewer.stream("GET", f"/events/stream?topics=job:{panda_id}", headers={"Last-Event-ID": "gone-1"}) as again:
        assert next(line for line in again.iter_lines() if line.startswith("data:")) == f"data: job:{panda_id}"
