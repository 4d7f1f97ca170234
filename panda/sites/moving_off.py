"""Jobs that sit at a queue which is on its way out, and that no pilot has taken, go to brokerage again."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy.engine import Connection

from panda.db.session import Begin, rows, run
from panda.jobs import due
from panda.jobs.transitions import move_many
from panda.states import JobStatus, Stage, Wait

#: Jobs of one transaction.
CHUNK = 500
#: Rows of `job_due` that one statement looks at in search of assigned jobs.
WINDOW = 5_000

READY = f"SELECT panda_id FROM ready WHERE queue = ANY(%(queues)s) LIMIT {CHUNK}"
UNREADY = "DELETE FROM ready WHERE panda_id = ANY(%(panda_ids)s)"
#: Nothing in an index tells where an assigned job is: the table is looked through once, window by window.
ASSIGNED = f"""
WITH looked_at AS MATERIALIZED (
    SELECT panda_id FROM job_due WHERE panda_id > %(after)s ORDER BY panda_id LIMIT {WINDOW})
SELECT (SELECT max(panda_id) FROM looked_at) AS last, ARRAY(
    SELECT l.panda_id FROM looked_at l, LATERAL (
        SELECT status, computing_site FROM jobs WHERE panda_id = l.panda_id OFFSET 0) j
    WHERE j.status = 'assigned' AND j.computing_site = ANY(%(queues)s) ORDER BY l.panda_id) AS panda_ids
"""
NO_MORE_FILES = "DELETE FROM transfer_waiters WHERE panda_id = ANY(%(panda_ids)s)"
BROKER = """
UPDATE job_due SET stage = 'broker', final = false, waits_for = NULL, due_at = panda_now(), deliveries = 0, missing = 0
WHERE panda_id = ANY(%(panda_ids)s)
"""


def ready_jobs(begin: Begin, queues: Sequence[str], *, by: str, reason: str) -> int:
    """Take what pilots may claim there away from them. Returns how many jobs go elsewhere; 0: there is no more."""
    with begin() as connection:
        found = rows(connection, READY, {"queues": list(queues)})
        return of_ready(connection, [row.panda_id for row in found], by=by, reason=reason)


def of_ready(connection: Connection, panda_ids: Sequence[int], *, by: str, reason: str) -> int:
    """The same for those of these jobs that no pilot has taken by now."""
    found = sorted(panda_ids)
    locked = due.lock(connection, found) if found else {}
    mine = [i for i in found if i in locked and locked[i].stage == Stage.DISPATCH
            and locked[i].waits_for in (None, Wait.PILOT)]  # fmt: skip
    if not mine:
        return 0
    run(connection, UNREADY, {"panda_ids": mine})
    return _broker(connection, mine, JobStatus.ACTIVATED, by, reason)


def assigned_jobs(begin: Begin, queues: Sequence[str], *, by: str, reason: str) -> int:
    """The same for those whose files are still on their way. Returns how many jobs go elsewhere."""
    n, after = 0, 0
    while True:
        with begin() as connection:
            [found] = rows(connection, ASSIGNED, {"after": after, "queues": list(queues)})
            if found.last is None:
                return n
            after = found.last
            n += _reassign(connection, found.panda_ids, by, reason)


def _reassign(connection: Connection, panda_ids: Sequence[int], by: str, reason: str) -> int:
    if not panda_ids:
        return 0
    locked: dict[int, Any] = due.lock(connection, panda_ids)
    mine = [i for i in panda_ids if i in locked and locked[i].stage in (Stage.STAGE_IN, Stage.ACTIVATE)]
    if not mine:
        return 0
    run(connection, NO_MORE_FILES, {"panda_ids": mine})
    return _broker(connection, mine, JobStatus.ASSIGNED, by, reason)


def _broker(connection: Connection, panda_ids: Sequence[int], was: JobStatus, by: str, reason: str) -> int:
    moved = move_many(connection, panda_ids, was, JobStatus.DEFINED, by=by, stage=Stage.BROKER, reason=reason)
    run(connection, BROKER, {"panda_ids": moved})
    return len(moved)
