"""How attempts ended, by minute and node: what rules look at.

Counted by the clock from the feed of events, so that no report of a pilot costs anything for it. Numbers of events
come in another order than their commits: each look goes up to the number that the sequence had at the look before,
whose transactions have all ended since.
"""

from sqlalchemy.engine import Connection

from panda.db.session import Begin, rows, run
from panda.sites.rules import KEPT_S

#: Numbers of one statement.
STEP = 20_000
#: Numbers of one look; what is older than so many is not counted any more.
BEHIND = 1_000_000

#: `[up to here it is counted, the sequence at the last look]`
POSITION = "SELECT value::jsonb AS at FROM engine_state WHERE key = 'sites.ends' FOR UPDATE"
KEEP = """
INSERT INTO engine_state (key, value)
VALUES ('sites.ends', jsonb_build_array(%(after)s::bigint, %(last)s::bigint)::text)
ON CONFLICT (key) DO UPDATE SET value = excluded.value
"""
LAST = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END AS event_id FROM job_event_seq"
#: A slot of a node (`slot1@node`) is its node. `+ 0`: the index of the feed.
COUNT = """
WITH moved AS (
    SELECT panda_id, attempt_nr, at FROM job_events
    WHERE event_id + 0 > %(after)s AND event_id + 0 <= %(upto)s AND now IN ('finished', 'failed')),
ended AS (
    SELECT date_trunc('minute', m.at) AS minute, a.queue,
        coalesce(substring(a.node FROM '[^@]*$'), '') AS node, coalesce(a.error_code, '') AS error_code,
        count(*)::int AS n, coalesce(sum(a.wall_s), 0)::float8 AS wall_s
    FROM moved m, LATERAL (SELECT queue, node, error_code,
            coalesce(wall_s, extract(epoch FROM ended_at - coalesce(started_at, created_at))) AS wall_s FROM attempts
        WHERE panda_id = m.panda_id AND attempt_nr = m.attempt_nr OFFSET 0) a
    WHERE a.queue IS NOT NULL GROUP BY 1, 2, 3, 4)
INSERT INTO node_minutes AS n (minute, queue, node, error_code, n, wall_s)
SELECT minute, queue, node, error_code, n, wall_s FROM ended
ON CONFLICT (minute, queue, node, error_code) DO UPDATE SET n = n.n + excluded.n, wall_s = n.wall_s + excluded.wall_s
"""
TIDY = "DELETE FROM node_minutes WHERE minute < (SELECT panda_now()) - make_interval(secs => %(kept_s)s)"


def count(begin: Begin) -> int:
    """Count what ended since the last look. Returns the numbers of events that were looked at. Called by the clock,
    by one process at a time."""
    n = 0
    while step := _step(begin):
        n += step
        if n >= BEHIND:
            break
    return n


def _step(begin: Begin) -> int:
    """A part of it, in a transaction of its own; the last one moves the mark for the next look."""
    with begin() as connection:
        last = rows(connection, LAST)[0].event_id
        found = rows(connection, POSITION)
        after, upto = found[0].at if found else (last, last)
        after = max(after, upto - BEHIND)
        if after < upto:
            reached = min(upto, after + STEP)
            run(connection, COUNT, {"after": after, "upto": reached})
            run(connection, KEEP, {"after": reached, "last": upto})
            return int(reached - after)
        run(connection, KEEP, {"after": after, "last": last})
        return 0


def tidy(connection: Connection) -> None:
    """Drop what is older than any rule looks."""
    run(connection, TIDY, {"kept_s": float(KEPT_S)})
