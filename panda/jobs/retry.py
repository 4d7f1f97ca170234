"""A failed job gets a new attempt, because a person or a rule says so."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy.engine import Connection, Row

from panda.db.session import rows, run
from panda.errors import Invalid
from panda.jobs import due, ending, jobsets
from panda.jobs.submission import CHANNEL
from panda.states import PIPELINE, RETRY_STATUS, JobStatus, Stage

JOBS = """
SELECT j.panda_id, j.status, j.failed_stage, j.computing_site, s.open_parents > 0 AS has_open_parents,
    s.cancel_requested_at IS NOT NULL AND s.ended_at IS NULL AS is_cancelled,
    EXISTS (SELECT FROM job_files f WHERE f.panda_id = j.panda_id AND f.kind = 'output'
        AND f.status = 'registered' OFFSET 0) AS is_published
FROM (SELECT * FROM jobs WHERE panda_id = ANY(%(panda_ids)s) OFFSET 0) j,
    LATERAL (SELECT * FROM jobsets WHERE jobset_id = j.jobset_id OFFSET 0) s
"""
OUTPUTS_THERE = """
SELECT DISTINCT panda_id FROM job_files
WHERE panda_id = ANY(%(panda_ids)s) AND kind = 'output' AND status NOT IN ('written', 'registered')
"""


GONE = "it is archived or unknown; submit it again"


class RetryOutcome(NamedTuple):
    """Whom a retry reached, ascending; and why not the others."""

    retried: list[int]
    refused: dict[int, str]


def retry(
    connection: Connection, panda_ids: Sequence[int], *, stage: Stage | None, by: str, reason: str
) -> RetryOutcome:
    """Open a new attempt of each failed job, at `stage` or at the stage that it failed in.

    A job that failed while a pilot had it starts at brokerage. The new attempt inherits what the last
    one achieved: bound inputs, files already at the site, and (from `stage_out`) its outputs.

    Raises:
        Invalid: no attempt can start at that stage.
    """
    if stage is not None and stage not in RETRY_STATUS:
        raise Invalid(f"an attempt starts at one of {', '.join(RETRY_STATUS)}", where="stage", code="bad_stage")
    locked = due.lock(connection, panda_ids)
    starts, refused = foresee(connection, sorted(locked), stage)
    refused |= dict.fromkeys(sorted(set(panda_ids) - set(locked)), GONE)
    for start, members in starts.items():
        ending.start_over(connection, members, start, by=by, reason=reason or f"retry from {start}")
    retried = sorted(panda_id for members in starts.values() for panda_id in members)
    jobsets.reopen(connection, retried)
    if retried:
        run(connection, f"NOTIFY {CHANNEL}")
    return RetryOutcome(retried, refused)


def foresee(
    connection: Connection, panda_ids: Sequence[int], stage: Stage | None
) -> tuple[dict[Stage, list[int]], dict[int, str]]:
    """Where a new attempt of which of these jobs would start, and why the others would get none. Nothing is done.

    What it says stays so only while the jobs are locked (`due.lock`)."""
    asked = {"panda_ids": sorted(set(panda_ids))}
    found = {row.panda_id: row for row in rows(connection, JOBS, asked)}
    without_outputs = {row.panda_id for row in rows(connection, OUTPUTS_THERE, asked)}
    refused: dict[int, str] = {}
    starts: dict[Stage, list[int]] = {}
    for panda_id in asked["panda_ids"]:
        job = found.get(panda_id)
        if job is None:
            refused[panda_id] = GONE
        elif job.status != JobStatus.FAILED:
            refused[panda_id] = f"it is {job.status}; only a failed job can be retried"
        else:
            start = stage or _start_after(job.failed_stage)
            why_not = _why_not(job, start, has_outputs=panda_id not in without_outputs)
            if why_not:
                refused[panda_id] = why_not
            else:
                starts.setdefault(start, []).append(panda_id)
    return starts, refused


def _why_not(job: Row[Any], start: Stage, *, has_outputs: bool) -> str | None:
    """Why a failed job cannot start at a stage; None: it can."""
    if job.failed_stage and PIPELINE.index(start) > PIPELINE.index(Stage(job.failed_stage)):
        return f"it failed in {job.failed_stage} and never came to {start}"
    if job.is_published and start is not Stage.STAGE_OUT:
        return "its outputs are published, and would be written over; retry from stage_out"
    if start is Stage.STAGE_OUT and not has_outputs:
        return "its outputs are not at the site; retry from broker"
    if start is Stage.STAGE_IN and job.computing_site is None:
        return "it never had a queue; retry from broker"
    if job.has_open_parents:
        return "the job sets that it depends on have not ended well"
    if job.is_cancelled:
        return "its job set is being cancelled"
    return None


def _start_after(failed_stage: str | None) -> Stage:
    stage = Stage(failed_stage) if failed_stage else Stage.BROKER
    if stage is Stage.ARCHIVE:
        return Stage.STAGE_OUT
    return stage if stage in RETRY_STATUS else Stage.BROKER
