"""One box that finds everything by its name or number; each guess is one look by an index."""

from urllib.parse import quote, urlencode
from uuid import UUID

import falcon
from sqlalchemy.engine import Connection

from monitoring.pages import data
from monitoring.pages.page import Page, problem, session_of
from monitoring.reads import queries, site_queries
from monitoring.reads.queries import BIGGEST, Facts, facts
from monitoring.show import commands
from panda.auth import policy
from panda.auth.policy import Action
from panda.errors import Invalid
from panda.jobs.nouns import JOB_FIELDS, JOBSET_FIELDS
from panda.names import checked, split_did
from panda.query import BadFilter, equal_to, read, write

OWNER = "SELECT 1 FROM jobsets WHERE owner = %(name)s ORDER BY owner, jobset_id DESC LIMIT 1"
#: Where the events of a chain are: about the last one of some jobs that it had, else among the newest of all.
LAST = """
SELECT coalesce(
    (SELECT max(event_id) FROM job_events WHERE panda_id = ANY(%(panda_ids)s) AND chain_id = %(chain_id)s) + %(beyond)s,
    (SELECT last_value FROM job_event_seq)) AS event_id
"""
CHAIN = """
SELECT DISTINCT panda_id FROM (
    SELECT panda_id, chain_id FROM job_events WHERE event_id + 0 <= %(last)s
    ORDER BY event_id + 0 DESC LIMIT %(look_at)s) AS newest
WHERE chain_id = %(chain_id)s ORDER BY panda_id LIMIT 1000
"""
#: Events that a look for a chain passes, and those that follow the last known one of it.
LOOK_AT, BEYOND = 50_000, 5_000


#: What begins so: places, and the newest of what grows. (kind, what is asked, the way there.)
BEGINS = {
    "queue": "SELECT name, status AS about FROM queues WHERE starts_with(name, %(text)s) ORDER BY name LIMIT 12",
    "site": "SELECT name, cloud AS about FROM sites WHERE starts_with(name, %(text)s) ORDER BY name LIMIT 12",
    "user": """
SELECT name, array_to_string(roles, ', ') AS about FROM users WHERE starts_with(name, %(text)s) ORDER BY name LIMIT 12
""",
    "dataset": """
SELECT scope || ':' || name AS name, status AS about FROM (
    SELECT scope, name, status FROM datasets ORDER BY dataset_id DESC LIMIT 20000) AS newest
WHERE starts_with(scope || ':' || name, %(text)s) OR starts_with(name, %(text)s) ORDER BY 1 LIMIT 12
""",
    "pilot": """
SELECT pilot_id AS name, queue AS about FROM (
    SELECT pilot_id, queue FROM pilots WHERE last_seen_at > (SELECT panda_now()) - interval '1 hour' LIMIT 50000
    ) AS lately
WHERE starts_with(pilot_id, %(text)s) ORDER BY 1 LIMIT 12
""",
    "job set": """
SELECT name, count(*) || ' of ' || min(owner) || CASE WHEN min(owner) <> max(owner) THEN ' and others' ELSE '' END
    AS about
FROM (SELECT name, owner FROM jobsets ORDER BY jobset_id DESC LIMIT 5000) AS newest
WHERE starts_with(name, %(text)s) AND (%(owner)s::text IS NULL OR owner = %(owner)s) GROUP BY name ORDER BY 1 LIMIT 12
""",
}
WAYS = {
    "queue": "/queues/{}", "site": "/sites/{}", "user": "/users/{}", "dataset": "/datasets/{}", "pilot": "/pilots/{}",
    "job set": "/jobsets?name={}",
}  # fmt: skip
#: Fewer letters begin too much.
SHORTEST = 2


