"""The pages: a class per URI. All of them read, none decides."""

from collections.abc import Callable
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode
from uuid import UUID

import falcon
from sqlalchemy.engine import Connection

from monitoring import job_page, job_queries, queries, render
from monitoring.overview import PERIODS, overview, queues
from monitoring.page import Page, session_of
from panda.auth import policy
from panda.auth.policy import Action
from panda.errors import Invalid, NotFound, UnknownName
from panda.jobs import queries as asked
from panda.jobs.spool import MAX_CHUNK_BYTES
from panda.names import checked
from panda.states import FINAL, JobSetStatus, JobStatus

PAGE_SIZE = 50


class Overview(Page):
    """/"""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        hours = req.get_param_as_int("hours")
        if hours is not None and hours not in PERIODS:
            raise UnknownName("period", str(hours), [str(period) for period in PERIODS], where="hours")
        parts = self._parts

        def make() -> tuple[dict[str, Any], datetime]:
            window = parts.settings.engine.retry_window_s
            return overview(parts.reader, parts.health, hours=hours, retry_window_s=window), self._now()

        data, as_of = parts.memory.of(("overview", hours), make)
        self._answer(req, resp, "overview.html", data, as_of, periods=PERIODS, api_port=parts.settings.api.port)


class Jobs(Page):
    """/jobs?status=&queue=&error=&jobset=&owner=&before="""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        known = ("status", "queue", "error", "jobset", "owner", "before", "json")
        for name in req.params:
            if name not in known:
                raise UnknownName("filter", name, known)
        status = _text(req, "status")
        if status is not None and status not in set(JobStatus):
            raise UnknownName("status", status, [str(known) for known in JobStatus], where="status")
        wanted = {"status": status, "queue": _text(req, "queue"), "error": _text(req, "error")}
        jobset_id = _id(req, "jobset")
        before = _id(req, "before") or queries.BIGGEST
        owner = self._whose(req, _text(req, "owner"))

        def ask(connection: Connection) -> tuple[list[queries.Facts], int | None, bool]:
            return queries.jobs(connection, **wanted, jobset_id=jobset_id, owner=owner, before=before, n=PAGE_SIZE)

        found = self._parts.reader.block(ask)
        items, onward, is_partial = found.value or ([], None, False)
        counts = self._parts.reader.block(lambda c: queries.by_status(queries.facts(c, queries.COUNTS)))
        filters = {k: v for k, v in {**wanted, "jobset": jobset_id, "owner": owner}.items() if v is not None}
        data = {
            "jobs": items, "next": onward, "is_partial": is_partial, "trouble": found.trouble, "filters": filters,
            "counts": counts,
        }  # fmt: skip
        link = None if onward is None else "/jobs?" + urlencode({**filters, "before": onward})
        self._answer(
            req, resp, "jobs.html", data, self._now(), next_link=link, is_first=before == queries.BIGGEST,
            look_at=queries.LOOK_AT, statuses=list(JobStatus), filter_link=_filter_link(filters),
        )  # fmt: skip


