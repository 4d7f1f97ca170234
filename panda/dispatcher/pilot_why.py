"""Why did this pilot get nothing? One sentence for whoever runs it, and the rows that it rests on."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy.engine import Connection, Row

from panda.db.session import rows
from panda.dispatcher.matching import Pair, misfit
from panda.dispatcher.words import AcquireRequest
from panda.errors import NotFound
from panda.names import amount_of, counted

#: A pilot that has not asked for so long is not expected any more, in seconds.
SILENT_S = 600
#: Ready jobs of one kind that are counted, and kinds that are shown.
MOST_COUNTED, MOST_KINDS = 1_000, 50
#: The newest decisions of brokerage that are asked about a queue.
MOST_DECISIONS = 200
#: What a pilot does not tell when it asks, so that the server cannot know it afterwards.
UNKNOWN = 2**31 - 1

PILOT = """
SELECT p.pilot_id, p.queue, p.node, p.cores, p.memory_mb, p.last_seen_at, p.last_panda_ids, p.n_jobs,
    p.nothing_because, extract(epoch FROM panda_now() - p.last_seen_at)::int AS silent_s,
    q.status AS queue_status, q.status_reason, n.ended_at, n.why, n.exit_code
FROM pilots p LEFT JOIN queues q ON q.name = p.queue LEFT JOIN pilot_notes n ON n.pilot_id = p.pilot_id
WHERE p.pilot_id = %(pilot_id)s
"""
HELD = "SELECT panda_id FROM leases WHERE panda_id = ANY(%(panda_ids)s) AND pilot_id = %(pilot_id)s ORDER BY panda_id"
#: The kinds of jobs that are ready at a queue, found with a skip scan, and how many of each.
READY = f"""
WITH RECURSIVE pairs AS (
    (SELECT share, who, shape_id, 1 AS nr FROM ready WHERE queue = %(queue)s
        ORDER BY queue, share, who, shape_id LIMIT 1)
    UNION ALL
    SELECT n.share, n.who, n.shape_id, p.nr + 1 FROM pairs p, LATERAL (
        SELECT share, who, shape_id FROM ready
        WHERE queue = %(queue)s AND (share, who, shape_id) > (p.share, p.who, p.shape_id)
        ORDER BY queue, share, who, shape_id LIMIT 1) n
    WHERE p.nr < {MOST_KINDS})
SELECT p.share, p.who, c.n, s.shape_id, s.cores, s.memory_mb, s.disk_mb, s.walltime_s, s.gpus, s.tags
FROM pairs p JOIN shapes s USING (shape_id), LATERAL (
    SELECT count(*)::int AS n FROM (
        SELECT 1 FROM ready WHERE queue = %(queue)s AND share = p.share AND who = p.who AND shape_id = p.shape_id
        LIMIT {MOST_COUNTED}) counted) c
ORDER BY p.share, p.who, s.shape_id
"""
ASKS = """
SELECT word, sum(n)::bigint AS n FROM dispatch_counts
WHERE queue = %(queue)s AND shape_id = 0 AND hour > (SELECT panda_now()) - interval '2 hours'
GROUP BY word ORDER BY word
"""
REFUSALS = f"""
SELECT coalesce(step->'refused'->>%(queue)s, '') || ' (' || (step->>'criterion') || ')' AS reason,
    sum(d.n_jobs)::bigint AS n
FROM (SELECT n_jobs, funnel FROM brokerage_decisions WHERE at > (SELECT panda_now()) - interval '1 hour'
        ORDER BY at DESC LIMIT {MOST_DECISIONS}) d, jsonb_array_elements(d.funnel) AS step
