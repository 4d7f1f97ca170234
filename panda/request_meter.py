"""How both faces, the API and the monitor, count their requests and answer /metrics."""

import time
from collections.abc import Iterable
from typing import Any

import falcon

from panda.metrics import Family, Requests, written

#: Prometheus' text format.
MEDIA = "text/plain; version=0.0.4; charset=utf-8"


class Meter:
    """Falcon middleware, the first of all: counts the requests of this process, by route."""

    def __init__(self, counter: str, seconds: str) -> None:
        """`counter`, `seconds`: names of the two metrics."""
        self._requests = Requests(counter, seconds)

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        req.context.began_at = time.perf_counter()

    def process_response(self, req: falcon.Request, resp: falcon.Response, resource: Any, succeeded: bool) -> None:
        """A stream counts with the time to its first byte."""
        took_s = time.perf_counter() - getattr(req.context, "began_at", time.perf_counter())
        self._requests.add(req.method, req.uri_template or "none", str(resp.status)[:3], took_s)

    def families(self) -> list[Family]:
        """Requests by route and status, and how long they took."""
        return self._requests.families()


def answer(resp: falcon.Response, families: Iterable[Family]) -> None:
    """These metrics as the body of an answer, which nobody keeps."""
    resp.content_type = MEDIA
    resp.set_header("Cache-Control", "no-store")
    resp.data = written(families).encode()
