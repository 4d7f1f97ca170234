"""Which queue a job goes to, and why no other.

A pass looks once at all queues, puts equal jobs together, asks the criteria about each pair of a group
and a queue, and deals the group out over the queues that are left. Every refusal is kept with its
reason, so that `panda why` has an answer.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sqlalchemy.engine import Connection

from panda.brokerage.criteria import CRITERIA
from panda.brokerage.snapshot import JobGroup, Kind, Queue, groups_of, queues_now
from panda.brokerage.weights import deal, queue_weight
from panda.db.session import rows, run
from panda.jobs import due, transitions
from panda.settings import Settings
from panda.states import Stage, Wait

#: The longest wait between two looks at a job that fits no queue, in seconds.
MAX_QUEUE_WAIT_S = 600.0

#: Rows are numbered in the order of the arrays, so sorted ids stand in that order too.
RECORD = """
INSERT INTO brokerage_decisions (jobset_id, at, n_jobs, funnel, weights, chosen)
SELECT d.jobset_id, panda_now(), d.n_jobs, d.funnel::jsonb, d.weights::jsonb, d.chosen::jsonb
FROM unnest(%(jobset_ids)s::bigint[], %(n_jobs)s::int[], %(funnels)s::text[], %(weights)s::text[], %(chosen)s::text[])
    WITH ORDINALITY AS d(jobset_id, n_jobs, funnel, weights, chosen, nr)
ORDER BY d.nr
RETURNING decision_id
"""
REMEMBER = """
UPDATE jobs SET decision_id = (%(decisions)s::bigint[])[array_position(%(panda_ids)s::bigint[], panda_id)]
WHERE panda_id = ANY(%(panda_ids)s) AND status = 'defined'
"""


@dataclass(frozen=True)
class Decision:
    """What a pass says about one group of equal jobs."""

    funnel: list[dict[str, Any]]
    """Criterion by criterion: `criterion`, `left` (queues that it left), `refused` (queue -> why)."""
    weights: dict[str, float]
    chosen: dict[str, int]
    """Jobs by queue, in the order in which they are dealt."""


def place(
    connection: Connection,
    panda_ids: Sequence[int],
    *,
    by: str,
    settings: Settings,
    chain_id: str | None = None,
) -> list[int]:
    """Send jobs to queues: those that fit one are `assigned`, the others wait for a queue.

    The caller holds their rows of `job_due`. Jobs of a group go to a queue in contiguous runs of
    PandaIDs. A job that fits nowhere is looked at again after `[engine] queue_wait_s`, then ever less
    often, at least every `MAX_QUEUE_WAIT_S`, and at once when a queue changes.

    Returns: the PandaIDs that were assigned, ascending.
    """
    queues = queues_now(connection)
    groups = groups_of(connection, panda_ids)
    if not groups:
        return []
    decisions = [_decide(group, queues) for group in groups]
    decision_ids = _record(connection, groups, decisions)

    queue_of: dict[int, str] = {}
    decision_of: dict[int, int] = {}
    waits: dict[float, list[int]] = {}
    for group, decision, decision_id in zip(groups, decisions, decision_ids, strict=True):
        decision_of.update(dict.fromkeys(group.panda_ids, decision_id))
        rest = iter(group.panda_ids)
        for name, n in decision.chosen.items():
            queue_of.update(dict.fromkeys(islice(rest, n), name))
        n_placed = sum(decision.chosen.values())
        for panda_id, waited_s in zip(rest, group.waited_s[n_placed:], strict=True):
            waits.setdefault(next_look_s(waited_s, settings.engine.queue_wait_s), []).append(panda_id)
    _park(connection, waits, decision_of)
    return transitions.assign_many(connection, queue_of, decision_of, by=by, chain_id=chain_id)


def next_look_s(waited_s: float, first_s: float, longest_s: float = MAX_QUEUE_WAIT_S) -> float:
    """Seconds until brokerage looks again at a job that has waited for `waited_s` already: about as long
    again, in steps of `first_s`, twice that, ... so that many jobs share few moments."""
    step = max(first_s, 1.0)
    while step < longest_s and 2 * step <= waited_s:
        step *= 2
    return min(step, max(longest_s, first_s))


def _decide(group: JobGroup, queues: Sequence[Queue]) -> Decision:
    """Ask the criteria, weigh what is left, deal the group out. The queues' load grows by what they get."""
    funnel, candidates = _filter(group.kind, queues)
    weights = {queue.name: queue_weight(queue, group.kind.locality) for queue in candidates}
    n_jobs = len(group.panda_ids)
    chosen = deal(n_jobs, weights, {queue.name: queue.room for queue in candidates})
    for queue in candidates:
        queue.load.assigned += chosen.get(queue.name, 0)
    if candidates and sum(chosen.values()) < n_jobs:
        full = {q.name: f"took {chosen.get(q.name, 0)} of these jobs, its limit is {q.max_ready}" for q in candidates}
        funnel.append({"criterion": "room", "left": 0, "refused": full})
    return Decision(funnel, {name: round(weight, 6) for name, weight in weights.items()}, chosen)


def _filter(kind: Kind, queues: Sequence[Queue]) -> tuple[list[dict[str, Any]], list[Queue]]:
    funnel: list[dict[str, Any]] = []
    left = list(queues)
    for criterion in CRITERIA:
        reasons = {queue.name: criterion.refuse(kind, queue) for queue in left}
        left = [queue for queue in left if reasons[queue.name] is None]
        refused = {name: reason for name, reason in reasons.items() if reason is not None}
        funnel.append({"criterion": criterion.name, "left": len(left), "refused": refused})
    return funnel, left


def _record(connection: Connection, groups: Sequence[JobGroup], decisions: Sequence[Decision]) -> list[int]:
    """Keep the decisions; their ids in the same order. A group of several job sets belongs to none."""
    made = rows(
        connection,
        RECORD,
        {
            "jobset_ids": [min(g.jobset_ids) if len(g.jobset_ids) == 1 else None for g in groups],
            "n_jobs": [len(g.panda_ids) for g in groups],
            "funnels": [json.dumps(d.funnel) for d in decisions],
            "weights": [json.dumps(d.weights) for d in decisions],
            "chosen": [json.dumps(d.chosen) for d in decisions],
        },
    )
    return sorted(row.decision_id for row in made)


def _park(connection: Connection, waits: dict[float, list[int]], decision_of: dict[int, int]) -> None:
    waiting = sorted(panda_id for panda_ids in waits.values() for panda_id in panda_ids)
    if not waiting:
        return
    run(connection, REMEMBER, {"panda_ids": waiting, "decisions": [decision_of[i] for i in waiting]})
    for for_s, panda_ids in waits.items():
        due.park(connection, panda_ids, stage=Stage.BROKER, waits_for=Wait.QUEUE, for_s=for_s)
