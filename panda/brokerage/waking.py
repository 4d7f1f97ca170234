"""Queues that were full have room again: as many of the jobs that wait for it look again. A clock calls it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import Connection, Row

from panda.brokerage import policies
from panda.brokerage.broker import opened
from panda.brokerage.deciding import fill
from panda.brokerage.policies import Policy
from panda.brokerage.snapshot import queues_seen
from panda.brokerage.subjects import Queue
from panda.db.session import rows, run
from panda.errors import PandaError
from panda.jobs import switches
from panda.settings import Settings
from panda.states import QueueStatus

#: Jobs of one group that one look wakes.
MOST = 1_000

#: Jobs that were woken are in the hands of the relay until brokerage looked at them: their room is taken already.
GROUPS = """
SELECT g.room_group, g.policy, g.queues, w.n, w.first, ARRAY(
    SELECT panda_id FROM job_due WHERE panda_id = ANY(g.woken) AND stage = 'broker' AND waits_for IS NULL) AS woken
FROM room_groups g, LATERAL (
    SELECT count(*)::int AS n, min(room_rank) AS first FROM (
        SELECT room_rank FROM job_due WHERE waits_for = 'queue' AND room_group = g.room_group
        ORDER BY room_rank LIMIT %(most)s) AS few) w
WHERE w.n > 0 OR cardinality(g.woken) > 0
ORDER BY w.first, g.room_group
"""
#: Rows that somebody else holds are skipped: they leave their wait right now.
WAKE = """
WITH next AS (
    SELECT w.room_group, p.panda_id
    FROM unnest(%(groups)s::int[], %(numbers)s::int[]) AS w(room_group, n), LATERAL (
        SELECT panda_id FROM job_due WHERE waits_for = 'queue' AND room_group = w.room_group
        ORDER BY room_rank LIMIT w.n FOR UPDATE SKIP LOCKED) p),
woken AS (
    UPDATE job_due SET waits_for = NULL, due_at = panda_now(), deliveries = 0
    WHERE panda_id = ANY(ARRAY(SELECT panda_id FROM next)))
SELECT room_group, panda_id FROM next
"""
NOTE = """
UPDATE room_groups SET woken = ARRAY(SELECT jsonb_array_elements_text(%(woken)s::jsonb -> room_group::text)::bigint)
WHERE room_group = ANY(%(groups)s)
"""


@dataclass(frozen=True)
class _Waiting:
    """A group that has jobs."""

    room_group: int
    policy: Policy
    queues: tuple[str, ...]
    n: int
    woken: tuple[int, ...]


def wake(connection: Connection, settings: Settings) -> int:
    """As many of the jobs that wait for room as there is room for look again, by rank: at most `MOST` of a group.

    Jobs that were woken and not looked at yet count as if they had got the room. Returns: how many are runnable now.
    """
    found = rows(connection, GROUPS, {"most": MOST})
    if not found:
        return 0
    try:
        known = {policy.name: policy for policy in policies.current(settings).all}
    except PandaError:  # brokerage itself tells operators
        return 0
    groups = [_waiting(row, known[row.policy]) for row in found if row.policy in known]
    pauses = switches.picture(connection)
    queues = {queue.name: queue for queue in opened(queues_seen(connection), pauses) if _is_open(queue)}
    for group in groups:
        _take(group, queues, len(group.woken))
    numbers = {group.room_group: _take(group, queues, group.n) for group in groups}
    return _wake(connection, {number: n for number, n in numbers.items() if n}, groups)


def _waiting(row: Row[Any], policy: Policy) -> _Waiting:
    return _Waiting(row.room_group, policy, tuple(row.queues), row.n, tuple(row.woken))


def _is_open(queue: Queue) -> bool:
    is_down = queue.downtime is not None and queue.downtime.starts_in_s <= 0
    return queue.status in (QueueStatus.ONLINE, QueueStatus.TEST) and not is_down


def _take(group: _Waiting, queues: Mapping[str, Queue], n: int) -> int:
    """Give up to `n` jobs of a group the room that its queues have. Returns how many get some."""
    return fill([queues[name] for name in group.queues if name in queues], group.policy.rationing, n)


def _wake(connection: Connection, numbers: Mapping[int, int], groups: Sequence[_Waiting]) -> int:
    woken = {group.room_group: list(group.woken) for group in groups}
    found = rows(connection, WAKE, {"groups": list(numbers), "numbers": list(numbers.values())}) if numbers else []
    for row in found:
        woken[row.room_group].append(row.panda_id)
    run(connection, NOTE, {"woken": json.dumps(woken), "groups": sorted(woken)})
    return len(found)
