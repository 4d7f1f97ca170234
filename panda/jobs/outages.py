"""Outages of the API or the database: no pilot could report meanwhile, so its silence says nothing.

Every API process leaves a mark in the database every few seconds. A gap in the marks is an outage, and the first mark
after it the comeback: from there on every lease has one more period. While there are no marks nobody is declared
lost; no pilot could take the job over anyhow.
"""

from collections.abc import Sequence

from sqlalchemy.engine import Connection

from panda.db.session import asynchronous, rows, run

#: Between two marks of a process.
MARK_S = 5.0
#: Without a mark for so long the API, or the database, was away.
GAP_S = 15.0

MARK = """
WITH was AS (SELECT value::timestamptz AS at FROM engine_state WHERE key = 'api.alive'),
back AS (
    INSERT INTO engine_state (key, value)
    SELECT 'api.back', panda_now()::text FROM was WHERE at < panda_now() - make_interval(secs => %(gap_s)s)
    ON CONFLICT (key) DO UPDATE SET value = excluded.value)
INSERT INTO engine_state (key, value) VALUES ('api.alive', panda_now()::text)
ON CONFLICT (key) DO UPDATE SET value = excluded.value
"""
#: During an outage the wait looks again after another gap's length; after it, one lease later than the comeback.
SPARE = """
WITH marks AS (
    SELECT max(value::timestamptz) FILTER (WHERE key = 'api.alive') AS alive,
        max(value::timestamptz) FILTER (WHERE key = 'api.back') AS back
    FROM engine_state WHERE key IN ('api.alive', 'api.back')),
grace AS (
    SELECT greatest(back + make_interval(secs => %(lease_s)s),
        CASE WHEN alive < panda_now() - make_interval(secs => %(gap_s)s)
            THEN panda_now() + make_interval(secs => %(gap_s)s) END) AS until
    FROM marks)
UPDATE job_due SET due_at = (SELECT until FROM grace)
WHERE panda_id = ANY(%(panda_ids)s) AND (SELECT until FROM grace) > (SELECT panda_now())
RETURNING panda_id
"""


def mark(connection: Connection) -> None:
    """An API process serves at this moment, and so does the database."""
    asynchronous(connection)
    run(connection, MARK, {"gap_s": GAP_S})


def spare(connection: Connection, panda_ids: Sequence[int], lease_s: int) -> set[int]:
    """Of these jobs, whose leases ran out and whose rows of `job_due` are locked, those whose pilots could not
    report because of an outage. Their waits go on until the grace is over."""
    if not panda_ids:
        return set()
    values = {"panda_ids": list(panda_ids), "lease_s": float(lease_s), "gap_s": GAP_S}
    return {row.panda_id for row in rows(connection, SPARE, values)}
