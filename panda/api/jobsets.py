"""/v1/jobsets: job sets are submitted, shown, retried and cancelled as a whole."""

import falcon

from panda.api import schemas
from panda.api.access import allowed
from panda.api.answers import show, show_page
from panda.api.body import Body
from panda.api.errors import BadRequest
from panda.api.parameters import after_id, page_limit, word, words
from panda.auth import audit_log, policy
from panda.auth.policy import Action
from panda.db.session import Begin
from panda.jobs import kill, queries, retry
from panda.jobs.queries import JobSetFacts
from panda.jobs.submission import submit
from panda.settings import Api
from panda.states import JobStatus, Stage

MAX_KEY = 200
#: Failed jobs that one request retries; the answer tells how many, so that a client may ask again.
MAX_RETRIED = 5_000


class JobSetsResource:
    """/v1/jobsets"""

    def __init__(self, begin: Begin, limits: Api) -> None:
        self._begin = begin
        self._limits = limits
        self._body = Body(schemas.JobSetRequest, limits.max_body_mb)

    @allowed(Action.SUBMIT)
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

    @allowed(Action.READ_JOBS, "owner", "after", "limit")
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Job sets, newest first."""
        owner = policy.scope(req.context.identity, Action.READ_JOBS, word(req, "owner"))
        with self._begin() as connection:
            page = queries.jobsets(connection, owner=owner, after=after_id(req), limit=page_limit(req, 50))
        show_page(resp, [_shown(facts) for facts in page.items], page.next)


class JobSetResource:
    """/v1/jobsets/{jobset_id}"""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    @allowed(Action.READ_JOBS)
    def on_get(self, req: falcon.Request, resp: falcon.Response, jobset_id: int) -> None:
        with self._begin() as connection:
            facts = queries.jobset(connection, jobset_id)
            policy.require(req.context.identity, Action.READ_JOBS, facts.row.owner)
        show(resp, _shown(facts))


class JobSetJobsResource:
    """/v1/jobsets/{jobset_id}/jobs"""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    @allowed(Action.READ_JOBS, "status", "queue", "after", "limit")
    def on_get(self, req: falcon.Request, resp: falcon.Response, jobset_id: int) -> None:
        """The set's jobs that were made so far, newest first."""
        with self._begin() as connection:
            policy.require(req.context.identity, Action.READ_JOBS, queries.jobset_owner(connection, jobset_id))
            page = queries.jobs(
                connection,
                jobset_id=jobset_id,
                statuses=words(req, "status", list(JobStatus)),
                queue=word(req, "queue"),
                after=after_id(req),
                limit=page_limit(req),
            )
        show_page(resp, [schemas.Job(**row._asdict()) for row in page.items], page.next)


class JobSetRetryResource:
    """/v1/jobsets/{jobset_id}/retry"""

    def __init__(self, begin: Begin, max_mb: int) -> None:
        self._begin = begin
        self._body = Body(schemas.RetryRequest, max_mb, may_be_empty=True)

    @allowed(Action.RETRY)
    def on_post(self, req: falcon.Request, resp: falcon.Response, jobset_id: int) -> None:
        """A new attempt of every failed job of the set, at most MAX_RETRIED at once."""
        asked = self._body.read(req)
        identity = req.context.identity
        with self._begin() as connection:
            policy.require(identity, Action.RETRY, queries.jobset_owner(connection, jobset_id))
            failed = retry.failed_of(connection, jobset_id, MAX_RETRIED)
            stage = Stage(asked.stage) if asked.stage else None
            outcome = retry.retry(connection, failed, stage=stage, by=identity.subject, reason=asked.reason)
            audit_log.record(
                connection, identity.subject, "retry", f"jobset {jobset_id}", reason=asked.reason,
                facts={"stage": asked.stage, "n": len(outcome.retried)}, request_id=req.context.request_id,
            )  # fmt: skip
        refused = {str(panda_id): reason for panda_id, reason in outcome.refused.items()}
        show(resp, schemas.Affected(n=len(outcome.retried), refused=refused))


class JobSetCancelResource:
    """/v1/jobsets/{jobset_id}/cancel"""

    def __init__(self, begin: Begin, max_mb: int) -> None:
        self._begin = begin
        self._body = Body(schemas.CancelRequest, max_mb, may_be_empty=True)

    @allowed(Action.CANCEL)
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
