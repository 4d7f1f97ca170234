"""What is wrong now, on one page; the overview shows the worst of it."""

from typing import Any

import falcon

from monitoring.pages import overview_facts
from monitoring.pages.page import Page, Parts, check_words, session_of
from monitoring.reads import error_rates, queries, stuck
from monitoring.show.looks import ACTIVE
from monitoring.troubles import finding
from monitoring.troubles.seen import Seen, look
from monitoring.troubles.words import Trouble
from panda.auth import policy
from panda.auth.policy import Action
from panda.jobs import pilots_alive

#: A look is good for this long, and may be shown for longer while the next one is taken.
KEEP_S, STALE_S = 5.0, 15.0
SHOWN_FIRST = 5


def found(parts: Parts) -> list[Trouble]:
    """Every trouble, at most `KEEP_S` old while somebody looks."""
    return parts.memory.of("troubles", lambda: _find(parts), KEEP_S, STALE_S)


def _find(parts: Parts) -> list[Trouble]:
    reader, memory = parts.reader, parts.memory
    counts = reader.block(lambda c: queries.facts(c, queries.COUNTS)).value
    pilots = reader.block(lambda c: queries.facts(c, pilots_alive.PILOTS)).value
    queues = reader.block(lambda c: overview_facts.queues(c, counts, pilots)).value or []
    by_status = queries.by_status(counts or [])
    usual = memory.of("usual stays", lambda: reader.block(stuck.usual).value or {}, stuck.USUAL_FOR_S, 600.0)
    now = reader.block(queries.now).value
    base = Seen(
        now=now or overview_facts.now_here(),
        parts=parts.health.parts(pilots),
        queues=queues,
        workers=parts.celery.workers(),
        stuck=reader.block(lambda c: stuck.longer(c, usual)).value or [],
        n_active=sum(by_status.get(status, 0) for status in ACTIVE),
    )
    week = error_rates.week(parts.reader, parts.memory)
    seen = look(reader, base, window_s=parts.settings.engine.retry_window_s, week=week)
    every = finding.find(seen)
    memory.keep("n troubles", sum(trouble.is_bad for trouble in every) or None)
    return every


class Troubles(Page):
    """/troubles"""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        check_words(req)
        policy.require(session_of(req).identity, Action.READ_INCIDENTS)
        data: dict[str, Any] = {"troubles": found(self._parts)}
        self._answer(req, resp, "troubles.html", data, self._now(), csv="troubles")
