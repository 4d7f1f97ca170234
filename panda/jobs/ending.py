"""An attempt ends: with success, with a failure, or by a kill.

The caller holds the jobs' rows of `job_due`. What follows is one order of locks for every end: `ready`
and `leases` first, so that no pilot can reach the job any more, then `jobs`, then the ledger of the sets.
An attempt's end is written once and never changes.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.engine import Connection

from panda.db.session import rows, run
from panda.errors import Conflict
from panda.jobs import due, jobsets
from panda.jobs.transitions import move_many
from panda.settings import Engine
from panda.states import RETRY_STATUS, JobStatus, Stage, Wait


@dataclass(frozen=True)
class Failure:
    """Why an attempt failed."""

    panda_id: int
    stage: Stage
    """The stage that it failed in; `dispatch` covers everything that a pilot does."""
    code: str
    """`component:word_or_number`, e.g. `payload:3`, `pilot:1137`, `stage_in:deadline`."""
    message: str
    """A sentence for the job's owner."""
    again: bool = False
    """The fault lies with the system or a site: try again by ourselves while attempts are left."""


UNREADY = "DELETE FROM ready WHERE panda_id = ANY(%(panda_ids)s)"
UNLEASE = "DELETE FROM leases WHERE panda_id = ANY(%(panda_ids)s)"
STATUS = """
SELECT panda_id, status, attempt_nr, max_attempts, kill_requested_at IS NOT NULL AS is_unwanted FROM jobs
WHERE panda_id = ANY(%(panda_ids)s) ORDER BY panda_id FOR UPDATE
"""
BLAME = """
UPDATE jobs SET failed_stage = (%(stages)s::text[])[array_position(%(panda_ids)s::bigint[], panda_id)],
    error_code = (%(codes)s::text[])[array_position(%(panda_ids)s::bigint[], panda_id)],
    error_message = (%(messages)s::text[])[array_position(%(panda_ids)s::bigint[], panda_id)]
WHERE panda_id = ANY(%(panda_ids)s)
"""
#: For the pages: failures by hour, code, stage and queue; and what the failed attempts used, at once and not when
#: their jobs are archived days later. An attempt that was lost held its cores until now. Folded like every
#: counter, so no row is hot.
COUNT_FAILURES = """
WITH failed AS (
    SELECT owner, share, jobset_id, coalesce(computing_site, '') AS queue, coalesce(error_code, 'none') AS error_code,
        coalesce(failed_stage, '') AS failed_stage, coalesce(node, '') AS node, shape_id, coalesce(cpu_s, 0) AS cpu_s,
        coalesce(wall_s, greatest(extract(epoch FROM panda_now() - started_at), 0), 0) AS wall_s
    FROM jobs WHERE panda_id = ANY(%(panda_ids)s)),
counted AS (
    INSERT INTO error_deltas (hour, error_code, failed_stage, queue, node, n, wall_s)
    SELECT date_trunc('hour', panda_now()), error_code, failed_stage, queue, node, count(*), sum(wall_s)
    FROM failed GROUP BY 1, 2, 3, 4, 5)
INSERT INTO usage_deltas (day, owner, share, queue, jobset_id, n_finished, n_failed, n_cancelled, wall_s, cpu_s, core_s)
SELECT panda_now()::date, owner, share, queue, jobset_id, 0, count(*), 0, sum(wall_s), sum(cpu_s),
    sum(wall_s * s.cores)
FROM failed f, LATERAL (SELECT cores FROM shapes WHERE shape_id = f.shape_id OFFSET 0) s GROUP BY 1, 2, 3, 4, 5
"""
#: Written once, when the attempt is over; while it lasts, its row of `jobs` tells about it.
END_ATTEMPTS = """
INSERT INTO attempts (panda_id, attempt_nr, from_stage, queue, pilot_id, node, created_at, started_at, ended_at,
    outcome, failed_stage, error_code, error_message, exit_code, wall_s, cpu_s, max_rss_mb)
SELECT panda_id, attempt_nr, from_stage, computing_site, pilot_id, node, coalesce(sent_at, changed_at), started_at,
    panda_now(), %(outcome)s::text, failed_stage, error_code, error_message, exit_code, wall_s, cpu_s, max_rss_mb
FROM jobs WHERE panda_id = ANY(%(panda_ids)s)
"""
ENDED = "UPDATE jobs SET ended_at = panda_now() WHERE panda_id = ANY(%(panda_ids)s)"
QUARANTINE = """
INSERT INTO quarantine (panda_id, attempt_nr, lfn, storage, path, size_bytes, adler32, reason, at)
SELECT f.panda_id, f.attempt_nr, f.lfn, f.storage, f.path, f.size_bytes, f.adler32, %(reason)s::text, panda_now()
FROM job_files f WHERE f.panda_id = ANY(%(panda_ids)s) AND f.kind = 'output' AND f.path IS NOT NULL
    AND f.status <> 'registered'
ON CONFLICT DO NOTHING
"""
NEW_ATTEMPT = """
UPDATE jobs SET attempt_nr = attempt_nr + 1, max_attempts = greatest(max_attempts, attempt_nr + 1),
    from_stage = %(stage)s::text, failed_stage = NULL, error_code = NULL, error_message = NULL, exit_code = NULL,
    wall_s = NULL, cpu_s = NULL, max_rss_mb = NULL, pilot_id = NULL, node = NULL,
    sent_at = NULL, started_at = NULL, ended_at = NULL,
    kill_requested_at = NULL, kill_delivered_at = NULL, kill_confirmed_at = NULL, kill_by = NULL, kill_reason = NULL
WHERE panda_id = ANY(%(panda_ids)s)
"""
FORGET_OUTPUTS = """
UPDATE job_files SET status = 'defined', size_bytes = NULL, adler32 = NULL, path = NULL, storage = NULL,
    attempt_nr = NULL
WHERE panda_id = ANY(%(panda_ids)s) AND kind = 'output' AND status <> 'registered'
"""
START_OVER = """
UPDATE job_due SET stage = %(stage)s::text, final = %(stage)s::text IN ('stage_out', 'archive'), waits_for = NULL,
    due_at = panda_now(), deliveries = 0, tries = 0, missing = 0, error = NULL
WHERE panda_id = ANY(%(panda_ids)s)
"""


