"""How many pilots each queue wants."""

from typing import Any, NamedTuple

from sqlalchemy.engine import Connection, Row

from panda.db.session import rows
from panda.jobs import switches
from panda.jobs.quotas import standing
from panda.jobs.switches import What

#: Ready jobs beyond this many change nothing: no queue starts so many pilots at once.
ENOUGH = 500

#: Caps of queues and sites hold for what pilots have; `room` and `site_room`: jobs that could be started, null: any
#: number. Whose jobs are ready is found by a skip scan: those of owners in `full` are passed over, not counted.
QUEUES = f"""
WITH held AS (
    SELECT queue, sum(n) AS n FROM (SELECT status, queue, n FROM job_counts UNION ALL TABLE job_count_deltas) c
    WHERE status IN ('sent', 'starting', 'running') GROUP BY queue),
site_held AS (SELECT site, sum(n) AS n FROM held JOIN queues ON name = queue GROUP BY site)
SELECT q.name, q.site, q.submitter, q.max_pilots, q.pilot_cores, q.memory_mb, q.disk_mb, q.walltime_s, q.offers AS tags,
    q.pilot_options, q.status, coalesce(n.n_ready, 0) AS n_ready,
    q.max_running, t.max_running AS site_max_running, EXISTS (
        SELECT FROM downtimes d
        WHERE d.ends_at > (SELECT panda_now()) AND d.starts_at <= (SELECT panda_now())
            AND ((d.kind = 'queue' AND d.target = q.name) OR (d.kind = 'site' AND d.target = q.site))) AS is_down,
    CASE WHEN q.max_running > 0 THEN greatest(0, q.max_running - coalesce(h.n, 0))::int END AS room,
    CASE WHEN t.max_running > 0 THEN greatest(0, t.max_running - coalesce(s.n, 0))::int END AS site_room
FROM queues q JOIN sites t ON t.name = q.site LEFT JOIN held h ON h.queue = q.name
LEFT JOIN site_held s ON s.site = q.site LEFT JOIN LATERAL (
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
    """Pilots that may be alive; no more than jobs may run."""
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
    """What the queues want now. Nothing is wanted where a pilot would get nothing: at a queue that is offline, in
    downtime (or its site is), or paused; beyond the caps of queue and site; for jobs of owners whose quota is used
    up."""
    found = rows(connection, QUEUES, {"full": standing.full(connection)})
    pauses = switches.picture(connection)
    site_rooms = {row.site: row.site_room for row in found if row.site_room is not None}
    demands = []
    for row in found:
        is_closed = row.status == "offline" or row.is_down
        if is_closed or pauses.why(What.DISPATCH, site=row.site, queue=row.name):
            n_ready = 0
        else:
            n_ready = _at_most(row.n_ready, row.room, site_rooms.get(row.site))
        if row.site in site_rooms:  # the queues of a site share its room
            site_rooms[row.site] -= n_ready
        demands.append(_demand(row, n_ready))
    return demands


def _demand(row: Row[Any], n_ready: int) -> Demand:
    return Demand(
        row.name,
        row.submitter,
        _at_most(row.max_pilots, row.max_running or None, row.site_max_running or None),
        row.pilot_cores,
        row.memory_mb,
        row.disk_mb,
        row.walltime_s,
        list(row.tags),
        list(row.pilot_options),
        n_ready,
    )


def _at_most(n: int, *limits: int | None) -> int:
    return min([n, *(limit for limit in limits if limit is not None)])
