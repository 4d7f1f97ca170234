"""Which queue a job goes to, and why no other.

A pass looks once at all queues, puts equal jobs together, asks the criteria of their policy about each pair of a
group and a queue, and deals the group out over the queues that are left (`deciding`). Every refusal is kept with its
reason, so that `panda why` has an answer.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

from sqlalchemy.engine import Connection

from panda.brokerage import policies, room
from panda.brokerage.deciding import Decision, Fault, decide
from panda.brokerage.snapshot import groups_of, placed_on_the_map, queues_now
from panda.brokerage.subjects import JobGroup, Queue
from panda.db.session import rows, run
from panda.errors import PandaError
from panda.jobs import due, incidents, switches, transitions
from panda.jobs.incidents import Incident
from panda.jobs.switches import Picture, What
from panda.settings import Settings
from panda.states import QueueStatus

#: Jobs by how long they wait, in seconds, and by the room group that they are filed under.
Waits = dict[tuple[float, int | None], list[int]]
#: The longest wait between two looks at a job that fits no queue, in seconds.
MAX_QUEUE_WAIT_S = 600.0

#: Rows are numbered in the order of the arrays, so sorted ids stand in that order too.
RECORD = """
INSERT INTO brokerage_decisions (jobset_id, at, n_jobs, policy, funnel, weights, chosen, terms)
SELECT d.jobset_id, panda_now(), d.n_jobs, d.policy, d.funnel::jsonb, d.weights::jsonb, d.chosen::jsonb, d.terms::jsonb
FROM unnest(%(jobset_ids)s::bigint[], %(n_jobs)s::int[], %(policies)s::text[], %(funnels)s::text[], %(weights)s::text[],
        %(chosen)s::text[], %(terms)s::text[])
    WITH ORDINALITY AS d(jobset_id, n_jobs, policy, funnel, weights, chosen, terms, nr)
ORDER BY d.nr
RETURNING decision_id
"""
REMEMBER = """
UPDATE jobs SET decision_id = (%(decisions)s::bigint[])[array_position(%(panda_ids)s::bigint[], panda_id)]
WHERE panda_id = ANY(%(panda_ids)s) AND status = 'defined'
"""


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
    often, at least every `MAX_QUEUE_WAIT_S`; at once when a queue changes; and in its turn when one that was full has
    room (`waking`).

    Returns: the PandaIDs that were assigned, ascending.
    """
    queues = opened(queues_now(connection), switches.picture(connection))
    groups = groups_of(connection, panda_ids)
    if not groups:
        return []
    queues = placed_on_the_map(connection, queues, (group.kind for group in groups))
    decisions = _decisions(groups, queues, settings)
    decision_ids = _record(connection, groups, decisions)

    queue_of: dict[int, str] = {}
    decision_of: dict[int, int] = {}
    room_groups = room.groups_for(connection, [(decision.policy, decision.full) for decision in decisions])
    waits: Waits = {}
    for group, decision, decision_id, room_group in zip(groups, decisions, decision_ids, room_groups, strict=True):
        decision_of.update(dict.fromkeys(group.panda_ids, decision_id))
        rest = iter(group.panda_ids)
        for name, n in decision.chosen.items():
            queue_of.update(dict.fromkeys(islice(rest, n), name))
        n_placed = sum(decision.chosen.values())
        for panda_id, waited_s in zip(rest, group.waited_s[n_placed:], strict=True):
            for_s = next_look_s(waited_s, settings.engine.queue_wait_s)
            waits.setdefault((for_s, room_group), []).append(panda_id)
    _park(connection, waits, decision_of)
    placed = transitions.assign_many(connection, queue_of, decision_of, by=by, chain_id=chain_id)
    _report(connection, [fault for decision in decisions for fault in decision.faults])
    return placed


def opened(queues: Sequence[Queue], pauses: Picture) -> list[Queue]:
    """The queues, those where an operator paused brokerage as if they were closed for new jobs."""
    if not pauses.pauses:
        return list(queues)
    found = []
    for queue in queues:
        why = pauses.why(What.BROKERAGE, site=queue.site, queue=queue.name)
        found.append(replace(queue, status=QueueStatus.BROKEROFF, status_reason=why, is_paused=True) if why else queue)
    return found


def next_look_s(waited_s: float, first_s: float, longest_s: float = MAX_QUEUE_WAIT_S) -> float:
    """Seconds until brokerage looks again at a job that has waited for `waited_s` already: about as long
    again, in steps of `first_s`, twice that, ... so that many jobs share few moments."""
    step = max(first_s, 1.0)
    while step < longest_s and 2 * step <= waited_s:
        step *= 2
    return min(step, max(longest_s, first_s))


def _decisions(groups: Sequence[JobGroup], queues: Sequence[Queue], settings: Settings) -> list[Decision]:
    """Group by group, each one seeing what those before it got. Policies that cannot be read let nobody go."""
    try:
        known = policies.current(settings)
    except PandaError as problem:
        reason = f"the policies of brokerage cannot be read: {problem}"
        funnel = [{"criterion": "policies", "left": 0, "refused": {queue.name: reason for queue in queues}}]
        return [Decision("", funnel, faults=[Fault("policies", "", str(problem)[:500])]) for _ in groups]
    return [decide(group, queues, known.of(group.kind.wishes)) for group in groups]


def _record(connection: Connection, groups: Sequence[JobGroup], decisions: Sequence[Decision]) -> list[int]:
    """Keep the decisions; their ids in the same order. A group of several job sets belongs to none."""
    made = rows(
        connection,
        RECORD,
        {
            "jobset_ids": [min(g.jobset_ids) if len(g.jobset_ids) == 1 else None for g in groups],
            "n_jobs": [len(g.panda_ids) for g in groups],
            "policies": [d.policy for d in decisions],
            "funnels": [json.dumps(d.funnel) for d in decisions],
            "weights": [json.dumps(d.weights) for d in decisions],
            "chosen": [json.dumps(d.chosen) for d in decisions],
            "terms": [json.dumps(d.terms) for d in decisions],
        },
    )
    return sorted(row.decision_id for row in made)


def _park(connection: Connection, waits: Waits, decision_of: dict[int, int]) -> None:
    waiting = sorted(panda_id for panda_ids in waits.values() for panda_id in panda_ids)
    if not waiting:
        return
    run(connection, REMEMBER, {"panda_ids": waiting, "decisions": [decision_of[i] for i in waiting]})
    for (for_s, room_group), panda_ids in waits.items():
        due.park_for_queue(connection, panda_ids, for_s=for_s, room_group=room_group)


def _report(connection: Connection, faults: Sequence[Fault]) -> None:
    """Operators hear of criteria that raised. Last, since whoever reports the same waits for our end."""
    if faults:
        incidents.report(
            connection,
            [
                Incident("brokerage", "error", f"criterion:{fault.criterion}", _words(fault), context=vars(fault))
                for fault in faults
            ],
        )


def _words(fault: Fault) -> str:
    if not fault.queue:
        return f"jobs wait: the policies of brokerage cannot be read: {fault.error}"
    return f"criterion {fault.criterion} raised when it was asked about {fault.queue}: {fault.error}"
