"""The pages: a class per URI. All of them read, none decides."""

from datetime import datetime
from typing import Any
from urllib.parse import urlencode

import falcon

from monitoring import job_acts, job_page, job_queries, queries, trouble_pages
from monitoring.overview import PERIODS, overview
from monitoring.page import Page, check_words, number_of, problem, session_of
from monitoring.reading import Block
from panda.auth import policy
from panda.auth.identity import Identity
from panda.auth.policy import Action
from panda.errors import Forbidden, Invalid, NotFound, UnknownName
from panda.jobs import queries as asked
from panda.jobs.spool import MAX_CHUNK_BYTES
from panda.states import FINAL, JobSetStatus, JobStatus

PAGE_SIZE = 50


class Overview(Page):
    """/"""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        check_words(req, "hours")
        hours = req.get_param_as_int("hours")
        if hours is not None and hours not in PERIODS:
            raise UnknownName("period", str(hours), [str(period) for period in PERIODS], where="hours")
        parts = self._parts

        def make() -> tuple[dict[str, Any], datetime]:
            window = parts.settings.engine.retry_window_s
            found = overview(parts.reader, parts.health, parts.memory, hours=hours, retry_window_s=window)
            return found, self._now()

        data, as_of = parts.memory.of(("overview", hours), make)
        data = _for_role(data, session_of(req).identity)
        data["troubles"] = trouble_pages.found(parts) if _is_operating(session_of(req).identity) else []
        self._answer(req, resp, "overview.html", data, as_of, periods=PERIODS, api_port=parts.settings.api.port,
                     shown=trouble_pages.SHOWN_FIRST)  # fmt: skip