def fail_many(connection: Connection, failures: Sequence[Failure], *, by: str, engine: Engine) -> list[int]:
    """End the newest attempts of these jobs as failed.

    Those whose fault is not their own and that have attempts left start a new one at once; the others
    rest as `failed` for the retry window. Jobs that are final already are left alone.

    Returns: the PandaIDs that failed or started over, ascending.
    """
    now = _cut_off(connection, [failure.panda_id for failure in failures])
    failures = [failure for failure in failures if failure.panda_id in now]
    if not failures:
        return []
    panda_ids = [failure.panda_id for failure in failures]
    run(
        connection,
        BLAME,
        {"panda_ids": panda_ids, "stages": [f.stage for f in failures], "codes": [f.code for f in failures],
         "messages": [f.message[:4000] for f in failures]},
    )  # fmt: skip
    run(connection, COUNT_FAILURES, {"panda_ids": panda_ids})
    _move_by_status(connection, now, panda_ids, JobStatus.FAILED, by, {f.panda_id: f.code for f in failures})
    run(connection, END_ATTEMPTS, {"panda_ids": panda_ids, "outcome": "failed"})
    run(connection, QUARANTINE, {"panda_ids": panda_ids, "reason": "its attempt failed"})
    again = [f.panda_id for f in failures if f.again and now[f.panda_id].may_start_over]
    _rest(connection, sorted(set(panda_ids) - set(again)), engine)
    start_over(connection, again, Stage.BROKER, by=by, reason="automatic retry")
    return sorted(panda_ids)


def _rest(connection: Connection, panda_ids: Sequence[int], engine: Engine) -> None:
    if not panda_ids:
        return
    run(connection, ENDED, {"panda_ids": list(panda_ids)})
    due.park(connection, panda_ids, stage=Stage.ARCHIVE, waits_for=Wait.OPERATOR, for_s=engine.retry_window_s)
    jobsets.settle(connection, panda_ids, JobStatus.FAILED)


