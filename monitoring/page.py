"""What every page has: the parts of this process, and the way to an answer."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import falcon

from monitoring import queries, render
from monitoring.celery_side import CeleryView
from monitoring.gate import Session, Sessions
from monitoring.health import Health
from monitoring.looks import ACTIVE
from monitoring.reading import Memory, Reader
from monitoring.render import Renderer
from panda.auth import policy
from panda.auth.policy import Action
from panda.jobs.spool import Spool
from panda.settings import Settings


@dataclass(frozen=True)
class Parts:
    """What pages are made from."""

    settings: Settings
    reader: Reader
    sessions: Sessions
    celery: CeleryView
    health: Health
    spool: Spool
    renderer: Renderer
    static: dict[str, tuple[bytes, str]]
    memory: Memory


class Page:
    """A resource that shows something."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def _now(self) -> datetime:
        """The database's clock; ours while the database is away."""
        found = self._parts.reader.block(queries.now)
        return found.value or datetime.now(UTC)

    def _answer(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        template: str,
        data: dict[str, Any],
        as_of: datetime,
        **more: Any,
    ) -> None:
        nav = render.NO_NAV if render.wants_json(req) else self._parts.memory.of("nav", self._nav)
        render.answer(req, resp, self._parts.renderer, template, data, as_of, nav, **more)

    def _nav(self) -> dict[str, int | None]:
        """The numbers beside the menu: jobs on their way, queues, Celery workers that are alive."""
        reader = self._parts.reader
        counts = reader.block(lambda c: queries.by_status(queries.facts(c, queries.COUNTS))).value
        n_queues = reader.block(lambda c: int(queries.facts(c, queries.N_QUEUES)[0]["n"])).value
        jobs = None if counts is None else sum(counts.get(status, 0) for status in ACTIVE)
        workers = [worker for worker in self._parts.celery.workers() if worker.is_alive]
        return {"jobs": jobs, "queues": n_queues, "workers": len(workers) or None}

    def _whose(self, req: falcon.Request, owner: str | None) -> str | None:
        """Whose things a list may show this reader. Raises Forbidden."""
        return policy.scope(session_of(req).identity, Action.READ_JOBS, owner)


def session_of(req: falcon.Request) -> Session:
    """Who reads; the guard let nobody else through."""
    session: Session = req.context.session
    return session
