"""Jobs do not wait at a queue that is offline or in downtime: those that no pilot has taken go to brokerage again."""

from sqlalchemy.engine import Connection

from panda.db.session import Begin, rows, run
from panda.sites import moving_off

#: Who says so in the history of a job.
BY = "brokerage"

#: A queue that is opened again soon keeps its jobs, and so does one whose downtime has just begun or ends soon.
#: Pilots get nothing while a queue or its site is in downtime (`dispatcher.matching`); its storages' is not looked at.
CLOSED = """
SELECT q.name, CASE WHEN q.status = 'offline' THEN q.name || ' is offline'
        ELSE d.kind || ' ' || d.target || ' is in downtime until '
            || to_char(d.ends_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') || ' UTC' END AS reason
FROM queues q LEFT JOIN LATERAL (
    SELECT kind, target, ends_at FROM downtimes
    WHERE ((kind = 'queue' AND target = q.name) OR (kind = 'site' AND target = q.site))
        AND starts_at <= (SELECT panda_now()) - make_interval(secs => %(after_s)s)
        AND ends_at > (SELECT panda_now()) + make_interval(secs => %(stay_s)s)
    ORDER BY ends_at DESC LIMIT 1) d ON true
WHERE d.kind IS NOT NULL
    OR (q.status = 'offline' AND q.status_at <= (SELECT panda_now()) - make_interval(secs => %(after_s)s))
ORDER BY q.name
"""
#: The queues that were looked through for jobs whose files are on their way: once, since brokerage sends nothing there.
LEFT = "SELECT value FROM engine_state WHERE key = 'left_offline'"
REMEMBER = """
INSERT INTO engine_state (key, value) VALUES ('left_offline', %(value)s)
ON CONFLICT (key) DO UPDATE SET value = excluded.value
"""


def leave_closed(begin: Begin, after_s: float, stay_s: float) -> int:
    """Bring jobs away from queues that have been offline for `after_s` seconds, or in a downtime that goes on for more
    than `stay_s`. Returns how many go elsewhere.

    A clock calls it. What is ready there is found at every call; what waits for files once after a queue closed.
    """
    with begin() as connection:
        found = rows(connection, CLOSED, {"after_s": float(after_s), "stay_s": float(stay_s)})
        closed = {row.name: row.reason for row in found}
        left = _left(connection)
    n = 0
    for queue, reason in closed.items():
        if queue not in left:
            n += moving_off.assigned_jobs(begin, [queue], by=BY, reason=reason)
        while moved := moving_off.ready_jobs(begin, [queue], by=BY, reason=reason):
            n += moved
    if set(closed) != left:
        with begin() as connection:
            run(connection, REMEMBER, {"value": " ".join(closed)})
    return n


def _left(connection: Connection) -> set[str]:
    found = rows(connection, LEFT)
    return set(found[0].value.split()) if found else set()
