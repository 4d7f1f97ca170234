"""Errors: what goes wrong, how often, since when, and whom it hits."""

from datetime import datetime
from typing import Any
from urllib.parse import urlencode

import falcon

from monitoring.pages.listing import Listing, ask, picked
from monitoring.pages.page import Page, session_of
from monitoring.reads import error_rates, queries
from monitoring.reads.blocks import Block
from monitoring.reads.queries import Facts, facts
from monitoring.show import codes, looks, render, tables
from panda.auth import policy
from panda.auth.policy import Action
from panda.db.lists import Noun, Order, Walk
from panda.errors import Invalid, UnknownName
from panda.jobs.nouns import JOB_FIELDS
from panda.query import And, equal_to, write

PERIODS = (3, 24, 168, 720)
LOOK_AT = 5_000

#: No noun of the API: failures summed by code and stage, the most frequent first, on one page.
_MOST_FIRST = Order(("n",))
ERRORS = Noun("error", error_rates.FIELDS, "", ("n",), {"n": _MOST_FIRST},
              lambda _: Walk(("error_hours",), order=_MOST_FIRST), "")  # fmt: skip
LISTING = Listing(
    ERRORS,
    "/errors",
    "errors",
    "panda errors",
    "error:pilot:* failed_stage:stage_out queue:NORTH*",
    option="",
    size=200,
)

HOURS_OF = """
SELECT hour, sum(n)::bigint AS n FROM error_hours
WHERE error_code = %(code)s AND hour > (SELECT panda_now()) - interval '7 days' GROUP BY hour ORDER BY hour
"""
QUEUES_OF = """
SELECT queue, failed_stage, sum(n)::bigint AS n, max(hour) AS last_at FROM error_hours
WHERE error_code = %(code)s AND hour > (SELECT panda_now()) - interval '24 hours'
GROUP BY queue, failed_stage ORDER BY n DESC LIMIT 50
"""
#: The newest jobs that still rest with this code, and archived ones of the day.
JOBS_OF = """
SELECT * FROM (
    (SELECT f.* FROM (
        SELECT panda_id FROM job_due WHERE waits_for IS NOT NULL AND waits_for = 'operator'
        AND due_at > (SELECT panda_now()) + make_interval(secs => %(window_s)s - 86400)
        ORDER BY due_at DESC LIMIT %(look_at)s) AS resting
    CROSS JOIN LATERAL (
        SELECT panda_id, jobset_id, name, owner, status, attempt_nr, max_attempts, computing_site, failed_stage,
            error_code, error_message, wall_s, created_at, changed_at, started_at, ended_at, node
        FROM jobs WHERE panda_id = resting.panda_id OFFSET 0) AS f
    WHERE f.status = 'failed' AND f.error_code = %(code)s)
    UNION ALL
    (SELECT panda_id, jobset_id, name, owner, status, attempt_nr, max_attempts, computing_site, failed_stage,
        error_code, error_message, wall_s, created_at, changed_at, started_at, ended_at, node
    FROM jobs_archive WHERE status = 'failed' AND error_code = %(code)s
        AND ended_at > (SELECT panda_now()) - interval '24 hours' ORDER BY error_code, ended_at DESC LIMIT %(look_at)s)
    ) AS both_places
WHERE (%(owner)s::text IS NULL OR owner = %(owner)s) ORDER BY panda_id DESC LIMIT %(look_at)s
"""


