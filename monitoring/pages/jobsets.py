"""Job sets: what was submitted together."""

from urllib.parse import urlencode

import falcon

from monitoring.pages import jobset_facts
from monitoring.pages.page import Page, check_words, number_of, problem, session_of
from monitoring.reads import job_queries, queries
from monitoring.show.yamltext import yaml_of
from panda.auth import policy
from panda.auth.policy import Action
from panda.errors import Invalid
from panda.states import JobSetStatus

PAGE_SIZE = 50


class JobSets(Page):
    """/jobsets?owner=&name=&before="""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        check_words(req, "owner", "name", "before")
        owner = self._whose(req, _text(req, "owner"))
        name = _text(req, "name")
        before = number_of(req, "before") or queries.BIGGEST
        found = self._parts.reader.block(lambda c: queries.jobsets(c, owner, before, PAGE_SIZE + 1, name))
        items = [with_status(row) for row in (found.value or [])[:PAGE_SIZE]]
        paced = self._parts.reader.block(lambda c: jobset_facts.with_etas(c, items))
        items = paced.value or [{**row, "eta_s": None} for row in items]
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
            "jobset": self._paced(with_status(facts)),
            "parents": reader.block(lambda c: queries.facts(c, job_queries.PARENTS, asked_for)),
            "children": reader.block(lambda c: queries.facts(c, job_queries.CHILDREN, asked_for)),
            "groups": reader.block(lambda c: queries.facts(c, job_queries.SET_STATUSES, sample)),
            "jobs": jobs.value[0] if jobs.value else [],
            "over_time": reader.block(lambda c: jobset_facts.over_time(c, facts, queries.LOOK_AT, queries.now(c))),
            "failures": reader.block(lambda c: jobset_facts.failures(c, jobset_id, queries.LOOK_AT)),
        }
        self._answer(req, resp, "jobset.html", data, self._now(), csv="jobs", sample=job_queries.SET_SAMPLE,
                     is_yaml=req.get_param("document") != "json", yaml_of=yaml_of,
                     topics=f"jobset:{jobset_id}")  # fmt: skip

    def _paced(self, facts: queries.Facts) -> queries.Facts:
        found = self._parts.reader.block(lambda c: jobset_facts.with_etas(c, [facts])).value
        return found[0] if found else {**facts, "eta_s": None}


def _text(req: falcon.Request, name: str) -> str | None:
    """A filter's value. Raises Invalid: no name of ours holds such characters."""
    text = req.get_param(name) or None
    if text is not None and not text.isprintable():
        raise Invalid("holds characters that cannot be printed", where=name)
    return text


def with_status(facts: queries.Facts) -> queries.Facts:
    """A job set's row with its status, as `states.JobSetStatus` tells it."""
    if facts["n_open"]:
        status = JobSetStatus.PENDING if facts["open_parents"] else JobSetStatus.RUNNING
    elif facts["n_failed"]:
        status = JobSetStatus.FAILED
    else:
        status = JobSetStatus.CANCELLED if facts["n_cancelled"] else JobSetStatus.FINISHED
    return {**facts, "status": str(status)}
