"""A kill: requested, delivered, and confirmed, each with its time; or unconfirmed.

A kill is confirmed when no payload can be running: no pilot had the job, or its pilot said that it ended it. A job
whose pilot fell silent is cancelled unconfirmed.

A job that no pilot holds ends at once. One that runs is marked; its pilot hears of it with the next
heartbeat or report, ends the payload and confirms. The mark belongs to the attempt: a retry clears it, so
a kill meant for attempt 1 never hits attempt 2.
"""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy.engine import Connection

from panda.db.session import rows, run
from panda.errors import Conflict, NotFound
from panda.jobs import due, ending
from panda.jobs.submission import CHANNEL
from panda.states import FINAL, LEASED, JobStatus

JOBS = "SELECT panda_id, status, kill_requested_at FROM jobs WHERE panda_id = ANY(%(panda_ids)s)"
#: Outputs in the catalogue belong to a job that finished, or that can be brought there (retry from stage_out).
PUBLISHED = """
SELECT DISTINCT panda_id FROM job_files
WHERE panda_id = ANY(%(panda_ids)s) AND kind = 'output' AND status = 'registered'
"""
MARK = """
UPDATE jobs SET kill_requested_at = panda_now(), kill_by = %(by)s, kill_reason = %(reason)s
WHERE panda_id = ANY(%(panda_ids)s) AND kill_requested_at IS NULL
"""
#: Whose payload is surely not running: no pilot has it, or its pilot said that it ended it.
CONFIRM = """
UPDATE jobs SET kill_confirmed_at = panda_now() WHERE panda_id = ANY(%(panda_ids)s) AND kill_requested_at IS NOT NULL
"""
MARK_JOBSET = """
UPDATE jobsets SET cancel_requested_at = panda_now(), cancel_by = %(by)s, cancel_reason = %(reason)s
WHERE jobset_id = %(jobset_id)s AND cancel_requested_at IS NULL AND ended_at IS NULL RETURNING n_open
"""
JOBSET = "SELECT n_open, ended_at, cancel_requested_at FROM jobsets WHERE jobset_id = %(jobset_id)s"
_ALIVE = "kill_requested_at IS NULL AND status NOT IN ('finished', 'failed', 'cancelled', 'closed')"
#: A set whose jobs were all asked, and that only waits for its pilots, keeps no other set waiting.
CANCELLING = f"""
SELECT s.jobset_id, s.cancel_by, s.cancel_reason FROM jobsets s
WHERE s.cancel_requested_at IS NOT NULL AND s.ended_at IS NULL
    AND EXISTS (SELECT FROM jobs j WHERE j.jobset_id = s.jobset_id AND {_ALIVE} OFFSET 0)
ORDER BY s.jobset_id LIMIT 1
"""
ALIVE_OF = f"""
SELECT panda_id FROM jobs WHERE jobset_id = %(jobset_id)s AND {_ALIVE} ORDER BY -panda_id LIMIT %(limit)s
"""


class KillOutcome(NamedTuple):
    """Whom a kill reached, ascending; and why not the others."""

    asked: list[int]
    refused: dict[int, str]


def request(connection: Connection, panda_ids: Sequence[int], *, by: str, reason: str) -> KillOutcome:
    """Ask for the end of these jobs; asking twice does no harm."""
    locked = due.lock(connection, panda_ids)
    found = {row.panda_id: row.status for row in rows(connection, JOBS, {"panda_ids": sorted(locked)})}
    refused = {i: "it is archived or unknown" for i in set(panda_ids) - set(found)}
    refused |= {i: f"it is {status} already" for i, status in found.items() if status in FINAL}
    running = sorted(i for i, status in found.items() if status in LEASED)
    ended = [i for i, status in found.items() if status in (JobStatus.HOLDING, JobStatus.TRANSFERRING)]
    published = [r.panda_id for r in rows(connection, PUBLISHED, {"panda_ids": ended})] if ended else []
    refused |= dict.fromkeys(published, "its outputs are published; it is about to finish")
    waiting = sorted(set(found) - set(refused) - set(running))
    if waiting:
        run(connection, MARK, {"panda_ids": waiting, "by": by, "reason": reason})
        confirm(connection, waiting)
    ending.cancel_many(connection, waiting, by=by, reason=reason or "cancelled")
    if running or published:  # a mark on the published ones: the end of their set passes them over
        run(connection, MARK, {"panda_ids": sorted(running + published), "by": by, "reason": reason})
    if waiting:
        run(connection, f"NOTIFY {CHANNEL}")
    return KillOutcome(sorted(waiting + running), refused)


def confirm(connection: Connection, panda_ids: Sequence[int]) -> None:
    """The payloads of these do not run any more, as was asked for."""
    run(connection, CONFIRM, {"panda_ids": list(panda_ids)})


def request_jobset(connection: Connection, jobset_id: int, *, by: str, reason: str) -> int:
    """Ask for the end of a whole set; it is carried out in chunks. Returns its jobs that are not final.

    Raises:
        NotFound: there is no such set.
        Conflict: `jobset_ended`.
    """
    marked = rows(connection, MARK_JOBSET, {"jobset_id": jobset_id, "by": by, "reason": reason})
    if marked:
        run(connection, f"NOTIFY {CHANNEL}")
        return int(marked[0].n_open)
    found = rows(connection, JOBSET, {"jobset_id": jobset_id})
    if not found:
        raise NotFound("job set", jobset_id)
    if found[0].ended_at is not None:
        raise Conflict(f"job set {jobset_id} has ended", code="jobset_ended")
    return int(found[0].n_open)


def cancel_chunk(connection: Connection, limit: int = 1000) -> int:
    """Carry out the next piece of the sets whose end was asked for. Returns the jobs reached."""
    for jobset in rows(connection, CANCELLING):
        alive = [r.panda_id for r in rows(connection, ALIVE_OF, {"jobset_id": jobset.jobset_id, "limit": limit})]
        request(connection, alive, by=jobset.cancel_by, reason=jobset.cancel_reason or "its job set was cancelled")
        return len(alive)
    return 0
