"""Jobs do not wait at a queue that is offline: those that no pilot has taken go to brokerage again."""

from sqlalchemy.engine import Connection

from panda.db.session import Begin, rows, run
from panda.sites import moving_off

#: Who says so in the history of a job.
BY = "brokerage"

#: A queue that is opened again soon keeps its jobs.
OFFLINE = """
SELECT name FROM queues WHERE status = 'offline'
    AND status_at <= (SELECT panda_now()) - make_interval(secs => %(after_s)s) ORDER BY name
"""
#: The queues that were looked through for jobs whose files are on their way: once, since brokerage sends nothing there.
LEFT = "SELECT value FROM engine_state WHERE key = 'left_offline'"
REMEMBER = """
INSERT INTO engine_state (key, value) VALUES ('left_offline', %(value)s)
ON CONFLICT (key) DO UPDATE SET value = excluded.value
"""


def leave_offline(begin: Begin, after_s: float) -> int:
    """Bring jobs away from queues that have been offline for `after_s` seconds. Returns how many go elsewhere.

    A clock calls it. What is ready there is found at every call; what waits for files once after a queue went offline.
    """
    with begin() as connection:
        offline = [row.name for row in rows(connection, OFFLINE, {"after_s": float(after_s)})]
        left = _left(connection)
    n = 0
    for queue in offline:
        reason = f"{queue} is offline"
        if queue not in left:
            n += moving_off.assigned_jobs(begin, [queue], by=BY, reason=reason)
        while found := moving_off.ready_jobs(begin, [queue], by=BY, reason=reason):
            n += found
    if set(offline) != left:
        with begin() as connection:
            run(connection, REMEMBER, {"value": " ".join(offline)})
    return n


def _left(connection: Connection) -> set[str]:
    found = rows(connection, LEFT)
    return set(found[0].value.split()) if found else set()
