"""One job, and its logs as text."""

import falcon

from monitoring.pages import job_acts, job_facts, job_moves
from monitoring.pages.page import Page, number_of, problem, session_of
from panda.auth import policy
from panda.auth.policy import Action
from panda.errors import NotFound
from panda.jobs import queries as asked
from panda.jobs.spool import MAX_CHUNK_BYTES
from panda.states import FINAL, JobStatus


class Job(Page):
    """/jobs/{panda_id}?log=&attempt=&find=&at=error"""

    def on_get(self, req: falcon.Request, resp: falcon.Response, panda_id: int) -> None:
        parts = self._parts
        try:
            facts = job_facts.find(parts.reader, panda_id)
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
        data = job_facts.job_page(
            parts.reader,
            parts.spool,
            facts,
            parts.settings,
            log=req.get_param("log") or None,
            log_attempt=number_of(req, "attempt"),
            find=(req.get_param("find") or "")[:200],
            at_error=req.get_param("at") == "error",
        )
        as_of = self._now()
        events, attempts = data["events"].value or [], data["attempts"].value or []
        until = job_facts.archived_or_now(facts, as_of)
        data["chain"] = job_facts.chain(facts, events, attempts, until)
        decision = data["why"].value["decision"] if data["why"].value else None
        told = job_facts.details(facts, data["files"].value or [], decision)
        for row in data["chain"]:
            row["told"] = told.get(row["stage"], "") if row["mark"] != "todo" else ""
        waits_for = data["due"].value["waits_for"] if data["due"].value else None
        offers = job_moves.offers(facts, waits_for, parts.settings)
        data["commands"] = job_facts.commands(facts, [offer.verb for offer in offers])
        points = [] if data["usage"].value is None else data["usage"].value["points"]
        can_retry = facts["status"] == JobStatus.FAILED and facts["archived_at"] is None
        remembered = {row["chain_id"] for row in data["chain"] if row["chain_id"]}
        self._answer(
            req, resp, "job.html", data, as_of, lanes=job_facts.lanes(events, until), is_final=facts["status"] in FINAL,
            in_flower={task_id for task_id in remembered if parts.celery.remembers(task_id)}, topics=f"job:{panda_id}",
            start=job_acts.default_start(facts) if facts["status"] == JobStatus.FAILED else None,
            starts=[str(stage) for stage in job_acts.starts(facts)] if can_retry else [],
            offers=offers, parameters=job_facts.parameters(facts, data["said"].value),
            resources=job_facts.resources(points, facts["memory_mb"], facts["cores"]),
        )  # fmt: skip


class RawLog(Page):
    """/jobs/{panda_id}/logs/{attempt_nr}/{name}: the last 4 MB as plain text, or the part that `Range` asks for."""

    def on_get(self, req: falcon.Request, resp: falcon.Response, panda_id: int, attempt_nr: int, name: str) -> None:
        parts = self._parts
        facts = job_facts.find(parts.reader, panda_id)
        policy.require(session_of(req).identity, Action.READ_JOBS, facts["owner"])
        is_part = req.range is not None and req.range_unit == "bytes"
        first, last = req.range if is_part and req.range else (-MAX_CHUNK_BYTES, -1)
        limit = MAX_CHUNK_BYTES if last < 0 else last - first + 1
        found = parts.reader.ask(
            lambda c: parts.spool.read_log(c, panda_id, name, attempt_nr=attempt_nr, offset=first, limit=limit)
        )
        resp.content_type = "text/plain; charset=utf-8"
        resp.set_header("Cache-Control", "private, no-store")
        resp.set_header("Accept-Ranges", "bytes")
        resp.data = found.content
        if is_part and not found.content:
            raise falcon.HTTPRangeNotSatisfiable(found.size_bytes)
        if is_part:
            resp.status = falcon.HTTP_206
            end = found.offset + len(found.content) - 1
            resp.content_range = (found.offset, end, found.size_bytes)
