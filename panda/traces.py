"""Spans for OpenTelemetry, in every process whose environment asks for them by the standard variables.

`OTEL_EXPORTER_OTLP_ENDPOINT` (or `…_TRACES_ENDPOINT`) names a collector, or `OTEL_TRACES_EXPORTER=console` prints them;
sampling, service name and resource are the SDK's own variables. Without them nothing of it is even imported: the
package is an extra (`panda-wms[otel]`). Who writes spans asks `tracer()` and does without when there is none.
"""

import os
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from panda.logs import Log

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

log = Log("panda.traces")

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
EXPORTER = "OTEL_TRACES_EXPORTER"
DISABLED = "OTEL_SDK_DISABLED"
#: What `OTEL_TRACES_EXPORTER` may say here.
EXPORTERS = ("otlp", "console", "none")

_guard = threading.Lock()
_made: dict[str, Any] = {}  #: the tracer of this process, or None, under its pid: a fork makes its own


def are_wanted() -> bool:
    """Whether the environment asks for traces."""
    if os.environ.get(DISABLED, "").lower() == "true":
        return False
    exporter = os.environ.get(EXPORTER, "")
    return exporter != "none" and bool(exporter or any(os.environ.get(name) for name in ENDPOINTS))


def tracer(service: str) -> "Tracer | None":
    """What makes spans; None while nobody wants any. `service`: its name, unless OTEL_SERVICE_NAME says one."""
    if not are_wanted():
        return None
    pid = str(os.getpid())
    with _guard:
        if pid not in _made:
            _made.clear()
            _made[pid] = _started(service)
        made: Tracer | None = _made[pid]
        return made


def request_span(service: str, method: str, carrier: Mapping[str, str]) -> "Span | None":
    """A span for a request that came; a child of the caller's, if `carrier` (traceparent, tracestate) says one."""
    made = tracer(service)
    if made is None:
        return None
    from opentelemetry.trace import SpanKind
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    above = TraceContextTextMapPropagator().extract(carrier)
    return made.start_span(method, context=above, kind=SpanKind.SERVER, attributes={"http.request.method": method})


def end_request(span: "Span", method: str, route: str, status: int) -> None:
    """The request is answered."""
    from opentelemetry.trace import StatusCode

    span.update_name(f"{method} {route}")
    span.set_attribute("http.route", route)
    span.set_attribute("http.response.status_code", status)
    if status >= 500:
        span.set_status(StatusCode.ERROR)
    span.end()


def _started(service: str) -> "Tracer | None":
    exporter = os.environ.get(EXPORTER) or "otlp"
    if exporter not in EXPORTERS:
        log.warning("no traces: no such exporter", exporter=exporter, known=", ".join(EXPORTERS))
        return None
    try:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

        if exporter == "console":
            sink: Any = ConsoleSpanExporter()
        else:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            sink = OTLPSpanExporter()
    except ImportError as problem:
        log.warning("no traces: pip install 'panda-wms[otel]'", problem=str(problem))
        return None
    named = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": service}
    provider = TracerProvider(resource=Resource.create(named))
    provider.add_span_processor(BatchSpanProcessor(sink))
    return provider.get_tracer("panda")
