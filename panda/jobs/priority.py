"""The priority of jobs that no pilot has yet, set anew."""

from collections.abc import Sequence

from sqlalchemy.engine import Connection

from panda.db.session import rows, run
from panda.jobs import due, ready
from panda.states import JobStatus

WAITING = (JobStatus.PENDING, JobStatus.DEFINED, JobStatus.ASSIGNED, JobStatus.ACTIVATED)

JOBS = "SELECT panda_id, status FROM jobs WHERE panda_id = ANY(%(panda_ids)s)"
#: Rank is fixed when a row of `ready` is made, so the row is made anew.
WITHDRAW = "DELETE FROM ready WHERE panda_id = ANY(%(panda_ids)s) RETURNING panda_id"
SET = "UPDATE jobs SET priority = %(priority)s WHERE panda_id = ANY(%(panda_ids)s)"


def set_priority(connection: Connection, panda_ids: Sequence[int], priority: int) -> tuple[list[int], dict[int, str]]:
    """Give waiting jobs another priority.

    Returns: those that have it now, ascending; and why not the others.
    """
    locked = due.lock(connection, panda_ids)
    found = {row.panda_id: row.status for row in rows(connection, JOBS, {"panda_ids": sorted(locked)})}
    refused = dict.fromkeys(set(panda_ids) - set(found), "it is archived or unknown")
    refused |= {i: f"it is {status}; only a waiting job has use of it" for i, status in found.items()
                if status not in WAITING}  # fmt: skip
    waiting = sorted(set(found) - set(refused))
    if waiting:
        offered = [row.panda_id for row in rows(connection, WITHDRAW, {"panda_ids": waiting})]
        run(connection, SET, {"panda_ids": waiting, "priority": priority})
        ready.offer(connection, sorted(offered))
    return waiting, refused
