"""Job sets: what was submitted together."""

from dataclasses import replace

import falcon

from monitoring.pages import jobset_facts
from monitoring.pages.listing import Listing, ListPage, ask
from monitoring.pages.page import Page, problem, session_of
from monitoring.reads import job_queries, queries
from monitoring.show import tables
from monitoring.show.yamltext import yaml_of
from panda.auth import policy
from panda.auth.policy import Action
from panda.jobs.nouns import JOBSETS
from panda.states import JobSetStatus

#: As pages show them.
SHOWN = f"SELECT {queries.JOBSET_COLUMNS} FROM jobsets WHERE jobset_id = ANY(%(ids)s)"
LISTING = Listing(
    replace(JOBSETS, show=SHOWN), "/jobsets", "jobsets", "panda sets", "status:failed owner:anna name:fit* created:7d"
)


class JobSets(ListPage):
    """/jobsets?q="""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        asked = ask(req, LISTING, tables.COLUMNS["jobsets.html"])
        mine = self._mine(req, Action.READ_JOBS, asked)
        self._list(req, resp, "jobsets.html", asked, mine, with_status, jobset_facts.with_etas)


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


def with_status(facts: queries.Facts) -> queries.Facts:
    """A job set's row with its status, as `states.JobSetStatus` tells it."""
    if facts["n_open"]:
        status = JobSetStatus.PENDING if facts["open_parents"] else JobSetStatus.RUNNING
    elif facts["n_failed"]:
        status = JobSetStatus.FAILED
    else:
        status = JobSetStatus.CANCELLED if facts["n_cancelled"] else JobSetStatus.FINISHED
    return {**facts, "status": str(status)}
