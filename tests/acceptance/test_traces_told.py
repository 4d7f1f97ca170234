"""Spans of every process reach a collector that speaks OTLP over HTTP: the protocol's own messages, decoded by its
own package."""

import gzip
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from livesystem import System, await_that

wire = pytest.importorskip(
    "opentelemetry.proto.collector.trace.v1.trace_service_pb2", reason="an extra: pip install 'panda-wms[otel]'"
)
#: Spans leave a process in batches, every so many milliseconds.
OFTEN = {"OTEL_BSP_SCHEDULE_DELAY": "200", "OTEL_EXPORTER_OTLP_TIMEOUT": "5"}


class Collector(ThreadingHTTPServer):
    """Keeps what it is told: (service, name of the span, its facts)."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Told)
        self.spans: list[tuple[str, str, dict[str, Any]]] = []

    def of(self, service: str, name: str) -> list[dict[str, Any]]:
        return [facts for whose, what, facts in list(self.spans) if (whose, what) == (service, name)]


class _Told(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        for part in wire.ExportTraceServiceRequest.FromString(body).resource_spans:
            service = _facts(part.resource.attributes)["service.name"]
            for scope in part.scope_spans:
                self.server.spans += [(service, span.name, _facts(span.attributes)) for span in scope.spans]
        self.send_response(200 if self.path == "/v1/traces" else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Not into the tests' output."""


def _facts(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


@pytest.fixture
def collector() -> Iterator[Collector]:
    server = Collector()
    Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_requests_and_stages_of_a_job_reach_the_collector(collector: Collector, tmp_path: Path) -> None:
    address = f"http://127.0.0.1:{collector.server_port}"
    system = System.started(tmp_path, {**OFTEN, "OTEL_EXPORTER_OTLP_ENDPOINT": address})
    try:
        done = system.client.submit({"name": "traced", "jobs": [{"command": ["true"]}]})
        system.client.wait(jobsets=[done.jobset_id], timeout_s=60)
        stages = [f"panda.{stage}" for stage in ("define", "broker", "stage_in", "activate", "stage_out", "archive")]
        await_that(
            lambda: collector.of("panda-api", "POST /v1/jobsets")
            and all(collector.of("panda-worker", stage) for stage in stages),
            30, lambda: sorted({(service, name) for service, name, _ in collector.spans}),
        )  # fmt: skip
    finally:
        system.stop()
    [submitted] = collector.of("panda-api", "POST /v1/jobsets")
    assert submitted["http.response.status_code"] == 201
    assert {facts["panda.jobs"] for facts in collector.of("panda-worker", "panda.broker")} == {1}


def test_a_collector_that_is_away_holds_nobody_up(tmp_path: Path) -> None:
    system = System.started(tmp_path, {**OFTEN, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"})
    try:
        done = system.client.submit({"name": "untraced", "jobs": [{"command": ["true"]}]})
        assert system.client.wait(jobsets=[done.jobset_id], timeout_s=60).is_finished
    finally:
        system.stop()