class Errors(Page):
    """/errors?hours=&q="""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        asked = ask(req, LISTING, tables.COLUMNS["errors.html"], ("hours",))
        if asked.after:
            raise Invalid("this list is one page", where="after", code="bad_cursor")
        hours = req.get_param_as_int("hours") or 24
        if hours not in PERIODS:
            raise UnknownName("period", str(hours), [str(period) for period in PERIODS], where="hours")
        reader = self._parts.reader

        def make() -> Any:
            usual = error_rates.week(reader, self._parts.memory)
            found = reader.block(lambda c: _told(error_rates.listed(c, hours, usual, asked.expression)))
            where = reader.block(lambda c: matrix(error_rates.by_queue(c, hours, asked.expression)))
            return {"errors": found, "matrix": where, "hours": hours}, self._now()

        data, as_of = self._parts.memory.of(("errors", hours, asked.q), make)
        found = data["errors"]
        rows = None if found.value is None else [picked(row, asked.fields) for row in found.value[: asked.limit]]
        shown = {**data, "errors": Block(rows, found.trouble), "q": asked.q}
        columns = asked.fields or tables.COLUMNS["errors.html"]
        self._answer(req, resp, "errors.html", shown if render.is_for_program(req) else {**data, "q": asked.q}, as_of,
                     csv="errors", csv_columns=columns, asked=asked, periods=PERIODS,
                     failed_there=failed_there)  # fmt: skip


def _week(found: list[Facts], now: datetime) -> list[Facts]:
    """Every hour of a week that brought failures, with those that brought none; nothing if none did."""
    by_hour = {row["hour"]: row["n"] for row in found}
    hours = [{"hour": at, "n": by_hour.get(at, 0)} for at in error_rates.bins_of(now, 168, 1)]
    return hours if found else []


def _told(found: list[Facts]) -> list[Facts]:
    return [row | {"meaning": codes.meaning(row["error_code"])} for row in found]


def matrix(found: list[Facts]) -> dict[str, Any]:
    """The worst queues by the commonest codes: `codes`, `rows` of (queue, counts)."""
    by_code: dict[str, int] = {}
    by_queue: dict[str, dict[str, int]] = {}
    for row in found:
        by_code[row["error_code"]] = by_code.get(row["error_code"], 0) + row["n"]
        by_queue.setdefault(row["queue"], {})[row["error_code"]] = row["n"]
    shown = sorted(by_code, key=lambda code: -by_code[code])[:8]
    worst = sorted(by_queue, key=lambda queue: -sum(by_queue[queue].values()))[:12]
    rows = [(queue, [by_queue[queue].get(code, 0) for code in shown]) for queue in worst]
    return {"codes": shown, "rows": rows, "most": max((n for _, counts in rows for n in counts), default=0)}


def failed_there(queue: str, code: str) -> str:
    """To the jobs that failed at a queue with a code."""
    parts = (("status", "failed"), ("queue", queue), ("error", code))
    return "/jobs?" + urlencode({"q": write(And(tuple(equal_to(JOB_FIELDS[name], word) for name, word in parts)))})


class Error(Page):
    """/errors/{code}"""

    def on_get(self, req: falcon.Request, resp: falcon.Response, code: str) -> None:
        identity = session_of(req).identity
        owner = policy.scope(identity, Action.READ_JOBS, None)
        reader = self._parts.reader
        window = self._parts.settings.engine.retry_window_s
        asked = {"code": code, "window_s": window, "look_at": LOOK_AT, "owner": owner}
        jobs = reader.block(lambda c: facts(c, JOBS_OF, asked))
        hours = reader.block(lambda c: _week(facts(c, HOURS_OF, {"code": code}), queries.now(c)))
        queues = reader.block(lambda c: facts(c, QUEUES_OF, {"code": code}))
        data = {
            "code": code, "meaning": codes.meaning(code), "advice": codes.advice(code), "hours": hours,
            "queues": queues,
            "messages": codes.clusters([job["error_message"] for job in jobs.value or []]),
            "owners": _top(jobs.value or [], "owner"), "nodes": _top(jobs.value or [], "node"),
            "jobsets": _top(jobs.value or [], "jobset_id"), "jobs": (jobs.value or [])[:50], "trouble": jobs.trouble,
            "n_looked": len(jobs.value or []),
        }  # fmt: skip
        self._answer(req, resp, "error.html", data, self._now(), csv="jobs")


def _top(jobs: list[Facts], name: str) -> list[tuple[str, int]]:
    found: dict[str, int] = {}
    for job in jobs:
        word = str(job[name] or looks.UNKNOWN)
        found[word] = found.get(word, 0) + 1
    return sorted(found.items(), key=lambda item: -item[1])[:10]
