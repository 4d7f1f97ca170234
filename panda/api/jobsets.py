"""/v1/jobsets: job sets are submitted, shown, retried and cancelled as a whole."""

from typing import Any

import falcon

from panda.api import data_schemas, schemas
from panda.api.access import allowed
from panda.api.answers import show, show_page
from panda.api.body import Body
from panda.api.described import Page, gives
from panda.api.errors import BadRequest
from panda.api.jobs import in_short
from panda.api.listing import LIST, LIST_PROBLEMS, of_owner, show_list
from panda.api.parameters import word
from panda.auth import audit_log, policy
from panda.auth.policy import Action
from panda.dataservice import parts
from panda.db.session import Begin
from panda.jobs import bulk, kill, queries
from panda.jobs.nouns import JOBS, JOBSETS
from panda.jobs.queries import JobSetFacts
from panda.jobs.submission import submit
from panda.query import all_of, equal_to
from panda.settings import Api
from panda.states import Stage

MAX_KEY = 200


class JobSetsResource:
    """/v1/jobsets"""

    def __init__(self, begin: Begin, limits: Api) -> None:
        self._begin = begin
        self._limits = limits
        self._body = Body(schemas.JobSetRequest, limits.max_body_mb)

    @allowed(Action.SUBMIT)
    @gives(
        schemas.JobSetAccepted,
        status=(200, 201),
        takes=schemas.JobSetRequest,
        headers=("Idempotency-Key",),
        problems={
            400: "idempotency_key_missing",
            404: "not_found",
            409: "idempotency_key_reused dataset_taken dataset_closed is_container over_quota",
            422: "bad_format bad_name bad_requirement empty_matrix input_not_unique jobs_or_template no_input no_jobs "
            "nul output_not_unique unknown_place unknown_placeholder unknown_share",
        },
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Accept a job set: 201; 200 with the same ids for a repeat of the same `Idempotency-Key`."""
        key = _idempotency_key(req)
        request, raw = self._body.read_raw(req)
        with self._begin() as connection:
            accepted = submit(
                connection, request, raw, owner=req.context.identity.subject, key=key, limits=self._limits
            )
        resp.status = falcon.HTTP_200 if accepted.replayed else falcon.HTTP_201
        resp.set_header("Location", f"/v1/jobsets/{accepted.jobset_id}")
        show(resp, schemas.JobSetAccepted(**accepted._asdict()))

    @allowed(Action.READ_JOBS, *LIST, "owner")
    @gives(Page(schemas.JobSet, is_list=True), problems=LIST_PROBLEMS)
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Job sets that fit, newest first.

        Of a set with more than 20,000 live jobs `by_status` counts the newest; its ledger takes the others to wait."""
        owner = policy.scope(req.context.identity, Action.READ_JOBS, word(req, "owner"))
        also = of_owner(JOBSETS, owner)
        show_list(self._begin, req, resp, JOBSETS, schemas.JobSet, also=also, make=_listed, default=50)


class JobSetResource:
    """/v1/jobsets/{jobset_id}"""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    @allowed(Action.READ_JOBS)
    @gives(schemas.JobSet)
    def on_get(self, req: falcon.Request, resp: falcon.Response, jobset_id: int) -> None:
        """A job set with its ledger."""
        with self._begin() as connection:
            facts = queries.jobset(connection, jobset_id)
            policy.require(req.context.identity, Action.READ_JOBS, facts.row.owner)
        show(resp, _shown(facts))


class JobSetDatasetsResource:
    """/v1/jobsets/{jobset_id}/datasets"""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    @allowed(Action.READ_JOBS)
    @gives(Page(data_schemas.JobSetPart))
    def on_get(self, req: falcon.Request, resp: falcon.Response, jobset_id: int) -> None:
        """The set's data, part by part: what it reads, what was brought to which site, what it writes and ships."""
        with self._begin() as connection:
            policy.require(req.context.identity, Action.READ_JOBS, queries.jobset_owner(connection, jobset_id))
            found = parts.parts(connection, jobset_id)
        show_page(resp, [data_schemas.JobSetPart(**part._asdict()) for part in found], None)


class JobSetJobsResource:
    """/v1/jobsets/{jobset_id}/jobs"""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    @allowed(Action.READ_JOBS, *LIST, "status", "queue")
    @gives(Page(schemas.Job, is_list=True), problems={**LIST_PROBLEMS, 422: f"{LIST_PROBLEMS[422]} unknown_status"})
    def on_get(self, req: falcon.Request, resp: falcon.Response, jobset_id: int) -> None:
        """The set's jobs that were made so far, newest first."""
        with self._begin() as connection:
            policy.require(req.context.identity, Action.READ_JOBS, queries.jobset_owner(connection, jobset_id))
        own = equal_to(JOBS.fields["jobset"], jobset_id)
        show_list(self._begin, req, resp, JOBS, schemas.Job, also=all_of(own, in_short(req)))


class JobSetRetryResource:
    """/v1/jobsets/{jobset_id}/retry"""

    def __init__(self, begin: Begin, max_mb: int) -> None:
        self._begin = begin
        self._body = Body(schemas.RetryRequest, max_mb, may_be_empty=True)

    @allowed(Action.RETRY)
    @gives(schemas.JobSetRetried, takes=schemas.RetryRequest, takes_nothing_too=True, problems={422: "bad_stage"})
    def on_post(self, req: falcon.Request, resp: falcon.Response, jobset_id: int) -> None:
        """A new attempt of every failed job of the set.

        The first ones at once; where there are more, `action_id` is the action that brings the others."""
        asked = self._body.read(req)
        identity = req.context.identity
        with self._begin() as connection:
            policy.require(identity, Action.RETRY, queries.jobset_owner(connection, jobset_id))
            stage = Stage(asked.stage) if asked.stage else None
            action_id, chunk = bulk.begin_at_once(
                connection, "retry", f"jobset:{jobset_id} status:failed", stage=stage, by=identity.subject,
                reason=asked.reason, request_id=req.context.request_id,
            )  # fmt: skip
            audit_log.record(
                connection, identity.subject, "retry", f"jobset {jobset_id}", reason=asked.reason,
                facts={"stage": asked.stage, "n": len(chunk.done), "action_id": action_id},
                request_id=req.context.request_id,
            )  # fmt: skip
        refused = {str(panda_id): reason for panda_id, reason in chunk.refused.items()}
        rest = None if chunk.is_last else action_id
        show(resp, schemas.JobSetRetried(n=len(chunk.done), refused=refused, action_id=rest))


class JobSetCancelResource:
    """/v1/jobsets/{jobset_id}/cancel"""

    def __init__(self, begin: Begin, max_mb: int) -> None:
        self._begin = begin
        self._body = Body(schemas.CancelRequest, max_mb, may_be_empty=True)

    @allowed(Action.CANCEL)
    @gives(
        schemas.Affected,
        status=202,
        takes=schemas.CancelRequest,
        takes_nothing_too=True,
        problems={409: "jobset_ended"},
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response, jobset_id: int) -> None:
        """Ask for the end of every job of the set that has not ended; carried out in chunks."""
        asked = self._body.read(req)
        identity = req.context.identity
        with self._begin() as connection:
            policy.require(identity, Action.CANCEL, queries.jobset_owner(connection, jobset_id))
            n = kill.request_jobset(connection, jobset_id, by=identity.subject, reason=asked.reason)
            audit_log.record(
                connection, identity.subject, "cancel", f"jobset {jobset_id}", reason=asked.reason,
                facts={"n": n}, request_id=req.context.request_id,
            )  # fmt: skip
        resp.status = falcon.HTTP_202
        show(resp, schemas.Affected(n=n))


def _idempotency_key(req: falcon.Request) -> str:
    key: str = (req.get_header("Idempotency-Key") or "").strip()
    if not key:
        raise BadRequest(
            "a submission needs a key of yours, so that a repeat after a lost answer does no harm",
            where="Idempotency-Key",
            code="idempotency_key_missing",
        )
    if len(key) > MAX_KEY or not key.isascii() or not key.isprintable():
        raise BadRequest(f"at most {MAX_KEY} printable ASCII characters", where="Idempotency-Key")
    return key


def _listed(row: Any) -> schemas.JobSet:
    return _shown(queries.with_ledger(row))


def _shown(facts: JobSetFacts) -> schemas.JobSet:
    row = facts.row
    return schemas.JobSet(
        jobset_id=row.jobset_id,
        name=row.name,
        owner=row.owner,
        status=row.status,
        share=row.share,
        created_at=row.created_at,
        ended_at=row.ended_at,
        first_panda_id=row.first_panda_id,
        last_panda_id=row.first_panda_id + row.n_jobs - 1,
        n_jobs=row.n_jobs,
        output_dataset=row.output_dataset,
        depends_on=row.depends_on,
        on_parent_failure=row.on_parent_failure,
        ledger=schemas.Ledger(**facts.ledger),
        by_status=facts.by_status,
    )
