"""What pilots may claim now: one slim row per activated job.

`rank` is fixed when the row is made: the time of submission, earlier by one minute for each point of
priority. Waiting therefore raises a job against those that come later, and nothing is ever rewritten.
"""

from collections.abc import Sequence

from sqlalchemy.engine import Connection

from panda.db.session import run

#: Milliseconds of waiting that one point of priority is worth.
PRIORITY_MS = 60_000

OFFER = f"""
INSERT INTO ready (panda_id, queue, share, shape_id, rank)
SELECT panda_id, computing_site, share, shape_id,
    (extract(epoch FROM created_at) * 1000)::bigint - priority::bigint * {PRIORITY_MS}
FROM jobs WHERE panda_id = ANY(%(panda_ids)s) ORDER BY panda_id
ON CONFLICT (panda_id) DO NOTHING
"""


def offer(connection: Connection, panda_ids: Sequence[int]) -> None:
    """Pilots may take these from the commit on."""
    if panda_ids:
        run(connection, OFFER, {"panda_ids": list(panda_ids)})
