"""Jobs do not wait for hours where no pilot comes: those that another queue would take are brokered anew.

A queue is stalled if jobs are ready there, none started and no pilot asked: its submitter is out of order. Jobs that
nobody else would take stay, and so does whatever waits because somebody wants it: at queues that are paused or in
downtime, and of owners whose quota is used up.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.engine import Connection

from panda.brokerage import policies
from panda.brokerage.broker import opened
from panda.brokerage.deciding import Fault, fill, sift
from panda.brokerage.snapshot import groups_whatever, queues_seen
from panda.brokerage.subjects import STALLED_S, Queue
from panda.db.session import Begin, rows, run
from panda.errors import PandaError
from panda.jobs import switches
from panda.jobs.quotas import standing
from panda.jobs.switches import What
from panda.settings import Settings
from panda.sites import moving_off
from panda.states import QueueStatus

#: Who says so in the history of a job.
BY = "brokerage"
#: Ready jobs of one queue that one look is about.
CHUNK = 200

#: In the order of the claim index, from where the last look ended. Of equal ranks a look may skip some: its turn comes
#: again.
NEXT = f"""
SELECT panda_id, share, who, shape_id, rank FROM ready
WHERE queue = %(queue)s
    AND (share, who, shape_id, rank) > (%(share)s::text, %(who)s::text, %(shape_id)s::int, %(rank)s::bigint)
ORDER BY share, who, shape_id, rank LIMIT {CHUNK}
"""
FIRST = ("", "", 0, -(2**63))
LOOKED = "SELECT value FROM engine_state WHERE key = 'stalled_looked_until'"
REMEMBER = """
INSERT INTO engine_state (key, value) VALUES ('stalled_looked_until', %(value)s)
ON CONFLICT (key) DO UPDATE SET value = excluded.value
"""

Place = tuple[str, str, int, int]


def leave_stalled(begin: Begin, settings: Settings) -> int:
    """Look at up to `CHUNK` ready jobs of each stalled queue. Returns how many go elsewhere. A clock calls it."""
    if not settings.brokerage.leave_stalled_s:
        return 0
    with begin() as connection:
        pauses = switches.picture(connection)
        queues = opened(queues_seen(connection), pauses)
        stalled = [queue for queue in queues if _may_leave(queue, settings.brokerage.leave_stalled_s)
                   and not pauses.why(What.DISPATCH, site=queue.site, queue=queue.name)]  # fmt: skip
        looked = _looked(connection)
    others = [queue for queue in queues if not queue.is_stalled]
    until: dict[str, Place] = {}
    n = 0
    for queue in stalled if others else ():
        with begin() as connection:
            n_left, place = _leave(connection, queue, looked.get(queue.name, FIRST), others, settings)
        n += n_left
        until |= {queue.name: place} if place else {}
    if until != looked:
        with begin() as connection:
            run(connection, REMEMBER, {"value": json.dumps(until)})
    return n


def _may_leave(queue: Queue, after_s: int) -> bool:
    is_down = queue.downtime is not None and queue.downtime.starts_in_s <= 0
    return queue.load.stalled_s >= max(after_s, STALLED_S) and queue.status != QueueStatus.OFFLINE and not is_down


def _looked(connection: Connection) -> dict[str, Place]:
    found = rows(connection, LOOKED)
    known: Mapping[str, Any] = json.loads(found[0].value) if found else {}
    return {name: (place[0], place[1], place[2], place[3]) for name, place in known.items()}


def _leave(
    connection: Connection, queue: Queue, after: Place, others: Sequence[Queue], settings: Settings
) -> tuple[int, Place | None]:
    """Bring jobs away. Returns how many, and where to go on; None: from the start."""
    share, who, shape_id, rank = after
    values = {"queue": queue.name, "share": share, "who": who, "shape_id": shape_id, "rank": rank}
    found = rows(connection, NEXT, values)
    full = set(standing.full(connection)) if any(row.who for row in found) else set()
    going = _taken_elsewhere(connection, [row.panda_id for row in found if row.who not in full], others, settings)
    reason = f"no pilot came to {queue.name} for {queue.load.stalled_s / 60:.0f} min"
    n = moving_off.of_ready(connection, going, by=BY, reason=reason)
    last = found[-1] if len(found) == CHUNK else None
    return n, (last.share, last.who, last.shape_id, last.rank) if last else None


def _taken_elsewhere(
    connection: Connection, panda_ids: Sequence[int], others: Sequence[Queue], settings: Settings
) -> list[int]:
    """Those that other queues would take now, and have room for."""
    try:
        known = policies.current(settings)
    except PandaError:  # brokerage itself tells operators
        return []
    going: list[int] = []
    for group in groups_whatever(connection, panda_ids) if panda_ids else ():
        policy, faults = known.of(group.kind.wishes), list[Fault]()
        takers = sift(group.kind, others, policy.criteria, faults)[1]
        going += group.panda_ids[: fill(takers, policy.rationing, len(group.panda_ids))]
    return going