class Job(Page):
    """/jobs/{panda_id}?log=&attempt="""

    def on_get(self, req: falcon.Request, resp: falcon.Response, panda_id: int) -> None:
        parts = self._parts
        try:
            facts = job_page.find(parts.reader, panda_id)
        except asked.NotExpanded as early:
            hints = [(f"/jobsets/{early.jobset.jobset_id}", f"job set {early.jobset.jobset_id}")]
            problem(parts, req, resp, falcon.HTTP_404, f"Job {panda_id} is not made yet", f"{early}.", hints,
                code="not_made_yet",
            )  # fmt: skip
            return
        except NotFound:
            detail = (
                "No job, live or archived, has this number. A PandaID is what `panda submit` and `panda status` print."
            )
            hints = [("/jobs", "the newest jobs"), (f"/jobsets/{panda_id}", f"job set {panda_id}")]
            problem(parts, req, resp, falcon.HTTP_404, f"There is no job {panda_id}", detail, hints,
                           code="not_found")  # fmt: skip
            return
        policy.require(session_of(req).identity, Action.READ_JOBS, facts["owner"])
        data = job_page.job_page(
            parts.reader,
            parts.spool,
            facts,
            parts.settings,
            log=req.get_param("log") or None,
            log_attempt=number_of(req, "attempt"),
            find=(req.get_param("find") or "")[:200],
        )
        as_of = self._now()
        events, attempts = data["events"].value or [], data["attempts"].value or []
        until = job_page.archived_or_now(facts, as_of)
        data["chain"] = job_page.chain(facts, events, attempts, until)
        decision = data["why"].value["decision"] if data["why"].value else None
        told = job_page.details(facts, data["files"].value or [], decision)
        for row in data["chain"]:
            row["told"] = told.get(row["stage"], "") if row["mark"] != "todo" else ""
        points = [] if data["usage"].value is None else data["usage"].value["points"]
        can_retry = facts["status"] == JobStatus.FAILED and facts["archived_at"] is None
        remembered = {row["chain_id"] for row in data["chain"] if row["chain_id"]}
        self._answer(
            req, resp, "job.html", data, as_of, lanes=job_page.lanes(events, until), is_final=facts["status"] in FINAL,
            in_flower={task_id for task_id in remembered if parts.celery.remembers(task_id)}, topics=f"job:{panda_id}",
            start=job_acts.default_start(facts) if facts["status"] == JobStatus.FAILED else None,
            starts=[str(stage) for stage in job_acts.starts(facts)] if can_retry else [],
            resources=job_page.resources(points, facts["memory_mb"], facts["cores"]),
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
    """/jobsets?owner=&name=&before="""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        check_words(req, "owner", "name", "before")
        owner = self._whose(req, _text(req, "owner"))
        name = _text(req, "name")
        before = number_of(req, "before") or queries.BIGGEST
        found = self._parts.reader.block(lambda c: queries.jobsets(c, owner, before, PAGE_SIZE + 1, name))
        items = [jobset_facts(row) for row in (found.value or [])[:PAGE_SIZE]]
        onward = items[-1]["jobset_id"] if len(found.value or []) > PAGE_SIZE else None
        asked_for = ({"owner": owner} if owner else {}) | ({"name": name} if name else {})
        data = {"jobsets": items, "next": onward, "trouble": found.trouble, "filters": asked_for}
        link = None if onward is None else "/jobsets?" + urlencode({**asked_for, "before": onward})
        self._answer(
            req,
            resp,
            "jobsets.html",
            data,
            self._now(),
            csv="jobsets",
            next_link=link,
            is_first=before == queries.BIGGEST,
        )


class JobSet(Page):
    """/jobsets/{jobset_id}"""

    def on_get(self, req: falcon.Request, resp: falcon.Response, jobset_id: int) -> None:
        asked_for = {"jobset_id": jobset_id}
        reader = self._parts.reader
        facts = reader.ask(lambda c: job_queries.one(c, job_queries.JOBSET, asked_for)) if jobset_id < 2**63 else None
        if facts is None:
            detail = "No job set has this number."
            hints = [("/jobsets", "the newest job sets"), (f"/jobs/{jobset_id}", f"job {jobset_id}")]
            problem(self._parts, req, resp, falcon.HTTP_404, f"There is no job set {jobset_id}", detail, hints,
                code="not_found",
            )  # fmt: skip
            return
        policy.require(session_of(req).identity, Action.READ_JOBS, facts["owner"])
        sample = asked_for | {"sample": job_queries.SET_SAMPLE}
        jobs = reader.block(lambda c: queries.jobs(c, jobset_id=jobset_id, n=20))
        data = {
            "jobset": jobset_facts(facts),
            "parents": reader.block(lambda c: queries.facts(c, job_queries.PARENTS, asked_for)),
            "children": reader.block(lambda c: queries.facts(c, job_queries.CHILDREN, asked_for)),
            "groups": reader.block(lambda c: queries.facts(c, job_queries.SET_STATUSES, sample)),
            "jobs": jobs.value[0] if jobs.value else [],
        }
        self._answer(req, resp, "jobset.html", data, self._now(), csv="jobs", sample=job_queries.SET_SAMPLE,
                     topics=f"jobset:{jobset_id}")  # fmt: skip


def _text(req: falcon.Request, name: str) -> str | None:
    """A filter's value. Raises Invalid: no name of ours holds such characters."""
    text = req.get_param(name) or None
    if text is not None and not text.isprintable():
        raise Invalid("holds characters that cannot be printed", where=name)
    return text


def _is_operating(identity: Identity) -> bool:
    """Whether somebody sees what is wrong anywhere."""
    try:
        policy.require(identity, Action.READ_INCIDENTS)
    except Forbidden:
        return False
    return True


def _for_role(data: dict[str, Any], identity: Identity) -> dict[str, Any]:
    """What payloads and components say is for those who may see everybody's jobs."""
    if _is_operating(identity):
        return data
    errors = data["errors"]
    kept = [{name: value for name, value in row.items() if name != "message"} for row in errors.value or []]
    return {**data, "errors": Block(kept, errors.trouble), "incidents": Block([])}


def jobset_facts(facts: queries.Facts) -> queries.Facts:
    """A job set's row with its status, as `states.JobSetStatus` tells it."""
    if facts["n_open"]:
        status = JobSetStatus.PENDING if facts["open_parents"] else JobSetStatus.RUNNING
    elif facts["n_failed"]:
        status = JobSetStatus.FAILED
    else:
        status = JobSetStatus.CANCELLED if facts["n_cancelled"] else JobSetStatus.FINISHED
    return {**facts, "status": str(status)}
