"""Pilots and nodes: who asks for jobs, what they hold, and which machine eats them."""

from collections import defaultdict
from dataclasses import replace

import falcon
from sqlalchemy.engine import Connection

from monitoring.pages.listing import Listing, ListPage, ask
from monitoring.pages.page import Page, session_of
from monitoring.reads import site_queries
from monitoring.reads.blocks import Block
from monitoring.reads.queries import Facts, facts
from monitoring.show import render, tables
from monitoring.troubles.failures import is_black_hole
from panda.auth import policy
from panda.auth.policy import Action
from panda.dispatcher import pilot_why
from panda.dispatcher.nouns import PILOTS
from panda.errors import NotFound
from panda.jobs import switches
from panda.jobs.switches import Place
from panda.query import words_of

LISTING = Listing(
    replace(PILOTS, show=site_queries.PILOTS_SHOWN), "/pilots", "pilots", "panda pilots",
    "queue:NORTH-Q seen:10m node:wn* nothing_because!=none", default="seen:1h", size=200,
)  # fmt: skip


#: What a pilot does -> how it looks.
STATES = {"running": "running", "idle": "activated", "starting": "starting", "silent": "failed"}
#: How long ago pilots were heard of: as `site_queries.FLEET` has its buckets.
AGES = ("within 15 s", "within 1 min", "within 2 min", "within 10 min", "within 1 h", "before that")


class Pilots(ListPage):
    """/pilots?q="""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        policy.require(session_of(req).identity, Action.READ_SITES)
        asked = ask(req, LISTING, tables.COLUMNS["pilots.html"])
        queues = words_of(asked.expression, "queue") or ()
        queue = str(queues[0]) if len(queues) == 1 else None
        data = {} if render.wants_csv(req) else self._fleet(queue)
        self._list(req, resp, "pilots.html", asked, asked.expression, data=data, colours=STATES, queue=queue)

    def _fleet(self, queue: str | None) -> Facts:
        """What all of them do, or those of one queue."""
        reader = self._parts.reader
        fleet = reader.block(lambda c: _of(facts(c, site_queries.FLEET), queue))
        asks = reader.block(lambda c: _of(facts(c, site_queries.ASKS), queue))
        return {
            "queues": reader.block(
                lambda c: _by_queue(_of(facts(c, site_queries.PILOTS), queue), fleet.value, asks.value)
            ),
            "states": Block(fleet.value and _states(fleet.value), fleet.trouble),
            "ages": Block(fleet.value and _ages(fleet.value), fleet.trouble),
            "match": Block(None if asks.value is None else _match(asks.value), asks.trouble),
            "submitters": reader.block(lambda c: _submitters(facts(c, site_queries.SUBMITTERS), fleet.value or [])),
            "versions": reader.block(lambda c: facts(c, site_queries.VERSIONS)),
        }


def _of(found: list[Facts], queue: str | None) -> list[Facts]:
    return [row for row in found if queue in (None, row["queue"])]


def _states(fleet: list[Facts]) -> Facts:
    """State -> `n`, `cores`."""
    return {
        state: {name: sum(row[name] or 0 for row in fleet if row["state"] == state) for name in ("n", "cores")}
        for state in STATES
    }


def _ages(fleet: list[Facts]) -> list[Facts]:
    return [{"age": age, "n": sum(row["n"] for row in fleet if row["bucket"] == k)} for k, age in enumerate(AGES)]


def _match(asks: list[Facts]) -> Facts:
    """Asks of a day, those that brought a job, and the part that these are."""
    n, n_got = sum(row["n"] for row in asks), sum(row["n_got"] for row in asks)
    return {"n": n, "n_got": n_got, "rate": n_got / n if n else None}


def _by_queue(queues: list[Facts], fleet: list[Facts] | None, asks: list[Facts] | None) -> list[Facts]:
    """Each with `states` (state -> pilots) and `match_rate` of a day."""
    states: dict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(STATES, 0))
    for row in fleet or []:
        states[row["queue"]][row["state"]] += row["n"]
    rates = {row["queue"]: row["n_got"] / row["n"] for row in asks or [] if row["n"]}
    return [{**row, "states": states[row["queue"]], "match_rate": rates.get(row["queue"])} for row in queues]


def _submitters(found: list[Facts], fleet: list[Facts]) -> list[Facts]:
    """Who starts pilots: at how many queues, how many at most, and how many are alive. Nobody's come by themselves."""
    alive: dict[str, int] = defaultdict(int)
    for row in fleet:
        alive[row["queue"]] += row["n"] if row["state"] != "silent" else 0
    return [
        {name: value for name, value in row.items() if name != "queues"}
        | {"n_alive": sum(alive[queue] for queue in row["queues"])}
        for row in found
    ]


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
        both = sorted((resting.value or []) + (ended.value or []), key=lambda job: job["changed_at"], reverse=True)
        jobs = [job for job in both if owner in (None, job["owner"])]
        pilots = reader.block(lambda c: facts(c, site_queries.PILOTS_OF, {"queue": queue}))
        here = [pilot for pilot in pilots.value or [] if pilot["node"] == node]
        pauses = reader.block(switches.current).value or []
        pause = next((each for each in pauses if each.place == Place(queue=queue, node=node)), None)
        others = [row for row in nodes.value or [] if row["node"] != node]
        data = {"node": node, "queue": queue, "summary": mine,
                "beside": {"n_nodes": len(others), "n": sum(row["n"] for row in others),
                           "n_failed": sum(row["n_failed"] for row in others)},
                "is_black_hole": mine is not None and is_black_hole(mine, others), "jobs": jobs, "pilots": here,
                "trouble": resting.trouble or ended.trouble, "pause": pause}  # fmt: skip
        self._answer(req, resp, "node.html", data, self._now(), csv="jobs")
