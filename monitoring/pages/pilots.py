"""Pilots and nodes: who asks for jobs, what they hold, and which machine eats them."""

import falcon
from sqlalchemy.engine import Connection

from monitoring.pages.page import Page, check_words, session_of
from monitoring.reads import site_queries
from monitoring.reads.queries import Facts, facts
from monitoring.troubles.failures import is_black_hole
from panda.auth import policy
from panda.auth.policy import Action
from panda.dispatcher import pilot_why
from panda.errors import NotFound
from panda.jobs import switches
from panda.jobs.switches import Place

SHOWN = 200


class Pilots(Page):
    """/pilots?queue="""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        check_words(req, "queue")
        policy.require(session_of(req).identity, Action.READ_SITES)
        reader, queue = self._parts.reader, req.get_param("queue") or None
        data = {
            "queues": reader.block(lambda c: facts(c, site_queries.PILOTS)),
            "versions": reader.block(lambda c: facts(c, site_queries.VERSIONS)),
            "pilots": reader.block(lambda c: facts(c, site_queries.NEWEST_PILOTS, {"queue": queue, "n": SHOWN})),
            "filters": {"queue": queue} if queue else {},
        }
        self._answer(req, resp, "pilots.html", data, self._now(), csv="pilots", shown=SHOWN, age=_ages)


def _ages(pilots: list[Facts]) -> list[tuple[str, int]]:
    """How long ago pilots were heard of: (words, how many)."""
    bounds = ((15, "15 s"), (60, "1 min"), (120, "2 min"), (600, "10 min"), (3600, "1 h"))
    found, below = [], 0.0
    for bound, words in bounds:
        found.append((f"within {words}", sum(below <= pilot["silent_s"] < bound for pilot in pilots)))
        below = bound
    return found


class Pilot(Page):
    """/pilots/{pilot_id}"""

    def on_get(self, req: falcon.Request, resp: falcon.Response, pilot_id: str) -> None:
        policy.require(session_of(req).identity, Action.READ_SITES)
        reader = self._parts.reader
        found = reader.ask(lambda c: facts(c, site_queries.PILOT, {"pilot_id": pilot_id}))
        if not found:
            raise NotFound("pilot", pilot_id)
        taken = found[0].pop("last_panda_ids") or []
        held = {"panda_ids": taken, "pilot_id": pilot_id}
        data = {
            "pilot": found[0],
            "held": reader.block(lambda c: facts(c, site_queries.HELD, held)),
            "why": reader.block(lambda c: _why(c, pilot_id)),
            "taken": taken[:50],
        }
        self._answer(req, resp, "pilot.html", data, self._now(), csv="held")


def _why(connection: Connection, pilot_id: str) -> Facts:
    found = pilot_why.why(connection, pilot_id)
    ready = [{**kind.pair._asdict(), "tags": sorted(kind.pair.tags), "n": kind.n, "misfit": kind.misfit}
             for kind in found.ready]  # fmt: skip
    return {**found._asdict(), "changes": [each._asdict() for each in found.changes], "ready": ready}


class Node(Page):
    """/nodes/{queue}/{node}: what became of the jobs of one machine."""

    def on_get(self, req: falcon.Request, resp: falcon.Response, queue: str, node: str) -> None:
        identity = session_of(req).identity
        policy.require(identity, Action.READ_SITES)
        owner = policy.scope(identity, Action.READ_JOBS, None)
        window = self._parts.settings.engine.retry_window_s
        asked = {"queue": queue, "node": node, "window_s": window}
        reader = self._parts.reader
        resting = reader.block(lambda c: facts(c, site_queries.RESTING_OF_NODE, asked))
        ended = reader.block(lambda c: facts(c, site_queries.JOBS_OF_NODE, asked))
        nodes = reader.block(lambda c: facts(c, site_queries.NODES, {"queues": [queue]}))
        mine = next((row for row in nodes.value or [] if row["node"] == node), None)
        jobs = [job for job in (resting.value or []) + (ended.value or []) if owner in (None, job["owner"])]
        pilots = reader.block(lambda c: facts(c, site_queries.PILOTS_OF, {"queue": queue}))
        here = [pilot for pilot in pilots.value or [] if pilot["node"] == node]
        pauses = reader.block(switches.current).value or []
        pause = next((each for each in pauses if each.place == Place(queue=queue, node=node)), None)
        others = [row for row in nodes.value or [] if row["node"] != node]
        data = {"node": node, "queue": queue, "summary": mine,
                "is_black_hole": mine is not None and is_black_hole(mine, others), "jobs": jobs, "pilots": here,
                "trouble": resting.trouble or ended.trouble, "pause": pause}  # fmt: skip
        self._answer(req, resp, "node.html", data, self._now(), csv="jobs")
