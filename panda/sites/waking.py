"""The lock between brokerage and who changes a queue, and the jobs that look again after a change."""

from sqlalchemy.engine import Connection

from panda.db.session import rows, run

#: Brokerage holds this lock shared from its look at the queues until it has parked what fits none;
#: who changes a queue holds it alone. So no job parks because of a queue that has just opened.
QUEUES_LOCK = 7_000_010
#: Waiting jobs that one transaction wakes.
WAKE_CHUNK = 5_000

LOCK_QUEUES = "SELECT pg_advisory_xact_lock(%(key)s)"
START_WAKING = """
INSERT INTO engine_state (key, value) VALUES ('wake_waiting_for_queue_after', '0')
ON CONFLICT (key) DO UPDATE SET value = '0'
"""
WOKEN_SO_FAR = """
SELECT value::bigint AS panda_id FROM engine_state WHERE key = 'wake_waiting_for_queue_after' FOR UPDATE SKIP LOCKED
"""
#: Rows that somebody else holds are skipped: brokerage, which waits for us, is about to see the queue
#: as it is now, and everybody else is about to take the job out of its wait.
WAKE_NEXT = """
WITH next AS (
    SELECT panda_id FROM job_due WHERE waits_for = 'queue' AND panda_id > %(after)s
    ORDER BY panda_id LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
UPDATE job_due SET waits_for = NULL, due_at = panda_now(), deliveries = 0
WHERE panda_id = ANY(ARRAY(SELECT panda_id FROM next))
RETURNING panda_id
"""
KEEP_WAKING = "UPDATE engine_state SET value = %(after)s WHERE key = 'wake_waiting_for_queue_after'"
STOP_WAKING = "DELETE FROM engine_state WHERE key = 'wake_waiting_for_queue_after'"


def lock_queues(connection: Connection) -> None:
    """Until this transaction ends, no brokerage pass looks at the queues, and nobody else changes one."""
    run(connection, LOCK_QUEUES, {"key": QUEUES_LOCK})


def look_again(connection: Connection) -> int:
    """A queue changed: jobs that wait for one look again, in chunks.

    Returns: how many are runnable now; `wake_waiting_for_queue` brings the rest.
    """
    run(connection, START_WAKING)
    return wake_waiting_for_queue(connection)


def wake_waiting_for_queue(connection: Connection) -> int:
    """Carry on after a queue changed: the next `WAKE_CHUNK` jobs that wait for one become runnable.

    In order of PandaID, once around, so that a job which parks again is not woken again. A beat
    tick calls it until it returns 0; a second caller at the same time gets 0.
    """
    so_far = rows(connection, WOKEN_SO_FAR)
    if not so_far:
        return 0
    woken = rows(connection, WAKE_NEXT, {"after": so_far[0].panda_id, "limit": WAKE_CHUNK})
    if len(woken) < WAKE_CHUNK:
        run(connection, STOP_WAKING)
    else:
        run(connection, KEEP_WAKING, {"after": str(max(row.panda_id for row in woken))})
    return len(woken)
