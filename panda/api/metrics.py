"""/metrics, in Prometheus' text format: requests of this process, and the engine's gauges.

Written by ourselves: four kinds of lines need no library on the way of every request.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import falcon
from sqlalchemy.exc import SQLAlchemyError

from panda.api.access import allowed
from panda.api.described import Raw, gives
from panda.auth.identity import Identity, Role
from panda.auth.policy import Action
from panda.db.session import Begin
from panda.jobs import gauges
from panda.jobs.gauges import Family
from panda.logs import Log

log = Log("panda.api")

MEDIA = "text/plain; version=0.0.4; charset=utf-8"
#: Upper bounds of the histogram's buckets, in seconds.
BUCKETS_S = (0.005, 0.025, 0.1, 0.5, 2.5, 10.0)
#: The engine's gauges are asked for once in this time, however many scrape.
KEPT_S = 5.0
#: Whoever scrapes from this machine without a token.
LOCAL_SCRAPER = Identity("local-scraper", frozenset({Role.PRODUCTION}))


class Meter:
    """Falcon middleware: counts the requests of this process, by route."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._n: dict[tuple[str, str, str], int] = defaultdict(int)
        self._buckets: dict[str, list[int]] = {}
        self._sums: dict[str, float] = defaultdict(float)

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        req.context.began_at = time.perf_counter()

    def process_response(self, req: falcon.Request, resp: falcon.Response, resource: Any, succeeded: bool) -> None:
        """A stream counts with the time to its first byte."""
        route = req.uri_template or "none"
        took_s = time.perf_counter() - getattr(req.context, "began_at", time.perf_counter())
        nr = sum(took_s > bound for bound in BUCKETS_S)
        with self._guard:
            self._n[req.method, route, str(resp.status)[:3]] += 1
            self._buckets.setdefault(route, [0] * (len(BUCKETS_S) + 1))[nr] += 1
            self._sums[route] += took_s

    def families(self) -> list[Family]:
        """Requests by route and status, and how long they took."""
        with self._guard:
            counted, sums = sorted(self._n.items()), sorted(self._sums.items())
            buckets = {route: list(counts) for route, counts in self._buckets.items()}
        took: list[tuple[dict[str, str], float]] = []
        for route, counts in sorted(buckets.items()):
            total = 0
            for bound, n in zip([*map(str, BUCKETS_S), "+Inf"], counts, strict=True):
                total += n
                took.append(({"route": route, "le": bound}, total))
        name = "panda_api_request_seconds"
        return [
            Family(
                "panda_api_requests_total",
                "Requests of this process, by method, route and status.",
                [({"method": m, "route": r, "status": s}, n) for (m, r, s), n in counted],
                "counter",
            ),
            Family(f"{name}_bucket", "How long they took.", took, "histogram"),
            Family(f"{name}_sum", "", [({"route": route}, total) for route, total in sums], ""),
            Family(f"{name}_count", "", [({"route": r}, sum(n)) for r, n in sorted(buckets.items())], ""),
        ]


class LocalScraper:
    """Falcon middleware, before the gate: /metrics needs no token from this machine, if that is allowed."""

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        if self._enabled and req.path == "/metrics" and req.context.origin.is_this_machine:
            req.context.guest = LOCAL_SCRAPER


class MetricsResource:
    """/metrics"""

    def __init__(self, begin: Begin, meter: Meter) -> None:
        self._begin, self._meter = begin, meter
        self._kept: list[Family] = []
        self._kept_until = 0.0
        self._guard = threading.Lock()

    @allowed(Action.READ_METRICS)
    @gives(Raw("text/plain"))
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Numbers for Prometheus. `panda_up` is 0 while the database is away; the rest of the engine's is left out."""
        engine = self._engine()
        up = Family("panda_up", "Whether the database answers.", [({}, float(bool(engine)))])
        resp.content_type = MEDIA
        resp.set_header("Cache-Control", "no-store")
        resp.data = written([up, *engine, *self._meter.families()]).encode()

    def _engine(self) -> list[Family]:
        with self._guard:
            if time.monotonic() >= self._kept_until:
                try:
                    with self._begin() as connection:
                        self._kept = gauges.families(connection)
                except SQLAlchemyError as problem:
                    log.warning("no gauges", problem=type(problem).__name__)
                    self._kept = []
                self._kept_until = time.monotonic() + KEPT_S
            return self._kept


def written(families: Iterable[Family]) -> str:
    """Prometheus' text format."""
    lines = []
    for family in families:
        if family.kind:
            name = family.name.removesuffix("_bucket") if family.kind == "histogram" else family.name
            lines += [f"# HELP {name} {family.about}", f"# TYPE {name} {family.kind}"]
        for labels, value in family.samples:
            told = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
            lines.append(f"{family.name}{{{told}}} {value:g}" if told else f"{family.name} {value:g}")
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