def start_over(connection: Connection, panda_ids: Sequence[int], stage: Stage, *, by: str, reason: str) -> None:
    """Open a new attempt of failed jobs; it starts at `stage`.

    From `stage_out` on it inherits the outputs that lie on the site's storage."""
    if not panda_ids:
        return
    move_many(connection, panda_ids, JobStatus.FAILED, RETRY_STATUS[stage], by=by, stage=stage, reason=reason)
    run(connection, NEW_ATTEMPT, {"panda_ids": list(panda_ids), "stage": stage})
    if stage is not Stage.STAGE_OUT:
        run(connection, FORGET_OUTPUTS, {"panda_ids": list(panda_ids)})
    run(connection, START_OVER, {"panda_ids": list(panda_ids), "stage": stage})


def cancel_many(
    connection: Connection, panda_ids: Sequence[int], *, by: str, reason: str, to: JobStatus = JobStatus.CANCELLED
) -> list[int]:
    """End jobs as `cancelled` (or `closed`), whatever they were doing. Returns those that ended now."""
    now = _cut_off(connection, panda_ids)
    if not now:
        return []
    panda_ids = sorted(now)
    _move_by_status(connection, now, panda_ids, to, by, dict.fromkeys(panda_ids, reason))
    run(connection, END_ATTEMPTS, {"panda_ids": panda_ids, "outcome": to})
    run(connection, QUARANTINE, {"panda_ids": panda_ids, "reason": "its job was cancelled"})
    due.wake(connection, panda_ids, Stage.ARCHIVE)
    jobsets.settle(connection, panda_ids, to)
    return panda_ids


class Live(dict[int, "LiveJob"]):
    """Jobs that are not final, by PandaID."""


@dataclass(frozen=True)
class LiveJob:
    status: str
    attempt_nr: int
    max_attempts: int
    is_unwanted: bool
    """Somebody asked for its end: what starts over by itself would escape the kill."""

    @property
    def may_start_over(self) -> bool:
        """Whether the engine itself may open another attempt."""
        return self.attempt_nr < self.max_attempts and not self.is_unwanted


def _live(connection: Connection, panda_ids: Sequence[int]) -> Live:
    if not panda_ids:
        return Live()
    found = rows(connection, STATUS, {"panda_ids": list(panda_ids)})
    final = {JobStatus.FINISHED, JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.CLOSED}
    return Live(
        {r.panda_id: LiveJob(r.status, r.attempt_nr, r.max_attempts, r.is_unwanted)
         for r in found if r.status not in final}
    )  # fmt: skip


def _cut_off(connection: Connection, panda_ids: Sequence[int]) -> Live:
    """Let no pilot reach these jobs any more, and only then look where they stand, with their rows locked: a
    report that was on its way when we came has moved its job by then, and none can follow."""
    if not panda_ids:
        return Live()
    run(connection, UNREADY, {"panda_ids": list(panda_ids)})
    run(connection, UNLEASE, {"panda_ids": list(panda_ids)})
    return _live(connection, panda_ids)


def _move_by_status(
    connection: Connection,
    now: Live,
    panda_ids: Sequence[int],
    to: JobStatus,
    by: str,
    reasons: dict[int, str],
    *,
    chain_id: str | None = None,
    stage: Stage | None = None,
) -> None:
    groups: dict[tuple[JobStatus, str | None], list[int]] = defaultdict(list)
    for panda_id in panda_ids:
        groups[JobStatus(now[panda_id].status), reasons.get(panda_id)].append(panda_id)
    for (was, reason), members in groups.items():
        moved = move_many(connection, members, was, to, by=by, reason=reason, chain_id=chain_id, stage=stage)
        if len(moved) != len(members):  # half an end is worse than none: the whole transaction is undone
            raise Conflict(f"{len(members) - len(moved)} jobs are not {was} any more", code="moved_meanwhile")