class Job(Page):
    """/jobs/{panda_id}?log=&attempt="""

    def on_get(self, req: falcon.Request, resp: falcon.Response, panda_id: int) -> None:
        parts = self._parts
        try:
            facts = job_page.find(parts.reader, panda_id)
        except asked.NotExpanded as problem:
            hints = [(f"/jobsets/{problem.jobset.jobset_id}", f"job set {problem.jobset.jobset_id}")]
            render.problem(
                req, resp, parts.renderer, falcon.HTTP_404, f"Job {panda_id} is not made yet", f"{problem}.", hints
            )
            return
        except NotFound:
            detail = (
                "No job, live or archived, has this number. A PandaID is what `panda submit` and `panda status` print."
            )
            hints = [("/jobs", "the newest jobs"), (f"/jobsets/{panda_id}", f"job set {panda_id}")]
            render.problem(req, resp, parts.renderer, falcon.HTTP_404, f"There is no job {panda_id}", detail, hints)
            return
        policy.require(session_of(req).identity, Action.READ_JOBS, facts["owner"])
        data = job_page.job_page(
            parts.reader, parts.spool, facts, log=req.get_param("log") or None, log_attempt=_id(req, "attempt")
        )
        as_of = self._now()
        events, attempts = data["events"].value or [], data["attempts"].value or []
        until = job_page.archived_or_now(facts, as_of)
        data["chain"] = job_page.chain(facts, events, attempts, until)
        remembered = {row["chain_id"] for row in data["chain"] if row["chain_id"]}
        self._answer(
            req, resp, "job.html", data, as_of, lanes=job_page.lanes(events, until), is_final=facts["status"] in FINAL,
            in_flower={task_id for task_id in remembered if parts.celery.remembers(task_id)},
        )  # fmt: skip


class RawLog(Page):
    """/jobs/{panda_id}/logs/{attempt_nr}/{name}: the last 4 MB, as plain text."""

    def on_get(self, req: falcon.Request, resp: falcon.Response, panda_id: int, attempt_nr: int, name: str) -> None:
        parts = self._parts
        facts = job_page.find(parts.reader, panda_id)
        policy.require(session_of(req).identity, Action.READ_JOBS, facts["owner"])
        found = parts.reader.ask(
            lambda c: parts.spool.read_log(
                c, panda_id, name, attempt_nr=attempt_nr, offset=-MAX_CHUNK_BYTES, limit=MAX_CHUNK_BYTES
            )
        )
        resp.content_type = "text/plain; charset=utf-8"
        resp.set_header("Cache-Control", "private, no-store")
        resp.data = found.content


class JobSets(Page):
    """/jobsets?owner=&before="""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        owner = self._whose(req, _text(req, "owner"))
        before = _id(req, "before") or queries.BIGGEST
        found = self._parts.reader.block(lambda c: queries.jobsets(c, owner, before, PAGE_SIZE + 1))
        items = [_jobset(row) for row in (found.value or [])[:PAGE_SIZE]]
        onward = items[-1]["jobset_id"] if len(found.value or []) > PAGE_SIZE else None
        asked_for = {"owner": owner} if owner else {}
        data = {"jobsets": items, "next": onward, "trouble": found.trouble, "filters": asked_for}
        link = None if onward is None else "/jobsets?" + urlencode({**asked_for, "before": onward})
        self._answer(req, resp, "jobsets.html", data, self._now(), next_link=link, is_first=before == queries.BIGGEST)


class JobSet(Page):
    """/jobsets/{jobset_id}"""

    def on_get(self, req: falcon.Request, resp: falcon.Response, jobset_id: int) -> None:
        asked_for = {"jobset_id": jobset_id}
        reader = self._parts.reader
        facts = reader.ask(lambda c: job_queries.one(c, job_queries.JOBSET, asked_for)) if jobset_id < 2**63 else None
        if facts is None:
            detail = "No job set has this number."
            hints = [("/jobsets", "the newest job sets"), (f"/jobs/{jobset_id}", f"job {jobset_id}")]
            render.problem(
                req, resp, self._parts.renderer, falcon.HTTP_404, f"There is no job set {jobset_id}", detail, hints
            )
            return
        policy.require(session_of(req).identity, Action.READ_JOBS, facts["owner"])
        sample = asked_for | {"sample": job_queries.SET_SAMPLE}
        jobs = reader.block(lambda c: queries.jobs(c, jobset_id=jobset_id, n=20))
        data = {
            "jobset": _jobset(facts),
            "parents": reader.block(lambda c: queries.facts(c, job_queries.PARENTS, asked_for)),
            "children": reader.block(lambda c: queries.facts(c, job_queries.CHILDREN, asked_for)),
            "groups": reader.block(lambda c: queries.facts(c, job_queries.SET_STATUSES, sample)),
            "jobs": jobs.value[0] if jobs.value else [],
        }
        self._answer(req, resp, "jobset.html", data, self._now(), sample=job_queries.SET_SAMPLE)


