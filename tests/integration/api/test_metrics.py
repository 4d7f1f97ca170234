"""Numbers for Prometheus: complete, bounded, not for everybody; the board and the alerts name only what exists."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from falcon.testing import TestClient

from panda.api.app import create_app
from panda.db.session import begin_of, make_engine, run

GRAFANA = Path(__file__).parents[3] / "monitoring" / "grafana"
SAMPLE = re.compile(r"^([a-z_0-9]+)(\{.*\})? [-+0-9.e]+(inf)?$")
#: A caller on this machine.
HERE = {"REMOTE_ADDR": "127.0.0.1"}


def sampled(text):
    """Values by name and labels; fails on a line that is none."""
    found = {}
    for line in text.splitlines():
        if not line.startswith("# "):
            assert SAMPLE.match(line), line
            key, _, value = line.rpartition(" ")
            assert key not in found, key
            found[key] = float(value)
    return found


def names(text):
    return {key.partition("{")[0] for key in sampled(text)} | set(re.findall(r"^# TYPE (\w+)", text, re.MULTILINE))


def test_jobs_requests_and_the_engine_are_told(client, anna, engine, sites):
    anna.submit()
    engine.expand()

    found = sampled(client.simulate_get("/metrics", extras=HERE).text)

    assert found["panda_up"] == 1
    assert found['panda_jobs{status="pending",queue=""}'] == 1
    assert found['panda_api_requests_total{method="POST",route="/v1/jobsets",status="201"}'] == 1
    assert found['panda_api_request_seconds_bucket{route="/v1/jobsets",le="+Inf"}'] == 1
    assert found['panda_api_request_seconds_count{route="/v1/jobsets"}'] == 1
    assert 'panda_due_jobs{lane="stages"}' in found


@pytest.mark.usefixtures("by_hand")
def test_quotes_in_a_name_do_not_break_a_line(client, begin):
    with begin() as connection:
        run(connection, """INSERT INTO job_counts VALUES ('running', E'a"b\\\\c\\nd', 3)""")

    assert 3 in sampled(client.simulate_get("/metrics", extras=HERE).text).values()


def test_without_the_database_it_says_so(settings):
    away = begin_of(make_engine("postgresql://panda@/none?host=/nonexistent"))
    client = TestClient(create_app(away, settings))

    found = sampled(client.simulate_get("/metrics", extras=HERE).text)

    assert found["panda_up"] == 0
    assert not any(name.startswith("panda_jobs") for name in found)


def test_who_is_not_on_this_machine_needs_a_token_that_may(client, anna, operator):
    far = {"REMOTE_ADDR": "203.0.113.9"}

    assert client.simulate_get("/metrics", extras=far).status_code == 401
    assert client.simulate_get("/metrics", extras=HERE, headers={"X-Forwarded-For": "127.0.0.1"}).status_code == 401
    assert anna.get("/metrics", extras=far).status_code == 403
    assert operator.get("/metrics", extras=far).status_code == 200


def test_this_machine_can_be_asked_for_a_token_too(begin, settings):
    strict = replace(settings, api=replace(settings.api, metrics_to_this_machine=False))

    assert TestClient(create_app(begin, strict)).simulate_get("/metrics", extras=HERE).status_code == 401


def test_many_scrapes_ask_the_database_once(begin, settings):
    asked = []

    def counting():
        asked.append(1)
        return begin()

    client = TestClient(create_app(counting, settings))
    for _ in range(5):
        client.simulate_get("/metrics", extras=HERE)

    assert len(asked) == 1


#: What the monitor tells of its own (tests/integration/monitoring asks it).
PAGES = {
    "panda_page_seconds_bucket", "panda_page_requests_total", "panda_page_sessions", "panda_sse_clients",
    "panda_sse_events_total", "panda_troubles", "panda_monitor_peak_bytes",
}  # fmt: skip


@pytest.fixture
def told(client, anna):
    anna.get("/v1/whoami")
    return names(client.simulate_get("/metrics", extras=HERE).text)


def expressions():
    board = json.loads((GRAFANA / "board.json").read_text())
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]
    for group in yaml.safe_load((GRAFANA / "alerts.yaml").read_text())["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]


def test_board_and_alerts_name_metrics_that_exist(told):
    for title, expression in expressions():
        used = set(re.findall(r"\bpanda_\w+", expression))
        assert used, title
        assert used <= told | PAGES, title


def test_every_alert_says_what_it_means_and_what_to_do():
    for group in yaml.safe_load((GRAFANA / "alerts.yaml").read_text())["groups"]:
        for rule in group["rules"]:
            assert rule["labels"]["severity"] in ("page", "ticket")
            assert {"summary", "description"} <= set(rule["annotations"])
