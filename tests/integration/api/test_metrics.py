"""Numbers for Prometheus: complete, bounded, not for everybody; the board and the alerts name only what exists."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from falcon.testing import TestClient

from panda.api.app import create_app
from panda.db.session import begin_of, make_engine, rows, run
from panda.jobs import counters, meters
from panda.metrics import BUCKETS_S

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
    """Also those of which there is no series yet."""
    kinds = dict(re.findall(r"^# TYPE (\w+) (\w+)", text, re.MULTILINE))
    of_histograms = {
        f"{name}_{part}" for name in kinds if kinds[name] == "histogram" for part in ("bucket", "sum", "count")
    }
    return {key.partition("{")[0] for key in sampled(text)} | kinds.keys() | of_histograms


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


@pytest.mark.filterwarnings("ignore:Unknown REQUEST_METHOD")
def test_methods_that_a_caller_makes_up_share_one_series(client):
    for n in range(3):
        client.simulate_request(f"MADEUP{n}", "/v1/jobs")

    text = client.simulate_get("/metrics", extras=HERE).text

    assert "MADEUP" not in text
    assert sampled(text)['panda_api_requests_total{method="other",route="/v1/jobs",status="400"}'] == 3


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


def scraped(client):
    """What a scrape says that does not get what an earlier one got."""
    return sampled(client.simulate_get("/metrics", extras=HERE).text)


@pytest.mark.usefixtures("by_hand")
def test_runs_of_stages_fill_buckets_that_only_grow(client, begin):
    ran = """INSERT INTO stage_run_deltas (at, stage, n, n_failed, busy_ms)
        SELECT panda_now(), 'broker', 10, 0, ms FROM unnest(ARRAY[5, 6, 100, 700, 60000]) AS ms"""
    for _ in range(2):
        with begin() as connection:
            run(connection, ran)
            counters.fold(connection)

    found = scraped(client)

    told = [found[f'panda_stage_seconds_bucket{{stage="broker",le="{bound}"}}'] for bound in (*BUCKETS_S, "+Inf")]
    assert told == [2, 4, 6, 6, 8, 8, 10]
    assert found['panda_stage_seconds_count{stage="broker"}'] == 10
    assert found['panda_stage_seconds_sum{stage="broker"}'] == pytest.approx(2 * 60.811)


@pytest.mark.usefixtures("by_hand")
def test_failed_attempts_and_transfers_are_counted_by_code(client, begin):
    with begin() as connection:
        run(connection, """INSERT INTO error_deltas (hour, error_code, failed_stage, queue, n, wall_s)
            VALUES (date_trunc('hour', panda_now()), 'payload:1', 'dispatch', 'Q', 2, 7),
                (date_trunc('hour', panda_now()), 'payload:1', 'dispatch', 'P', 1, 7)""")  # fmt: skip
        meters.count_transfer(connection, "A", "B", size_bytes=1_234_567_890_123)
        meters.count_transfer(connection, "A", "B", size_bytes=1)
        meters.count_transfer(connection, "A", "B", code="enospc", size_bytes=0)
        counters.fold(connection)

    found = scraped(client)

    assert found['panda_stage_failures_total{stage="dispatch",code="payload:1"}'] == 3
    assert found['panda_transfers_done_total{source="A",destination="B"}'] == 2
    assert found['panda_transfer_bytes_total{source="A",destination="B"}'] == 1_234_567_890_124
    assert found['panda_transfer_failures_total{source="A",destination="B",code="enospc"}'] == 1


@pytest.mark.usefixtures("by_hand")
def test_a_meter_has_only_so_many_series_and_what_arrived_beyond_them_did_not_fail(client, begin):
    many = """INSERT INTO meter_deltas (meter, labels, n)
        SELECT 'transfer', ARRAY['S' || i, 'D', ''], 1 FROM generate_series(1, %(n)s) AS i"""
    with begin() as connection:
        run(connection, many, {"n": meters.MAX_SERIES})
        counters.fold(connection)
        run(connection, many, {"n": meters.MAX_SERIES + 30})
        counters.fold(connection)

        found = {tuple(r.labels): r.n for r in rows(connection, "SELECT labels, n FROM meters")}

    assert len(found) == meters.MAX_SERIES + 1
    assert found["S1", "D", ""] == 2
    assert found["other", "other", ""] == 30
    assert scraped(client)['panda_transfers_done_total{source="other",destination="other"}'] == 30


@pytest.mark.usefixtures("by_hand")
def test_a_busy_pilot_that_asks_for_nothing_is_counted(client, begin):
    with begin() as connection:
        run(
            connection,
            """INSERT INTO pilots (pilot_id, queue, node, version, cores, memory_mb, started_at, last_seen_at)
            SELECT 'p' || i, 'Q', 'n', '1', 2, 100, panda_now(), panda_now() - make_interval(mins => ago)
            FROM unnest(ARRAY[0, 60, 60]) WITH ORDINALITY AS t(ago, i)""",
        )
        run(connection, """INSERT INTO leases (panda_id, attempt_nr, token_hash, pilot_id, lease_until, reported_at)
            VALUES (7, 1, '', 'p2', panda_now() + interval '1 hour', panda_now())""")  # fmt: skip

    found = scraped(client)

    assert found['panda_pilots{queue="Q",state="busy"}'] == 1
    assert found['panda_pilots{queue="Q",state="idle"}'] == 1
    assert found['panda_pilot_cores{queue="Q"}'] == 4


@pytest.mark.usefixtures("by_hand")
def test_incidents_are_open_until_somebody_closes_them(client, begin):
    with begin() as connection:
        run(connection, """INSERT INTO incidents (component, level, key, message, context, n, first_at, last_at, closed_at)
            SELECT 'x', 'error', 'k', 'm', '{}', 1, at, at, closed FROM (VALUES
                (panda_now(), NULL), (panda_now() - interval '1 day', NULL), (panda_now(), panda_now()))
                AS t(at, closed)""")  # fmt: skip

    found = scraped(client)

    assert found['panda_incidents_open{level="error"}'] == 2
    assert found['panda_incidents_1h{level="error"}'] == 2


@pytest.mark.usefixtures("by_hand")
def test_how_long_the_oldest_ready_job_of_a_queue_waits(client, anna, engine, begin, sites):
    anna.submit()
    engine.expand()
    with begin() as connection:
        run(connection, "UPDATE jobs SET changed_at = panda_now() - interval '1 hour'")
        run(connection, "INSERT INTO ready SELECT panda_id, 'Q', 'default', 1, 0 FROM jobs")

    assert scraped(client)['panda_queue_oldest_seconds{queue="Q"}'] == pytest.approx(3600, abs=60)


def test_asks_of_pilots_are_timed(client, acquire, sites):
    before = scraped(client)["panda_dispatch_seconds_count"]

    acquire()

    assert scraped(client)["panda_dispatch_seconds_count"] == before + 1


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
