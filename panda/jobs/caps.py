"""Caps of what may run: of a queue, and of a site for all its queues together. Pilots get nothing beyond them."""

from typing import NamedTuple

from sqlalchemy.engine import Connection

from panda.db.session import rows
from panda.names import counted

#: Both caps of a queue, and what runs under each.
CAPS = """
WITH running AS (
    SELECT queue, sum(n)::bigint AS n
    FROM (SELECT status, queue, n FROM job_counts UNION ALL TABLE job_count_deltas) c
    WHERE status IN ('sent', 'starting', 'running') GROUP BY queue)
SELECT q.name AS queue, q.site, q.max_running, t.max_running AS site_max_running,
    coalesce((SELECT n FROM running WHERE queue = q.name), 0)::bigint AS n_running,
    coalesce((SELECT sum(r.n) FROM running r JOIN queues o ON o.name = r.queue WHERE o.site = q.site), 0)::bigint
        AS site_n_running
FROM queues q JOIN sites t ON t.name = q.site WHERE q.name = %(queue)s
"""


class Cap(NamedTuple):
    """A cap that is reached. `kind`: queue or site."""

    kind: str
    name: str
    max_running: int
    n_running: int

    @property
    def words(self) -> str:
        """For a sentence."""
        of_all = "all queues of site" if self.kind == "site" else "queue"
        may = f"only {counted(self.max_running, 'job')} may run at {of_all} {self.name}"
        return f"{may}{' together' if self.kind == 'site' else ''}, and {self.n_running} do"


def reached(connection: Connection, queue: str) -> Cap | None:
    """The cap that keeps pilots of a queue from getting jobs: its own, else its site's."""
    for row in rows(connection, CAPS, {"queue": queue}):
        if 0 < row.max_running <= row.n_running:
            return Cap("queue", row.queue, row.max_running, row.n_running)
        if 0 < row.site_max_running <= row.site_n_running:
            return Cap("site", row.site, row.site_max_running, row.site_n_running)
    return None
