"""Numbers of the pages for Prometheus, for whom they are, and memory that stays flat."""

import gc
import re
import tracemalloc

from monitoring.pages.page import Parts
from monitoring.reads.blocks import Memory
from tests.integration.api.test_metrics import PAGES as NAMED
from tests.integration.api.test_metrics import names, sampled
from tests.integration.monitoring.conftest import Browser, Token, World

FAR = {"REMOTE_ADDR": "203.0.113.9"}
HERE = {"REMOTE_ADDR": "127.0.0.1"}


def test_pages_are_counted_by_route_and_what_is_wrong_by_kind(world: World, operator: Browser, parts: Parts) -> None:
    operator.get("/jobs/7")
    world.sql("UPDATE queues SET status = 'offline'")

    told = operator.get("/metrics", extras=HERE)
    found = sampled(told.text)

    assert found['panda_page_requests_total{method="GET",route="/jobs/{panda_id:int}",status="200"}'] == 1
    assert found['panda_page_seconds_count{route="/jobs/{panda_id:int}"}'] == 1
    assert found['panda_troubles{kind="closed"}'] == 1
    assert found["panda_page_sessions"] == 1
    assert names(told.text) >= NAMED
    assert re.match(r"text/plain; version=0.0.4", told.headers["content-type"])


def test_who_is_not_on_this_machine_needs_a_token_that_may(
    world: World, operator: Browser, parts: Parts, token: Token
) -> None:
    nobody, alice = Browser(parts), Browser(parts, token("alice", "user"))
    bearer = {"Authorization": f"Bearer {token('grafana', 'production')}"}

    assert nobody.get("/metrics", extras=HERE).status_code == 200
    assert nobody.get("/metrics", extras=FAR).status_code == 401
    assert nobody._client.simulate_get("/metrics", headers={"X-Forwarded-For": "127.0.0.1"}).status_code == 401
    assert nobody._client.simulate_get("/metrics", headers=bearer, extras=FAR).status_code == 200
    assert nobody._client.simulate_get("/metrics", headers={"Authorization": "Bearer x"}, extras=FAR).status_code == 401
    assert alice.get("/metrics", extras=FAR).status_code == 403
    assert operator.get("/metrics", extras=FAR).status_code == 200


def test_many_requests_leave_nothing_behind(world: World, parts: Parts, token: Token) -> None:
    """What is remembered has a limit: a thousand different questions take no more memory than a hundred."""
    world.furnish()
    busy = Parts(**{**vars(parts), "memory": Memory(keep_s=60)})
    somebody = Browser(busy, token("olga", "operator"))

    def ask(first: int, n: int) -> int:
        for k in range(first, first + n):
            somebody.get(f"/jobs?q=priority>{k}")
            somebody.get(f"/search?q=nothing{k}")
            somebody.get(f"/errors/code:{k}")
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    ask(0, 20)
    tracemalloc.start()
    try:
        settled = ask(100, 40)
        grown = ask(1000, 80)
    finally:
        tracemalloc.stop()

    assert grown - settled < 3_000_000
