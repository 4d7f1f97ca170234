"""How the asks of pilots at a queue ended in the last day, and what pilots had too little of. See `tally`."""

from typing import Any, NamedTuple

from sqlalchemy.engine import Connection, Row

from panda.db.session import rows
from panda.errors import NotFound

KNOWN = "SELECT 1 FROM queues WHERE name = %(queue)s"
ASKS = """
SELECT word, sum(n)::bigint AS n, max(last_at) AS last_at FROM dispatch_counts
WHERE queue = %(queue)s AND shape_id = 0 AND hour > (SELECT panda_now()) - interval '24 hours'
GROUP BY word ORDER BY n DESC, word
"""
#: For ready jobs of which shape: how often, what these need, the most that any pilot had.
MISFITS = """
SELECT c.word, c.n, c.most, c.last_at, s.cores, s.memory_mb, s.disk_mb, s.walltime_s, s.gpus, s.tags
FROM (SELECT shape_id, word, sum(n)::bigint AS n, max(most)::bigint AS most, max(last_at) AS last_at
        FROM dispatch_counts
        WHERE queue = %(queue)s AND shape_id > 0 AND hour > (SELECT panda_now()) - interval '24 hours'
        GROUP BY shape_id, word ORDER BY n DESC, shape_id, word LIMIT 10) c JOIN shapes s ON s.shape_id = c.shape_id
ORDER BY c.n DESC, s.shape_id, c.word
"""


class Mismatches(NamedTuple):
    """Rows of `ASKS`, the commonest end first, and of `MISFITS`."""

    asks: list[Row[Any]]
    misfits: list[Row[Any]]


def of_queue(connection: Connection, queue: str) -> Mismatches:
    """Of one queue. Raises NotFound."""
    if not rows(connection, KNOWN, {"queue": queue}):
        raise NotFound("queue", queue)
    return Mismatches(rows(connection, ASKS, {"queue": queue}), rows(connection, MISFITS, {"queue": queue}))
