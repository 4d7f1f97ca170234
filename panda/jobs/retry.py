"""A failed job gets a new attempt, because a person or a rule says so."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy.engine import Connection

from panda.db.session import rows, run
from panda.errors import Invalid
from panda.jobs import due, ending, jobsets
from panda.jobs.submission import CHANNEL
from panda.states import RETRY_STATUS, JobStatus, Stage

JOBS = "SELECT panda_id, status, failed_stage, computing_site FROM jobs WHERE panda_id = ANY(%(panda_ids)s)"
OUTPUTS_THERE = """
SELECT DISTINCT panda_id FROM job_files
WHERE panda_id = ANY(%(panda_ids)s) AND kind = 'output' AND status NOT IN ('written', 'registered')
"""
FAILED_OF = """
SELECT panda_id FROM jobs WHERE jobset_id = %(jobset_id)s AND status = 'failed' ORDER BY -panda_id LIMIT %(limit)s
"""


class RetryOutcome(NamedTuple):
    """Whom a retry reached, ascending; and why not the others."""

    retried: list[int]
    refused: dict[int, str]


def failed_of(connection: Connection, jobset_id: int, limit: int = 5000) -> list[int]:
    """The newest failed jobs of a set that can still be retried, ascending."""
    return sorted(row.panda_id for row in rows(connection, FAILED_OF, {"jobset_id": jobset_id, "limit": limit}))


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
    found = {row.panda_id: row for row in rows(connection, JOBS, {"panda_ids": sorted(locked)})}
    without_outputs = {row.panda_id for row in rows(connection, OUTPUTS_THERE, {"panda_ids": sorted(locked)})}
    refused: dict[int, str] = {}
    starts: dict[Stage, list[int]] = {}
    for panda_id in sorted(set(panda_ids)):
        job = found.get(panda_id)
        if job is None:
            refused[panda_id] = "it is archived or unknown; submit it again"
        elif job.status != JobStatus.FAILED:
            refused[panda_id] = f"it is {job.status}; only a failed job can be retried"
        else:
            start = stage or _start_after(job.failed_stage)
            if start is Stage.STAGE_OUT and panda_id in without_outputs:
                refused[panda_id] = "its outputs are not at the site; retry from broker"
            elif start is Stage.STAGE_IN and job.computing_site is None:
                refused[panda_id] = "it never had a queue; retry from broker"
            else:
                starts.setdefault(start, []).append(panda_id)
    for start, members in starts.items():
        ending.start_over(connection, members, start, by=by, reason=reason or f"retry from {start}")
    retried = sorted(panda_id for members in starts.values() for panda_id in members)
    jobsets.reopen(connection, retried)
    if retried:
        run(connection, f"NOTIFY {CHANNEL}")
    return RetryOutcome(retried, refused)


def _start_after(failed_stage: str | None) -> Stage:
    stage = Stage(failed_stage) if failed_stage else Stage.BROKER
    return stage if stage in RETRY_STATUS else Stage.BROKER