WHERE jsonb_exists(step->'refused', %(queue)s) GROUP BY 1 ORDER BY 2 DESC LIMIT 5
"""


class Change(NamedTuple):
    """A single thing that would bring the pilot jobs; as `panda.brokerage.changes` has it for jobs."""

    who: str
    say: str
    command: str = ""


class Kind(NamedTuple):
    """Ready jobs of one size and share."""

    pair: Pair
    n: int
    misfit: str | None
    """Why the pilot cannot take them, as far as is known: it tells cores and memory, what else it has it tells only
    when it asks."""


class PilotAnswer(NamedTuple):
    pilot_id: str
    queue: str
    summary: str
    since: datetime | None
    changes: list[Change]
    ready: list[Kind]
    asks: dict[str, int]
    refusals: dict[str, int]
    facts: dict[str, Any]


def why(connection: Connection, pilot_id: str) -> PilotAnswer:
    """Why a pilot has no job, or which it has. Raises NotFound."""
    found = rows(connection, PILOT, {"pilot_id": pilot_id})
    if not found:
        raise NotFound("pilot", pilot_id)
    pilot = found[0]
    held = rows(connection, HELD, {"panda_ids": pilot.last_panda_ids or [], "pilot_id": pilot_id})
    ready = [_kind(pilot, row) for row in rows(connection, READY, {"queue": pilot.queue})]
    asks = {row.word: row.n for row in rows(connection, ASKS, {"queue": pilot.queue})}
    refusals = {row.reason: row.n for row in rows(connection, REFUSALS, {"queue": pilot.queue})}
    summary, changes = _story(pilot, [row.panda_id for row in held], ready, refusals)
    facts = {
        "node": pilot.node,
        "cores": pilot.cores,
        "memory_mb": pilot.memory_mb,
        "n_jobs": pilot.n_jobs,
        "last_seen_at": pilot.last_seen_at,
        "nothing_because": pilot.nothing_because,
        "holds": [row.panda_id for row in held],
        "queue_status": pilot.queue_status,
        "ended_at": pilot.ended_at,
        "exit_code": pilot.exit_code,
    }
    return PilotAnswer(pilot_id, pilot.queue, summary, pilot.last_seen_at, changes, ready, asks, refusals, facts)


def _kind(pilot: Row[Any], row: Row[Any]) -> Kind:
    pair = Pair(row.share, row.who, 0, row.shape_id, row.cores, row.memory_mb, row.disk_mb, row.walltime_s, row.gpus,
                frozenset(row.tags))  # fmt: skip
    has = AcquireRequest(
        pilot_id=pilot.pilot_id, queue=pilot.queue, request_id="-", cores=pilot.cores, memory_mb=pilot.memory_mb,
        disk_mb=UNKNOWN, walltime_s=UNKNOWN, gpus=UNKNOWN,
    )  # fmt: skip
    found = misfit(pair, has, pair.tags)
    return Kind(pair, row.n, None if found is None else str(found))


def _story(
    pilot: Row[Any], held: Sequence[int], ready: Sequence[Kind], refusals: Mapping[str, int]
) -> tuple[str, list[Change]]:
    if pilot.ended_at is not None and pilot.ended_at >= pilot.last_seen_at:
        why = f": {pilot.why.rstrip('.')}" if pilot.why else ""
        return f"It has left{why}.", []
    if held:
        jobs = f"job {held[0]}" if len(held) == 1 else f"{len(held)} jobs"
        return f"It has work: {jobs} of its last ask.", []
    if pilot.silent_s > SILENT_S:
        return f"It has not asked for {counted(pilot.silent_s // 60, 'minute')}.", [
            Change("operator", "look at its node")
        ]
    if pilot.queue_status == "offline":
        because = f" ({pilot.status_reason})" if pilot.status_reason else ""
        command = f"panda site set {pilot.queue} online --reason …"
        return f"Its queue {pilot.queue} is offline{because}.", [Change("operator", f"open {pilot.queue}", command)]
    if not ready:
        return _nothing_ready(pilot, refusals)
    if all(kind.misfit for kind in ready):
        return _nothing_fits(pilot, ready)
    if pilot.nothing_because:
        return f"When it asked last, {pilot.silent_s} s ago, it got nothing: {pilot.nothing_because}.", []
    return f"It asked {pilot.silent_s} s ago; there are jobs that it could take.", []


def _nothing_ready(pilot: Row[Any], refusals: Mapping[str, int]) -> tuple[str, list[Change]]:
    if not refusals:
        return f"No job is ready at {pilot.queue}, and brokerage has none that it keeps from there.", []
    reason, n = next(iter(refusals.items()))
    others = f", and {sum(refusals.values()) - n} for other reasons" if len(refusals) > 1 else ""
    change = Change("operator", f"change what keeps jobs from {pilot.queue}: {reason}")
    jobs = counted(n, "job")
    return f"No job is ready at {pilot.queue}; brokerage kept {jobs} from there: {reason}{others}.", [change]


def _nothing_fits(pilot: Row[Any], ready: Sequence[Kind]) -> tuple[str, list[Change]]:
    n_jobs = sum(kind.n for kind in ready)
    smallest = min(ready, key=lambda kind: (kind.pair.cores, kind.pair.memory_mb))
    needs = f"{counted(smallest.pair.cores, 'core')} and {amount_of('memory_mb', smallest.pair.memory_mb)}"
    jobs = "The only ready job does" if n_jobs == 1 else f"All {n_jobs} ready jobs do"
    reasons = "; ".join(dict.fromkeys(kind.misfit for kind in ready[:3] if kind.misfit))
    change = Change("operator", f"start pilots with at least {needs} at {pilot.queue}")
    return f"{jobs} not fit it: {reasons}.", [change]
