"""What pilots may claim now: one slim row per activated job.

`rank` is fixed when the row is made: the time of submission, earlier by one minute for each point of
priority, and later the more its owner used of late (`quotas.history`). Waiting therefore raises a job against those
that come later, and nothing is ever rewritten. `who` is the owner where a quota binds them, so that claims can pass
over those who have enough (`quotas.watching`).
"""

from collections.abc import Sequence

import msgspec
from sqlalchemy.engine import Connection

from panda.db.session import run
from panda.jobs.due import PRIORITY_MS
from panda.jobs.quotas import picture

OFFER = f"""
INSERT INTO ready (panda_id, queue, share, who, shape_id, rank)
SELECT panda_id, computing_site, share,
    CASE WHEN %(everybody)s OR owner = ANY(%(watched)s) THEN owner ELSE '' END, shape_id,
    (extract(epoch FROM created_at) * 1000)::bigint - priority::bigint * {PRIORITY_MS}
        + coalesce((%(late_ms)s::jsonb ->> owner)::bigint, 0)
FROM jobs WHERE panda_id = ANY(%(panda_ids)s) ORDER BY panda_id
ON CONFLICT (panda_id) DO NOTHING
"""


def offer(connection: Connection, panda_ids: Sequence[int]) -> None:
    """Pilots may take these from the commit on."""
    if panda_ids:
        now = picture.current(connection)
        late_ms = {owner: used.late_ms for owner, used in now.used.items() if used.late_ms}
        run(
            connection,
            OFFER,
            {"panda_ids": list(panda_ids), "everybody": now.watches_everybody, "watched": now.watched,
             "late_ms": msgspec.json.encode(late_ms).decode()},
        )  # fmt: skip
