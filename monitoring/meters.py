"""/metrics of this process: how long pages take, who watches live, what is wrong. The engine's own are the API's."""

import resource
from collections.abc import Callable

import falcon

from monitoring.pages import troubles
from monitoring.pages.page import Page, Parts
from panda.auth import policy
from panda.auth.identity import Identity
from panda.auth.policy import Action
from panda.errors import Unauthenticated
from panda.metrics import Family
from panda.request_meter import Meter, answer

#: Whoever came through a proxy is not on this machine, whatever its address says.
FORWARDED = ("X-Forwarded-For", "Forwarded", "X-Real-IP")
LOCAL = frozenset({"127.0.0.1", "::1"})


class Metrics(Page):
    """/metrics: for a scraper on this machine, or with a token that may."""

    def __init__(self, parts: Parts, meter: Meter, n_watchers: Callable[[], int], n_told: Callable[[], int]) -> None:
        super().__init__(parts)
        self._meter, self._n_watchers, self._n_told = meter, n_watchers, n_told

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        if not self._is_local(req):
            policy.require(self._identity(req), Action.READ_METRICS)
        answer(resp, [*self._meter.families(), *self._own()])

    def _is_local(self, req: falcon.Request) -> bool:
        is_here = req.remote_addr in LOCAL and not any(req.get_header(name) for name in FORWARDED)
        return is_here and self._parts.settings.api.metrics_to_this_machine

    def _identity(self, req: falcon.Request) -> Identity:
        session = req.context.session
        if session is not None:
            identity: Identity = session.identity
            return identity
        scheme, _, token = (req.get_header("Authorization") or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated("a token that may read metrics is needed")
        return self._parts.sessions.identity_of(token)

    def _own(self) -> list[Family]:
        found: dict[str, int] = {}
        for trouble in troubles.found(self._parts):
            found[trouble.kind] = found.get(trouble.kind, 0) + 1
        rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return [
            Family("panda_sse_clients", "Browsers that watch pages live.", [({}, self._n_watchers())]),
            Family("panda_sse_events_total", "Words that they were told.", [({}, self._n_told())], "counter"),
            Family("panda_page_sessions", "People who are logged in.", [({}, len(self._parts.sessions))]),
            Family("panda_troubles", "What is wrong now, by kind.",
                   [({"kind": kind}, n) for kind, n in sorted(found.items())]),
            Family("panda_monitor_peak_bytes", "Most memory that this process ever had.", [({}, rss)]),
        ]  # fmt: skip
