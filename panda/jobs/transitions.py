"""The moves of jobs. The only writer of `jobs.status`.

A move is one guarded update for a whole set: the table of moves is asked, a row changes only while
it still has the status that the caller saw, and its event and its share of the counters are written
in the same statement. Of two that reach for one job exactly one wins.
"""

from collections.abc import Mapping, Sequence

from sqlalchemy.engine import Connection

from panda.db.session import rows
from panda.errors import ForbiddenMove
from panda.states import MOVES, JobStatus, Stage

#: Counters know a job's queue only once brokerage chose it.
_QUEUE = "CASE WHEN {status} IN ('pending', 'defined') THEN '' ELSE coalesce(computing_site, '') END"

MOVE = f"""
WITH moved AS (
    UPDATE jobs SET status = %(to)s::text, changed_at = panda_now(),
        ended_at = CASE WHEN %(to)s::text IN ('finished', 'cancelled', 'closed') THEN panda_now() ELSE ended_at END
    WHERE panda_id = ANY(%(panda_ids)s) AND status = %(was)s::text
    RETURNING panda_id, attempt_nr, computing_site),
events AS (
    INSERT INTO job_events (panda_id, at, was, now, attempt_nr, stage, by, reason, chain_id)
    SELECT panda_id, panda_now(), %(was)s::text, %(to)s::text, attempt_nr, %(stage)s::text, %(by)s::text,
        %(reason)s::text, %(chain_id)s::text
    FROM moved),
counted AS (
    INSERT INTO job_count_deltas (status, queue, n)
    SELECT %(was)s::text, {_QUEUE.format(status="%(was)s::text")}, -count(*) FROM moved GROUP BY 2
    UNION ALL SELECT %(to)s::text, {_QUEUE.format(status="%(to)s::text")}, count(*) FROM moved GROUP BY 2)
SELECT panda_id FROM moved ORDER BY panda_id
"""

#: One statement for all queues and decisions. `width_bucket` finds a job's place among the ascending PandaIDs by
#: halves; its queue stands in a short list of names, since PostgreSQL walks through an array of texts.
_NR = "width_bucket(panda_id, %(panda_ids)s::bigint[])"
ASSIGN = f"""
WITH moved AS (
    UPDATE jobs SET status = 'assigned', changed_at = panda_now(),
        computing_site = (%(queues)s::text[])[(%(queue_nrs)s::int[])[{_NR}]],
        decision_id = (%(decisions)s::bigint[])[{_NR}]
    WHERE panda_id = ANY(%(panda_ids)s) AND status = 'defined'
    RETURNING panda_id, attempt_nr, computing_site),
events AS (
    INSERT INTO job_events (panda_id, at, was, now, attempt_nr, stage, by, reason, chain_id)
    SELECT panda_id, panda_now(), 'defined', 'assigned', attempt_nr, 'broker', %(by)s::text, computing_site,
        %(chain_id)s::text
    FROM moved),
counted AS (
    INSERT INTO job_count_deltas (status, queue, n)
    SELECT 'defined', '', -count(*) FROM moved HAVING count(*) > 0
    UNION ALL SELECT 'assigned', computing_site, count(*) FROM moved GROUP BY 2)
SELECT panda_id FROM moved ORDER BY panda_id
"""


def move_many(
    connection: Connection,
    panda_ids: Sequence[int],
    was: JobStatus,
    to: JobStatus,
    *,
    by: str,
    stage: Stage | None = None,
    reason: str | None = None,
    chain_id: str | None = None,
) -> list[int]:
    """Move jobs from `was` to `to`, and write down who did it and why.

    The caller holds their rows of `job_due`.

    Returns: the PandaIDs that moved, in ascending order.
    Raises:
        ForbiddenMove: `states.MOVES` has no such arrow.
    """
    if to not in MOVES[was]:
        raise ForbiddenMove(was, to)
    if not panda_ids:
        return []
    moved = rows(
        connection,
        MOVE,
        {"panda_ids": list(panda_ids), "was": was, "to": to, "by": by, "stage": stage, "reason": reason,
         "chain_id": chain_id},
    )  # fmt: skip
    return [row.panda_id for row in moved]


def assign_many(
    connection: Connection,
    queue_of: Mapping[int, str],
    decision_of: Mapping[int, int],
    *,
    by: str,
    chain_id: str | None = None,
) -> list[int]:
    """Move defined jobs to `assigned`, each to its own queue. Keys are PandaIDs.

    Returns: the PandaIDs that moved, in ascending order.
    """
    if not queue_of:
        return []
    panda_ids = sorted(queue_of)
    queues = sorted(set(queue_of.values()))
    nr_of = {queue: nr for nr, queue in enumerate(queues, 1)}
    values = {
        "panda_ids": panda_ids,
        "queues": queues,
        "queue_nrs": [nr_of[queue_of[panda_id]] for panda_id in panda_ids],
        "decisions": [decision_of.get(panda_id) for panda_id in panda_ids],
        "by": by,
        "chain_id": chain_id,
    }
    return [row.panda_id for row in rows(connection, ASSIGN, values)]
