"""How both faces, the API and the monitor, count and trace their requests, and answer /metrics."""

import time
from collections.abc import Iterable
from typing import Any

import falcon

from panda import traces
from panda.metrics import Family, Requests, written

#: Methods that have series of their own. Others are what a caller made up, and there is no end of those.
METHODS = frozenset(falcon.HTTP_METHODS)
#: Prometheus' text format.
MEDIA = "text/plain; version=0.0.4; charset=utf-8"


class Meter:
    """Falcon middleware, the first of all: counts the requests of this process, by route."""

    def __init__(self, counter: str, seconds: str, service: str) -> None:
        """`counter`, `seconds`: names of the two metrics; `service`: of traces."""
        self._requests = Requests(counter, seconds)
        self._service, self._is_traced = service, traces.are_wanted()

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        req.context.began_at = time.perf_counter()
        if self._is_traced:
            carrier = {name: req.get_header(name, default="") for name in ("traceparent", "tracestate")}
            req.context.span = traces.request_span(self._service, req.method, carrier)

    def process_response(self, req: falcon.Request, resp: falcon.Response, resource: Any, succeeded: bool) -> None:
        """A stream counts with the time to its first byte."""
        took_s = time.perf_counter() - getattr(req.context, "began_at", time.perf_counter())
        route, status = req.uri_template or "none", str(resp.status)[:3]
        self._requests.add(req.method if req.method in METHODS else "other", route, status, took_s)
        span = getattr(req.context, "span", None)
        if span is not None:
            traces.end_request(span, req.method, route, int(status))

    def families(self) -> list[Family]:
        """Requests by route and status, and how long they took."""
        return self._requests.families()


def answer(resp: falcon.Response, families: Iterable[Family]) -> None:
    """These metrics as the body of an answer, which nobody keeps."""
    resp.content_type = MEDIA
    resp.set_header("Cache-Control", "no-store")
    resp.data = written(families).encode()
