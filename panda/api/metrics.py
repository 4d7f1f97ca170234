"""/metrics, in Prometheus' text format: requests of this process, and the engine's gauges."""

import threading
import time

import falcon
from sqlalchemy.exc import SQLAlchemyError

from panda.api.access import allowed
from panda.api.described import Raw, gives
from panda.auth.identity import Identity, Role
from panda.auth.policy import Action
from panda.db.session import Begin
from panda.dispatcher import dispatch
from panda.jobs import gauges
from panda.logs import Log
from panda.metrics import Family
from panda.request_meter import Meter, answer

log = Log("panda.api")

#: The engine's gauges are asked for once in this time, however many scrape.
KEPT_S = 5.0
#: Whoever scrapes from this machine without a token.
LOCAL_SCRAPER = Identity("local-scraper", frozenset({Role.VIEWER}))


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
        answer(resp, [up, *engine, *dispatch.took.families(), *self._meter.families()])

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
