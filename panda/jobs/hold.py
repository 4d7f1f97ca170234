"""A hold: a job stands still until somebody lets it go on.

What no pilot has can be held: `pending`, `defined`, `assigned`, `activated`. A held job is `pending` or `defined` and
waits for an operator: one that had a queue gives it back, because the queue may be another one by the time it goes
on. Released, it goes on where it stood: to brokerage, to `define`, or back to waiting for its parents. A job that is
held can be cancelled and given another priority. What an operator holds, its owner cannot release.
"""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy.engine import Connection

from panda.db.session import rows, run
from panda.errors import Conflict, NotFound
from panda.jobs import due
from panda.jobs.priority import WAITING
from panda.jobs.submission import CHANNEL
from panda.jobs.transitions import move_many
from panda.states import JobStatus, Stage, Wait

#: Statuses of a job that is held.
HELD = (JobStatus.PENDING, JobStatus.DEFINED)
#: So often the sweeper looks at a job that is held; it leaves it as it is.
LOOKED_AT_S = 72 * 3600.0

#: Why a job of status `{0}` cannot be held.
WHY_NOT = "it is {0}; only a job that no pilot has can be held"

JOBS = "SELECT panda_id, status FROM jobs WHERE panda_id = ANY(%(panda_ids)s)"
UNREADY = "DELETE FROM ready WHERE panda_id = ANY(%(panda_ids)s)"
#: Before the job is parked: the deadline of a wait for parents is kept.
NOTE = """
INSERT INTO holds (panda_id, held_by, reason, held_at, parents_until)
SELECT w.panda_id, %(by)s, %(reason)s, panda_now(), d.parents_until
FROM unnest(%(panda_ids)s::bigint[]) AS w(panda_id), LATERAL (
    SELECT CASE WHEN waits_for = 'parent' THEN due_at END AS parents_until FROM job_due
    WHERE panda_id = w.panda_id OFFSET 0) d
ON CONFLICT (panda_id) DO UPDATE SET held_by = excluded.held_by, reason = excluded.reason, held_at = excluded.held_at
"""
AWAIT_PARENTS = """
UPDATE job_due d SET waits_for = 'parent', due_at = greatest(panda_now() + interval '1 day',
    (SELECT h.parents_until FROM holds h WHERE h.panda_id = d.panda_id))
WHERE panda_id = ANY(%(panda_ids)s)
"""
FORGET = "DELETE FROM holds WHERE panda_id = ANY(%(panda_ids)s)"
#: Sets that wait for parents: while we look at a job of theirs, nobody passes it by (`expansion.ONE_RELEASER`).
ONE_RELEASER = """
SELECT pg_advisory_xact_lock(7000004, jobset_id::int) FROM (
    SELECT DISTINCT s.jobset_id
    FROM (SELECT jobset_id FROM jobs WHERE panda_id = ANY(%(panda_ids)s) AND status = 'pending' OFFSET 0) j,
        LATERAL (SELECT jobset_id FROM jobsets WHERE jobset_id = j.jobset_id AND released_at IS NULL OFFSET 0) s
    ORDER BY 1) waiting
"""
HOLDS = """
SELECT j.panda_id, j.status, j.owner, h.held_by, s.released_at IS NOT NULL OR j.seq < s.n_released AS is_released
FROM (SELECT * FROM jobs WHERE panda_id = ANY(%(panda_ids)s) OFFSET 0) j,
    LATERAL (SELECT * FROM jobsets WHERE jobset_id = j.jobset_id OFFSET 0) s
    LEFT JOIN LATERAL (SELECT held_by FROM holds WHERE panda_id = j.panda_id OFFSET 0) h ON true
"""
EXPANSION = "SELECT n_jobs - n_expanded AS n_left, ended_at FROM jobsets WHERE jobset_id = %(jobset_id)s"
#: What was cancelled while it was held leaves its note behind.
TIDY = """
DELETE FROM holds WHERE panda_id = ANY(ARRAY(
    SELECT h.panda_id FROM (
        SELECT panda_id FROM holds WHERE held_at < (SELECT panda_now()) - interval '1 day' OFFSET 0) h
        LEFT JOIN LATERAL (SELECT waits_for FROM job_due WHERE panda_id = h.panda_id OFFSET 0) d ON true
    WHERE d.waits_for IS DISTINCT FROM 'operator'))
"""