class Search(Page):
    """/search?q=: a PandaID, set:12, a dataset, a queue, a site, a user, a pilot, a Celery id, a filter of jobs, the
    name of a job set, the beginning of a name, or a command as pages say it. Of several finds there is a list."""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        text = (req.get_param("q") or "").strip()
        target = (self._target(text) or self._jobset(req, text)) if text else "/"
        found = self._beginning(req, text) if target is None else []
        if len(found) > 1:
            self._answer(req, resp, "search.html", {"q": text, "found": found}, self._now(), csv="found")
            return
        if found:
            target = found[0]["link"]
        if target is None:
            detail = (
                f"Nothing is called {text[:80]!r}. Search for a PandaID, set:NUMBER, scope:name of a dataset, a queue, "
                "a site, a user, a pilot, a Celery id, the name of a job set, or write a command, or a filter such as "
                "status:failed."
            )
            hints = [("/jobs", "the newest jobs"), ("/jobsets", "the newest job sets"), ("/sites", "the sites")]
            problem(self._parts, req, resp, falcon.HTTP_404, "Nothing found", detail, hints,
                           code="nothing_found")  # fmt: skip
            return
        resp.status = falcon.HTTP_303
        resp.location = target

    def _target(self, text: str) -> str | None:
        command = commands.page_of(text)
        if command is not None:
            return command
        number = text.replace(" ", "").replace(",", "")
        if number.isdecimal() and number.isascii() and len(number) < 19:
            return f"/jobs/{number}"
        kind, colon, rest = text.partition(":")
        if colon and kind in ("set", "jobset") and rest.isdecimal() and rest.isascii() and len(rest) < 19:
            return f"/jobsets/{rest}"
        try:
            return self._chain(str(UUID(text)))
        except ValueError:
            return (self._dataset(text) if colon else self._by_name(text)) or self._filter(text)

    def _chain(self, task_id: str) -> str:
        """The jobs that a chain moved, else its task in Flower. A chain is told by its first task's id."""
        found = self._parts.celery.chain_of(task_id)

        def moved(connection: Connection) -> list[int]:
            about = {"panda_ids": found.panda_ids, "chain_id": found.chain_id, "beyond": BEYOND, "look_at": LOOK_AT}
            last = facts(connection, LAST, about)[0]["event_id"]
            return [row["panda_id"] for row in facts(connection, CHAIN, about | {"last": last})]

        panda_ids = self._parts.reader.ask(moved)
        if len(panda_ids) == 1:
            return f"/jobs/{panda_ids[0]}"
        if panda_ids:
            return "/jobs?" + urlencode({"q": write(equal_to(JOB_FIELDS["panda_id"], *panda_ids))})
        return f"/flower/task/{task_id}"

    def _dataset(self, text: str) -> str | None:
        try:
            scope, name = split_did(text, "q")
        except Invalid:
            return None
        asked = {"scope": scope, "name": name}
        return f"/datasets/{quote(text)}" if self._has(data.DATASET, asked) else None

    def _by_name(self, text: str) -> str | None:
        try:
            checked(text, "q")
        except Invalid:
            return None
        name = quote(text, safe="")
        if self._has(site_queries.QUEUE, {"queue": text}):
            return f"/queues/{name}"
        if self._has(site_queries.SITE, {"site": text}):
            return f"/sites/{name}"
        if self._has(site_queries.PILOT, {"pilot_id": text}):
            return f"/pilots/{name}"
        if self._has(OWNER, {"name": text}):
            return f"/jobsets?owner={name}"
        return None

    def _filter(self, text: str) -> str | None:
        try:
            read(text, JOB_FIELDS)
        except BadFilter:
            return None
        return "/jobs?" + urlencode({"q": text})

    def _jobset(self, req: falcon.Request, name: str) -> str | None:
        """Sets of that name, among the newest that the reader may see."""
        owner = policy.scope(session_of(req).identity, Action.READ_JOBS, None)
        if not name.isprintable():
            return None
        found = self._parts.reader.ask(lambda c: queries.jobsets(c, owner, BIGGEST, 2, name))
        if len(found) == 1:
            return f"/jobsets/{found[0]['jobset_id']}"
        return "/jobsets?" + urlencode({"q": write(equal_to(JOBSET_FIELDS["name"], name))}) if found else None

    def _beginning(self, req: falcon.Request, text: str) -> list[Facts]:
        """What has a name that begins so, as far as the reader may see it: `kind`, `name`, `about`, `link`."""
        identity = session_of(req).identity
        owner = policy.scope(identity, Action.READ_JOBS, None)
        if len(text) < SHORTEST or not text.isprintable():
            return []
        hidden = set() if owner is None else {"user"}
        asked = {"text": text, "owner": owner}

        def ask(connection: Connection) -> list[Facts]:
            return [
                {"kind": kind, **row, "link": WAYS[kind].format(quote(row["name"], safe=""))}
                for kind, sql in BEGINS.items()
                if kind not in hidden
                for row in facts(connection, sql, asked)
            ]

        return self._parts.reader.ask(ask)

    def _has(self, sql: str, asked: dict[str, str]) -> bool:
        return bool(self._parts.reader.ask(lambda c: facts(c, sql, asked)))


class OldLink:
    """/job?pandaid=: as links to PanDA's monitor of old are written."""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        panda_id = req.get_param_as_int("pandaid", required=True, min_value=1, max_value=BIGGEST)
        resp.status, resp.location = falcon.HTTP_301, f"/jobs/{panda_id}"