class Queues(Page):
    """/queues: every queue of every site, and the storages."""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        reader = self._parts.reader

        def make() -> tuple[dict[str, Any], datetime]:
            counts = reader.block(lambda c: queries.facts(c, queries.COUNTS))
            pilots = reader.block(lambda c: queries.facts(c, queries.PILOTS))
            found = reader.block(lambda c: queues(c, counts.value, pilots.value))
            storages = reader.block(lambda c: queries.facts(c, queries.STORAGES))
            return {"queues": found, "storages": storages}, self._now()

        data, as_of = self._parts.memory.of("queues", make)
        self._answer(req, resp, "queues.html", data, as_of)


class Search(Page):
    """/search?q=: a number, `set:12`, a Celery id, the name of a queue or of an owner."""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        text = (req.get_param("q") or "").strip()
        target = self._target(text) if text else "/"
        if target is None:
            detail = (
                f"Nothing is called {text[:80]!r}. Search for a PandaID, set:NUMBER, a queue, an owner or a Celery id."
            )
            hints = [("/jobs", "the newest jobs"), ("/jobsets", "the newest job sets"), ("/queues", "the queues")]
            render.problem(req, resp, self._parts.renderer, falcon.HTTP_404, "Nothing found", detail, hints)
            return
        resp.status = falcon.HTTP_303
        resp.location = target

    def _target(self, text: str) -> str | None:
        number = text.replace(" ", "").replace(",", "")
        if number.isdecimal() and number.isascii() and len(number) < 19:
            return f"/jobs/{number}"
        kind, colon, rest = text.partition(":")
        if colon and kind in ("set", "jobset") and rest.isdecimal() and rest.isascii() and len(rest) < 19:
            return f"/jobsets/{rest}"
        try:
            return f"/flower/task/{UUID(text)}"
        except ValueError:
            return self._by_name(text)

    def _by_name(self, text: str) -> str | None:
        try:
            checked(text, "q")
        except Invalid:
            return None
        if any(queue["name"] == text for queue in self._parts.reader.ask(lambda c: queries.facts(c, queries.QUEUES))):
            return f"/jobs?queue={quote(text, safe='')}"
        if self._parts.reader.ask(lambda c: queries.jobsets(c, text, queries.BIGGEST, 1)):
            return f"/jobsets?owner={quote(text, safe='')}"
        return None


def _text(req: falcon.Request, name: str) -> str | None:
    """A filter's value. Raises Invalid: no name of ours holds such characters."""
    text = req.get_param(name) or None
    if text is not None and not text.isprintable():
        raise Invalid("holds characters that cannot be printed", where=name)
    return text


def _id(req: falcon.Request, name: str) -> int | None:
    return req.get_param_as_int(name, min_value=1, max_value=queries.BIGGEST) if req.get_param(name) else None


def _filter_link(filters: dict[str, Any]) -> Callable[..., str]:
    """For the template: the same list with other filters; None takes one away."""

    def link(**change: Any) -> str:
        chosen = {name: value for name, value in {**filters, **change}.items() if value is not None}
        return "/jobs?" + urlencode(chosen) if chosen else "/jobs"

    return link


def _jobset(facts: queries.Facts) -> queries.Facts:
    """A job set's row with its status, as `states.JobSetStatus` tells it."""
    if facts["n_open"]:
        status = JobSetStatus.PENDING if facts["open_parents"] else JobSetStatus.RUNNING
    elif facts["n_failed"]:
        status = JobSetStatus.FAILED
    else:
        status = JobSetStatus.CANCELLED if facts["n_cancelled"] else JobSetStatus.FINISHED
    return {**facts, "status": str(status)}
