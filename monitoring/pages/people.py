"""My Panda, and the people who use the system."""

import secrets
from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

import falcon
from sqlalchemy.engine import Connection

from monitoring.pages import tokens
from monitoring.pages.jobset_facts import with_etas
from monitoring.pages.jobsets import with_status
from monitoring.pages.listing import Listing, ListPage, ask
from monitoring.pages.page import Page, session_of
from monitoring.reads import queries
from monitoring.reads.blocks import Block
from monitoring.reads.queries import Facts, facts
from monitoring.show import looks, render, tables
from panda.auth import policy
from panda.auth.nouns import USERS
from panda.auth.policy import Action
from panda.errors import NotFound
from panda.jobs import notices, views
from panda.jobs.quotas import standing
from panda.jobs.quotas.rules import Limits

T = TypeVar("T")

_COLUMNS = "name, roles, created_at, banned_at, ban_reason, limited_at, limit_reason"
USER = f"SELECT {_COLUMNS} FROM users WHERE name = %(name)s"
USAGE = """
SELECT day, sum(n_finished)::bigint AS n_finished, sum(n_failed)::bigint AS n_failed, sum(core_s)::float8 AS core_s,
    sum(cpu_s)::float8 AS cpu_s
FROM usage_all WHERE owner = %(owner)s AND day > ((SELECT panda_now()) - interval '30 days')::date
GROUP BY day ORDER BY day
"""
DATASETS = """
SELECT scope, name, status, n_files, size_bytes, created_at FROM (
    SELECT * FROM datasets ORDER BY dataset_id DESC LIMIT 5000) AS newest
WHERE owner = %(owner)s ORDER BY created_at DESC LIMIT 10
"""
#: Datasets that the newest job sets write into.
OUTPUTS = """
SELECT d.scope, d.name, d.status, d.n_files, d.size_bytes, s.jobset_id
FROM (SELECT jobset_id, output_dataset_id FROM jobsets WHERE owner = %(owner)s
        ORDER BY owner DESC, jobset_id DESC LIMIT 50) s,
    LATERAL (SELECT * FROM datasets WHERE dataset_id = s.output_dataset_id OFFSET 0) d
WHERE d.n_files > 0 ORDER BY s.jobset_id DESC LIMIT 10
"""
#: A set that has been waiting for so long is shown to its owner.
WAITS_LONG_S = 86_400.0


class Me(Page):
    """/me"""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        session = session_of(req)
        self._about(req, resp, session.subject, is_me=True)

    def _about(self, req: falcon.Request, resp: falcon.Response, owner: str, *, is_me: bool) -> None:
        reader, asked = self._parts.reader, {"owner": owner}
        period_days = self._parts.settings.quotas.period_days
        known = reader.ask(lambda c: facts(c, USER, {"name": owner}))
        if not known:
            raise NotFound("user", owner)
        sets = reader.block(
            lambda c: with_etas(c, [with_status(row) for row in queries.jobsets(c, owner, queries.BIGGEST, 20)])
        )
        data = {
            "user": known[0], "jobsets": sets, "needs": needing(sets.value or [], self._now()),
            "usage": reader.block(lambda c: facts(c, USAGE, asked)),
            "quota": reader.block(lambda c: quota_facts(standing.report(c, owner, period_days))),
            "datasets": reader.block(lambda c: facts(c, DATASETS, asked)),
            "outputs": reader.block(lambda c: facts(c, OUTPUTS, asked)),
            "tokens": self._mine(is_me, lambda c: facts(c, tokens.TOKENS, {**asked, "n": 20, "all": False})),
            "views": self._mine(is_me, lambda c: [view._asdict() for view in views.of(c, owner)]),
            "rules": self._mine(is_me, lambda c: [rule._asdict() for rule in notices.rules(c, owner)]),
            "notices": self._mine(is_me, lambda c: notices.newest(c, owner)),
        }  # fmt: skip
        session = session_of(req)
        self._answer(
            req, resp, "me.html", data, self._now(), csv="jobsets", is_me=is_me, kinds=notices.KINDS,
            key=secrets.token_urlsafe(16), seal=session.seal, roles=sorted(session.identity.roles),
            zone=render.zone_of(req),
        )  # fmt: skip

    def _mine(self, is_me: bool, question: Callable[[Connection], T]) -> Block[T] | None:
        """What nobody else is shown."""
        return self._parts.reader.block(question) if is_me else None


def needing(jobsets: list[Facts], now: datetime) -> list[Facts]:
    """What wants a person: sets with failed jobs that may be retried, and sets that wait for longer than a day.
    Each: `jobset_id`, `name`, `why`, `since`, `act` (words and link)."""
    found = []
    for each in jobsets:
        number = each["jobset_id"]
        if each["n_failed"] and each["status"] in ("running", "failed"):
            act = ("Retry…", f"/jobsets/{number}/retry")
            why, since = f"{looks.count(each['n_failed'])} failed", each["ended_at"]
        elif each["n_open"] and not each["n_finished"] and (now - each["created_at"]).total_seconds() > WAITS_LONG_S:
            act = ("Why?", f"/jobs/{each['first_panda_id']}#why")
            why, since = "nothing of it has finished in a day", each["created_at"]
        else:
            continue
        found.append({"jobset_id": number, "name": each["name"], "why": why, "since": since, "act": act})
    return found


class User(Me):
    """/users/{name}"""

    def on_get(self, req: falcon.Request, resp: falcon.Response, name: str = "") -> None:
        session = session_of(req)
        policy.require(session.identity, Action.READ_JOBS, name)
        self._about(req, resp, name, is_me=name == session.subject)


LISTING = Listing(USERS, "/users", "users", "panda users", "name:an* role:operator banned!=none created:7d", size=100)


class Users(ListPage):
    """/users?q="""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        policy.require(session_of(req).identity, Action.READ_AUDIT)
        asked = ask(req, LISTING, tables.COLUMNS["users.html"])
        self._list(req, resp, "users.html", asked, asked.expression)


def quota_facts(report: standing.Report) -> Facts:
    """How somebody stands to their quotas; limits that are not set are left out."""
    return {
        "throttled": report.throttled,
        "part": report.used.part,
        "late_s": report.used.late_ms / 1000,
        "n_held": max((each.n_held for each in report.standings), default=0),
        "limits": [
            {
                "subject": each.subject,
                "name": name.replace("_", " "),
                "used": level.used,
                "limit": level.limit,
                "outlook": each.outlook._asdict() if each.outlook and name == "core_hours" else None,
            }
            for each in report.standings
            for name in Limits._fields
            if (level := getattr(each, name)).limit is not None
        ],
    }
