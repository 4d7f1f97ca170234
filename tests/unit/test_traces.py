"""Traces: asked for by the standard variables alone, and never in anybody's way."""

import os
import subprocess
import sys
from types import SimpleNamespace

import falcon
import pytest
from falcon.testing import TestClient

from panda import traces
from panda.request_meter import Meter
from workflows import tracing

ABOVE = "0af7651916cd43dd8448eb211c80319c"
UNASKED = "import sys, panda.request_meter; assert not any('opentelemetry' in name for name in sys.modules)"


@pytest.fixture(autouse=True)
def anew(monkeypatch):
    """No process variables of whoever runs this, and no tracer of another test."""
    for name in list(os.environ):
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(traces, "_made", {})
    return monkeypatch


@pytest.fixture
def spans(anew):
    """What was traced, in a process that asks for it."""
    sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="an extra: pip install 'panda-wms[otel]'")
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    anew.setenv(traces.EXPORTER, "console")
    kept = InMemorySpanExporter()
    provider = sdk.TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    anew.setattr(traces, "_started", lambda service: provider.get_tracer(service))
    return kept


def asked(path, **headers):
    class Thing:
        def on_get(self, req, resp, name):
            if name == "broken":
                raise falcon.HTTPServiceUnavailable
            resp.text = name

    app = falcon.App(middleware=[Meter("n", "s", "panda-test")])
    app.add_route("/things/{name}", Thing())
    return TestClient(app).simulate_get(path, headers=headers)


@pytest.mark.parametrize(
    ("environ", "are_wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, True),
        ({"OTEL_TRACES_EXPORTER": "console"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", "OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", "OTEL_SDK_DISABLED": "true"}, False),
    ],
)
def test_traces_are_wanted_when_the_environment_says_so(anew, environ, are_wanted):
    for name, value in environ.items():
        anew.setenv(name, value)

    assert traces.are_wanted() == are_wanted


def test_without_traces_nothing_of_them_is_imported():
    subprocess.run([sys.executable, "-c", UNASKED], check=True, timeout=60)


def test_a_request_is_a_span_below_its_callers(spans):
    asked("/things/lamp", traceparent=f"00-{ABOVE}-b7ad6b7169203331-01")
    asked("/things/broken")

    lamp, broken = spans.get_finished_spans()
    assert lamp.name == "GET /things/{name}"
    assert f"{lamp.context.trace_id:032x}" == ABOVE
    assert lamp.attributes["http.response.status_code"] == 200
    assert (broken.parent, broken.status.is_ok) == (None, False)


def test_a_stage_is_a_span_with_its_number_of_jobs(spans):
    task = SimpleNamespace(name="panda.broker", request=SimpleNamespace())

    tracing._begin("some-id", task, args=[[7, 8, 9]])
    tracing._end(task, state="SUCCESS", retval=[7, 8])

    [span] = spans.get_finished_spans()
    assert span.name == "panda.broker"
    assert span.attributes["panda.jobs"] == 3
    assert span.attributes["panda.survivors"] == 2


def test_an_exporter_that_there_is_not_costs_the_traces_alone(anew):
    anew.setenv(traces.EXPORTER, "smoke-signals")

    assert traces.tracer("panda-test") is None
    assert asked("/things/lamp").text == "lamp"


def test_a_package_that_is_not_there_costs_the_traces_alone(anew):
    anew.setenv(traces.EXPORTER, "console")
    anew.setitem(sys.modules, "opentelemetry.sdk.trace", None)

    assert traces.tracer("panda-test") is None
    assert asked("/things/lamp").text == "lamp"
