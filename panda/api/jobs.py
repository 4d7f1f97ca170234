"""/v1/jobs: what jobs are doing, why, and what their owners ask of them."""

import falcon

from panda.api import schemas
from panda.api.access import allowed
from panda.api.answers import show, show_page
from panda.api.body import Body
from panda.api.described import Page, Raw, gives
from panda.api.errors import BadRequest
from panda.api.listing import LIST, LIST_PROBLEMS, filter_of, of_owner, show_list
from panda.api.parameters import MAX_ID, NAME, optional_whole, page_limit, whole, whole_number, word, words
from panda.auth import audit_log, policy
from panda.auth.policy import Action
from panda.db import lists
from panda.db.session import Begin
from panda.errors import Conflict, UnknownName
from panda.jobs import kill, places, queries, rebroker, retry
from panda.jobs.nouns import GROUPS, JOBS
from panda.jobs.spool import MAX_CHUNK_BYTES, Spool
from panda.query import Expression, all_of, equal_to
from panda.settings import Engine
from panda.states import JobStatus, Stage

#: Bytes of a log that one answer holds when nothing else is asked for.
LOG_BYTES = 1_000_000
#: Jobs that one count looks at.
COUNTED = 100_000
MAX_GROUP_FIELDS = 3


class JobsResource:
    """/v1/jobs"""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    @allowed(Action.READ_JOBS, *LIST, "status", "jobset", "owner", "queue")
    @gives(Page(schemas.Job, is_list=True), problems={**LIST_PROBLEMS, 422: f"{LIST_PROBLEMS[422]} unknown_status"})
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Jobs that fit, live and archived ones, newest first.

        `status`, `jobset`, `owner` and `queue` are short for the same words in `filter`."""
        owner = policy.scope(req.context.identity, Action.READ_JOBS, word(req, "owner"))
        show_list(self._begin, req, resp, JOBS, schemas.Job, also=all_of(of_owner(JOBS, owner), in_short(req)))


class JobCountsResource:
    """/v1/jobs/counts"""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    @allowed(Action.READ_JOBS, "filter", "by", "owner")
    @gives(schemas.JobCounts, problems={400: "bad_filter", 422: "unknown_field"})
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """How many jobs fit, by up to three fields, the largest groups first.

        At most COUNTED of the newest are looked at; `exact` tells whether that was all."""
        owner = policy.scope(req.context.identity, Action.READ_JOBS, word(req, "owner"))
        by = _groups(req)
        expression = all_of(of_owner(JOBS, owner), filter_of(req, JOBS))
        with self._begin() as connection:
            found = lists.counts(connection, JOBS, expression, by, window=COUNTED)
        groups = [
            schemas.JobCount(by=dict(zip(by, map(_plain, values), strict=True)), n=n) for values, n in found.groups
        ]
        down_to = found.down_to[0] if found.down_to else None
        show(resp, schemas.JobCounts(data=groups, n=sum(n for _, n in found.groups), exact=down_to is None,
                                     down_to=down_to))  # fmt: skip


class JobResource:
    """/v1/jobs/{panda_id}"""

    def __init__(self, begin: Begin, engine: Engine) -> None:
        self._begin = begin
        self._engine = engine

    @allowed(Action.READ_JOBS)
    @gives(schemas.Job, problems={404: "not_expanded"})
    def on_get(self, req: falcon.Request, resp: falcon.Response, panda_id: int) -> None:
        """A job, archived ones too."""
        with self._begin() as connection:
            policy.require(req.context.identity, Action.READ_JOBS, queries.owner_of(connection, panda_id))
            job = queries.job(connection, panda_id)
            left = queries.failures_left(connection, panda_id, self._engine)
        show(resp, schemas.Job(**job._asdict(), failures_left=left))


class JobEventsResource:
    """/v1/jobs/{panda_id}/events"""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    @allowed(Action.READ_JOBS)
    @gives(Page(schemas.JobEvent), problems={404: "not_expanded"})
    def on_get(self, req: falcon.Request, resp: falcon.Response, panda_id: int) -> None:
        """Every move of a job, oldest first."""
        with self._begin() as connection:
            policy.require(req.context.identity, Action.READ_JOBS, queries.owner_of(connection, panda_id))
            events = queries.events(connection, panda_id)
        show_page(resp, [schemas.JobEvent(**row._asdict()) for row in events])


class JobFilesResource:
    """/v1/jobs/{panda_id}/files"""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    @allowed(Action.READ_JOBS, "after", "limit")
    @gives(Page(schemas.JobFile), parameters={"after": NAME}, problems={404: "not_expanded"})
    def on_get(self, req: falcon.Request, resp: falcon.Response, panda_id: int) -> None:
        """Inputs and outputs of a job."""
        with self._begin() as connection:
            policy.require(req.context.identity, Action.READ_JOBS, queries.owner_of(connection, panda_id))
            page = queries.files(connection, panda_id, after=word(req, "after") or "", limit=page_limit(req, 500))
        show_page(resp, [schemas.JobFile(**row._asdict()) for row in page.items], page.next)


class JobAttemptsResource:
    """/v1/jobs/{panda_id}/attempts"""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    @allowed(Action.READ_JOBS)
    @gives(Page(schemas.Attempt), problems={404: "not_expanded"})
    def on_get(self, req: falcon.Request, resp: falcon.Response, panda_id: int) -> None:
        """Attempts of a job."""
        with self._begin() as connection:
            policy.require(req.context.identity, Action.READ_JOBS, queries.owner_of(connection, panda_id))
            attempts = queries.attempts(connection, panda_id)
        show_page(resp, [schemas.Attempt(**row._asdict()) for row in attempts])


class JobAttemptResource:
    """/v1/jobs/{panda_id}/attempts/{attempt_nr}"""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    @allowed(Action.READ_JOBS)
    @gives(schemas.JobAttempt, problems={404: "not_expanded"})
    def on_get(self, req: falcon.Request, resp: falcon.Response, panda_id: int, attempt_nr: int) -> None:
        """An attempt of a job: one that has ended, or the one that is under way with a pilot."""
        with self._begin() as connection:
            policy.require(req.context.identity, Action.READ_JOBS, queries.owner_of(connection, panda_id))
            attempt = queries.attempt(connection, panda_id, attempt_nr)
        show(resp, schemas.JobAttempt(panda_id=panda_id, **attempt._asdict()))


class JobLogsResource:
    """/v1/jobs/{panda_id}/logs"""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    @allowed(Action.READ_JOBS)
    @gives(Page(schemas.JobLog), problems={404: "not_expanded"})
    def on_get(self, req: falcon.Request, resp: falcon.Response, panda_id: int) -> None:
        """Which logs of a job there are."""
        with self._begin() as connection:
            policy.require(req.context.identity, Action.READ_JOBS, queries.owner_of(connection, panda_id))
            logs = queries.logs(connection, panda_id)
        show_page(resp, [schemas.JobLog(**row._asdict()) for row in logs])


class JobLogResource:
    """/v1/jobs/{panda_id}/logs/{name}?attempt=&offset=&limit="""

    def __init__(self, begin: Begin, spool: Spool) -> None:
        self._begin = begin
        self._spool = spool

    @allowed(Action.READ_JOBS, "attempt", "offset", "limit")
    @gives(
        Raw("text/plain"),
        status=(200, 206, 416),
        headers=("Range",),
        parameters={
            "offset": whole_number(-MAX_ID, MAX_ID, "Byte to begin with; negative: from the end."),
            "limit": whole_number(1, MAX_CHUNK_BYTES, "Bytes at most."),
        },
        problems={404: "not_expanded", 422: "bad_name", 503: "spool_down"},
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response, panda_id: int, name: str) -> None:
        """A part of a log as plain text; `X-Log-Size` tells how long the log is by now.

        A negative offset counts from the end. `Range: bytes=…` is understood as well.
        """
        is_range, offset, limit = _log_part(req)
        with self._begin() as connection:
            policy.require(req.context.identity, Action.READ_JOBS, queries.owner_of(connection, panda_id))
            attempt_nr = optional_whole(req, "attempt", 1, 10_000)
            log = self._spool.read_log(connection, panda_id, name, attempt_nr=attempt_nr, offset=offset, limit=limit)
        resp.content_type = "text/plain; charset=utf-8"
        resp.set_header("X-Content-Type-Options", "nosniff")
        resp.set_header("X-Log-Size", str(log.size_bytes))
        resp.set_header("X-Log-Offset", str(log.offset))
        resp.set_header("X-Log-Attempt", str(log.attempt_nr))
        resp.data = log.content
        if is_range and log.content:
            resp.status = falcon.HTTP_206
            last = log.offset + len(log.content) - 1
            resp.set_header("Content-Range", f"bytes {log.offset}-{last}/{log.size_bytes}")
        elif is_range:
            resp.status = falcon.HTTP_416
            resp.set_header("Content-Range", f"bytes */{log.size_bytes}")


class JobRetryResource:
    """/v1/jobs/{panda_id}/retry"""

    def __init__(self, begin: Begin, max_mb: int) -> None:
        self._begin = begin
        self._body = Body(schemas.RetryRequest, max_mb, may_be_empty=True)

    @allowed(Action.RETRY)
    @gives(
        schemas.Affected,
        takes=schemas.RetryRequest,
        takes_nothing_too=True,
        problems={404: "not_expanded", 409: "cannot_retry", 422: "bad_stage"},
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response, panda_id: int) -> None:
        """A new attempt of a failed job. 409 `cannot_retry`: it is not failed, or not here any more."""
        asked = self._body.read(req)
        identity = req.context.identity
        with self._begin() as connection:
            policy.require(identity, Action.RETRY, queries.owner_of(connection, panda_id))
            queries.check_made(connection, panda_id)
            stage = Stage(asked.stage) if asked.stage else None
            outcome = retry.retry(connection, [panda_id], stage=stage, by=identity.subject, reason=asked.reason)
            if panda_id in outcome.refused:
                raise Conflict(f"job {panda_id}: {outcome.refused[panda_id]}", code="cannot_retry")
            audit_log.record(
                connection, identity.subject, "retry", f"job {panda_id}", reason=asked.reason,
                facts={"stage": asked.stage}, request_id=req.context.request_id,
            )  # fmt: skip
        show(resp, schemas.Affected(n=len(outcome.retried)))


class JobRebrokerResource:
    """/v1/jobs/{panda_id}/rebroker"""

    def __init__(self, begin: Begin, max_mb: int) -> None:
        self._begin = begin
        self._body = Body(schemas.RebrokerRequest, max_mb, may_be_empty=True)

    @allowed(Action.RETRY)
    @gives(
        schemas.Affected,
        takes=schemas.RebrokerRequest,
        takes_nothing_too=True,
        problems={404: "not_expanded", 409: "cannot_rebroker", 422: "bad_name too_many_places unknown_place"},
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response, panda_id: int) -> None:
        """Let brokerage look again at a job that no pilot has. It rather goes elsewhere than where it was."""
        asked = self._body.read(req)
        identity = req.context.identity
        with self._begin() as connection:
            policy.require(identity, Action.RETRY, queries.owner_of(connection, panda_id))
            queries.check_made(connection, panda_id)
            rebroker.check_places(asked.exclude)
            places.check_excluded(connection, asked.exclude)
            reached, refused = rebroker.rebroker(
                connection, [panda_id], exclude=asked.exclude, by=identity.subject, reason=asked.reason
            )
            if panda_id in refused:
                raise Conflict(f"job {panda_id}: {refused[panda_id]}", code="cannot_rebroker")
            audit_log.record(
                connection, identity.subject, "rebroker", f"job {panda_id}", reason=asked.reason,
                facts={"exclude": asked.exclude}, request_id=req.context.request_id,
            )  # fmt: skip
        show(resp, schemas.Affected(n=len(reached)))


class JobCancelResource:
    """/v1/jobs/{panda_id}/cancel"""

    def __init__(self, begin: Begin, max_mb: int) -> None:
        self._begin = begin
        self._body = Body(schemas.CancelRequest, max_mb, may_be_empty=True)

    @allowed(Action.CANCEL)
    @gives(
        schemas.Affected,
        status=202,
        takes=schemas.CancelRequest,
        takes_nothing_too=True,
        problems={404: "not_expanded"},
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response, panda_id: int) -> None:
        """Ask for a kill; a running pilot hears of it at its next heartbeat. Asking twice does no harm."""
        asked = self._body.read(req)
        identity = req.context.identity
        with self._begin() as connection:
            policy.require(identity, Action.CANCEL, queries.owner_of(connection, panda_id))
            queries.check_made(connection, panda_id)
            outcome = kill.request(connection, [panda_id], by=identity.subject, reason=asked.reason)
            audit_log.record(
                connection, identity.subject, "cancel", f"job {panda_id}", reason=asked.reason,
                facts={"n": len(outcome.asked)}, request_id=req.context.request_id,
            )  # fmt: skip
        resp.status = falcon.HTTP_202
        refused = {str(refused_id): reason for refused_id, reason in outcome.refused.items()}
        show(resp, schemas.Affected(n=len(outcome.asked), refused=refused))


def in_short(req: falcon.Request) -> Expression:
    """What the short parameters say. Raises UnknownName, BadRequest."""
    statuses = words(req, "status", list(JobStatus))
    jobset_id, queue = optional_whole(req, "jobset", 1, MAX_ID), word(req, "queue")
    fields = JOBS.fields
    return all_of(
        *([equal_to(fields["status"], *statuses)] if statuses else []),
        *([equal_to(fields["jobset"], jobset_id)] if jobset_id is not None else []),
        *([equal_to(fields["queue"], queue)] if queue is not None else []),
    )


def _groups(req: falcon.Request) -> list[str]:
    """Fields to count by. Raises UnknownName, BadRequest."""
    value = req.params.get("by") or "status"
    given = [each for text in (value if isinstance(value, list) else [value]) for each in text.split(",")]
    for each in given:
        if each not in GROUPS:
            raise UnknownName("field", each[:60], GROUPS, where="by")
    if len(given) > MAX_GROUP_FIELDS or len(set(given)) < len(given):
        raise BadRequest(f"up to {MAX_GROUP_FIELDS} fields, each once", where="by")
    return given


def _plain(value: object) -> str | None:
    return None if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _log_part(req: falcon.Request) -> tuple[bool, int, int]:
    """Whether a Range asks, from which byte on, and how many bytes at most. Raises BadRequest."""
    offset = whole(req, "offset", 0, -MAX_ID, MAX_ID)
    limit = whole(req, "limit", LOG_BYTES, 1, MAX_CHUNK_BYTES)
    if req.get_header("Range") is None:
        return False, offset, limit
    try:
        span = req.range
    except falcon.HTTPInvalidHeader as problem:
        raise BadRequest(problem.description or "not understood", where="Range") from None
    if span is None or req.range_unit != "bytes":
        return False, offset, limit
    first, last = span
    if first < 0:
        return True, first, min(-first, MAX_CHUNK_BYTES)
    return True, first, min(last - first + 1, MAX_CHUNK_BYTES) if last >= 0 else limit
