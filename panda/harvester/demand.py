"""How many pilots each queue wants."""

from typing import NamedTuple

from sqlalchemy.engine import Connection

from panda.db.session import rows
from panda.jobs.quotas import standing

#: Ready jobs beyond this many change nothing: no queue starts so many pilots at once.
ENOUGH = 500

#: Whose jobs are ready is found by a skip scan: those of owners in `full` are passed over, not counted.
QUEUES = f"""
SELECT q.name, q.submitter, q.max_pilots, q.pilot_cores, q.memory_mb, q.disk_mb, q.walltime_s, q.offers AS tags,
    q.pilot_options, q.status, coalesce(n.n_ready, 0) AS n_ready
FROM queues q LEFT JOIN LATERAL (
    WITH RECURSIVE places AS (
        (SELECT share, who FROM ready WHERE queue = q.name ORDER BY share, who LIMIT 1)
        UNION ALL
        SELECT p.* FROM places w, LATERAL (
            SELECT share, who FROM ready WHERE queue = q.name AND (share, who) > (w.share, w.who)
            ORDER BY share, who LIMIT 1) p)
    SELECT count(*) AS n_ready FROM (
        SELECT 1 FROM places w, LATERAL (
            SELECT 1 FROM ready WHERE queue = q.name AND share = w.share AND who = w.who LIMIT {ENOUGH}) r
        WHERE w.who <> ALL(%(full)s) LIMIT {ENOUGH}) AS few) n ON true
WHERE q.submitter <> 'none' AND q.max_pilots > 0 ORDER BY q.name
"""


class Demand(NamedTuple):
    """A queue that pilots are started for, and how many jobs of it wait for one."""

    queue: str
    submitter: str
    max_pilots: int
    cores: int
    memory_mb: int
    disk_mb: int
    walltime_s: int
    tags: list[str]
    options: list[str]
    n_ready: int

    def more(self, n_alive: int) -> int:
        """Pilots to start now, with `n_alive` there already: one per waiting job, up to the queue's limit."""
        return max(0, min(self.max_pilots - n_alive, self.n_ready))


def demands(connection: Connection) -> list[Demand]:
    """What the queues want now; a queue that is offline wants nothing, and nothing is wanted for jobs of owners
    whose quota is used up."""
    return [
        Demand(
            row.name,
            row.submitter,
            row.max_pilots,
            row.pilot_cores,
            row.memory_mb,
            row.disk_mb,
            row.walltime_s,
            list(row.tags),
            list(row.pilot_options),
            0 if row.status == "offline" else row.n_ready,
        )
        for row in rows(connection, QUEUES, {"full": standing.full(connection)})
    ]