class HoldOutcome(NamedTuple):
    """Whom it reached, ascending; and why not the others."""

    done: list[int]
    refused: dict[int, str]


def hold(connection: Connection, panda_ids: Sequence[int], *, by: str, reason: str, may_all: bool) -> HoldOutcome:
    """Let these jobs stand still.

    Args:
        may_all: `by` is an operator; what its owner holds is held by them from now on.
    """
    locked = due.lock(connection, panda_ids)
    found = {row.panda_id: JobStatus(row.status) for row in rows(connection, JOBS, {"panda_ids": sorted(locked)})}
    refused = {panda_id: "it is archived or unknown" for panda_id in set(panda_ids) - set(found)}
    refused |= {i: WHY_NOT.format(status) for i, status in found.items() if status not in WAITING}
    held = sorted(set(found) - set(refused))
    fresh = [panda_id for panda_id in held if locked[panda_id].waits_for != Wait.OPERATOR]
    run(connection, NOTE, {"panda_ids": held if may_all else fresh, "by": by, "reason": reason})
    if fresh:
        run(connection, UNREADY, {"panda_ids": fresh})
        told = f"held: {reason}" if reason else "held"
        for was in (JobStatus.ASSIGNED, JobStatus.ACTIVATED):
            move_many(
                connection, [i for i in fresh if found[i] is was], was, JobStatus.DEFINED, by=by, stage=Stage.BROKER,
                reason=told,
            )  # fmt: skip
        for stage in (Stage.DEFINE, Stage.BROKER):
            members = [i for i in fresh if (found[i] is JobStatus.PENDING) is (stage is Stage.DEFINE)]
            due.park(connection, members, stage=stage, waits_for=Wait.OPERATOR, for_s=LOOKED_AT_S)
    return HoldOutcome(held, refused)


def release(connection: Connection, panda_ids: Sequence[int], *, by: str, may_all: bool) -> HoldOutcome:
    """Let held jobs go on.

    Args:
        may_all: `by` may release what others hold.
    """
    rows(connection, ONE_RELEASER, {"panda_ids": list(panda_ids)})
    locked = due.lock(connection, panda_ids)
    found = {row.panda_id: row for row in rows(connection, HOLDS, {"panda_ids": sorted(locked)})}
    refused = {panda_id: "it is archived or unknown" for panda_id in set(panda_ids) - set(found)}
    for panda_id, job in found.items():
        if job.status not in HELD or locked[panda_id].waits_for != Wait.OPERATOR:
            refused[panda_id] = "it is not held"
        elif not may_all and job.held_by not in (None, by, job.owner):
            refused[panda_id] = f"{job.held_by} holds it, and an operator has to release it"
    released = sorted(set(found) - set(refused))
    waiting = [i for i in released if found[i].status == JobStatus.PENDING and not found[i].is_released]
    run(connection, AWAIT_PARENTS, {"panda_ids": waiting})
    due.wake(connection, sorted(set(released) - set(waiting)))
    if released:
        run(connection, FORGET, {"panda_ids": released})
        run(connection, f"NOTIFY {CHANNEL}")
    return HoldOutcome(released, refused)


def check_whole(connection: Connection, jobset_id: int) -> None:
    """A hold reaches jobs that are there: those of this set must be.

    Raises:
        NotFound: there is no such set.
        Conflict: `jobset_ended`; `not_expanded`.
    """
    found = rows(connection, EXPANSION, {"jobset_id": jobset_id})
    if not found:
        raise NotFound("job set", jobset_id)
    if found[0].ended_at is not None:
        raise Conflict(f"job set {jobset_id} has ended", code="jobset_ended")
    if found[0].n_left:
        message = f"{found[0].n_left} jobs of job set {jobset_id} are still being made; ask again in a moment"
        raise Conflict(message, code="not_expanded")


def tidy(connection: Connection) -> None:
    """Forget who held jobs that are not held any more."""
    run(connection, TIDY)
