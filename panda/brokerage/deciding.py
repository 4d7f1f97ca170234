"""What is said about one group of equal jobs: who refused it, why, and who gets how many. Pure.

Criteria are plug-ins, and some are other people's: one that raises refuses the queue that it was asked about, with
that reason, and is reported. The others go on.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

from panda.brokerage.criteria.base import Criterion, Rationing, Sharing
from panda.brokerage.policies import Policy
from panda.brokerage.subjects import JobGroup, Kind, Queue
from panda.brokerage.weights import deal, terms_of

#: Queues, the heaviest first, whose terms are kept.
EXPLAINED = 5


@dataclass(frozen=True)
class Fault:
    """A criterion that raised."""

    criterion: str
    queue: str
    error: str


@dataclass(frozen=True)
class Decision:
    """What a pass says about one group of equal jobs."""

    policy: str
    funnel: list[dict[str, Any]]
    """Criterion by criterion: `criterion`, `left` (queues that it left), `refused` (queue -> why)."""
    weights: dict[str, float] = field(default_factory=dict)
    chosen: dict[str, int] = field(default_factory=dict)
    """Jobs by queue, in the order in which they are dealt."""
    terms: dict[str, dict[str, float]] = field(default_factory=dict)
    """What the weights of the heaviest queues are made of; terms that change nothing are left out."""
    faults: list[Fault] = field(default_factory=list)
    full: tuple[str, ...] = ()
    """Queues, by name, that took none or no more of them only because they have no room."""


def decide(group: JobGroup, queues: Sequence[Queue], policy: Policy) -> Decision:
    """Ask the criteria, weigh what is left, deal the group out. The queues' load grows by what they get."""
    faults: list[Fault] = []
    funnel, candidates = sift(group.kind, queues, policy.criteria, faults)
    terms = {queue.name: terms_of(group.kind, queue, policy.exponents) for queue in candidates}
    weights = {name: prod(each.values()) for name, each in terms.items()}
    n_jobs = len(group.panda_ids)
    without_room = _full(funnel, queues, policy.rationing, faults)
    chosen = deal(n_jobs, weights, _rooms(candidates, weights, policy.rationing, faults))
    for queue in candidates:
        queue.load.assigned += chosen.get(queue.name, 0)
    if candidates and sum(chosen.values()) < n_jobs:
        without_room += list(weights)
        full = {q.name: f"took {chosen.get(q.name, 0)} of these jobs, and has room for no more" for q in candidates}
        funnel.append({"criterion": "room", "left": 0, "refused": full})
    return Decision(
        policy.name,
        funnel,
        {name: round(weight, 6) for name, weight in weights.items()},
        chosen,
        {name: _telling(terms[name]) for name in sorted(weights, key=lambda name: -weights[name])[:EXPLAINED]},
        faults,
        tuple(sorted(without_room)),
    )


def _full(
    funnel: Sequence[Mapping[str, Any]], queues: Sequence[Queue], criteria: Sequence[Rationing], faults: list[Fault]
) -> list[str]:
    """The queues that a criterion refused which tells their room, and that have none."""
    names = {criterion.name for criterion in criteria}
    refused = {name for step in funnel if step["criterion"] in names for name in step["refused"]}
    return [queue.name for queue in queues if queue.name in refused and room_of(queue, criteria, faults) == 0]


def sift(
    kind: Kind, queues: Sequence[Queue], criteria: Sequence[Criterion], faults: list[Fault]
) -> tuple[list[dict[str, Any]], list[Queue]]:
    """The funnel, and the queues that are left at its end. What raises is added to `faults`."""
    funnel: list[dict[str, Any]] = []
    left = list(queues)
    for criterion in criteria:
        reasons = {queue.name: _ask(criterion, kind, queue, faults) for queue in left}
        left = [queue for queue in left if reasons[queue.name] is None]
        refused = {name: reason for name, reason in reasons.items() if reason is not None}
        funnel.append({"criterion": criterion.name, "left": len(left), "refused": refused})
    return funnel, left


def _ask(criterion: Criterion, kind: Kind, queue: Queue, faults: list[Fault]) -> str | None:
    try:
        reason = criterion.refuse(kind, queue)
        if reason is None or isinstance(reason, str):
            return reason
        raise TypeError(f"refuse() answered {type(reason).__name__}, neither None nor a text")
    except Exception as problem:  # the edge of other people's code; whoever is not sure may not go there
        faults.append(Fault(criterion.name, queue.name, f"{type(problem).__name__}: {problem}"[:500]))
        return f"its check of {criterion.name} failed ({faults[-1].error}); operators were told"


def _rooms(
    queues: Sequence[Queue], weights: Mapping[str, float], criteria: Sequence[Rationing], faults: list[Fault]
) -> dict[str, int | None]:
    """Room by queue. What the queues of a site may get together is dealt out among them, by weight."""
    rooms = {queue.name: room_of(queue, criteria, faults) for queue in queues}
    by_site: dict[str, list[Queue]] = {}
    for queue in queues:
        by_site.setdefault(queue.site, []).append(queue)
    for together in by_site.values():
        site_room = _site_room(together[0], criteria, faults) if len(together) > 1 else None
        if site_room is not None:
            names = [queue.name for queue in together]
            dealt = deal(site_room, {name: weights[name] for name in names}, rooms)
            rooms |= {name: dealt.get(name, 0) for name in names}
    return rooms


def room_of(queue: Queue, criteria: Sequence[Rationing], faults: list[Fault]) -> int | None:
    """Jobs that the queue may still get; None: any number. A criterion that cannot say lets none go there."""
    return _least({criterion.name: criterion.room for criterion in criteria}, queue, faults)


def fill(queues: Sequence[Queue], criteria: Sequence[Rationing], n: int) -> int:
    """Give up to `n` jobs the room that these queues have, one queue after the other. Returns how many got some; the
    load of the queues grows by them."""
    left, faults = n, list[Fault]()
    for queue in queues:
        room = room_of(queue, criteria, faults)
        given = left if room is None else min(left, room)
        queue.load.assigned += given
        left -= given
    return n - left


def _site_room(queue: Queue, criteria: Sequence[Rationing], faults: list[Fault]) -> int | None:
    """The same of all queues of its site together."""
    sharing = [criterion for criterion in criteria if isinstance(criterion, Sharing)]
    return _least({criterion.name: criterion.site_room for criterion in sharing}, queue, faults)


def _least(asked: Mapping[str, Callable[[Queue], int | None]], queue: Queue, faults: list[Fault]) -> int | None:
    limits = []
    for name, ask in asked.items():
        try:
            room = ask(queue)
            if room is not None:
                limits.append(max(0, int(room)))
        except Exception as problem:  # as above
            faults.append(Fault(name, queue.name, f"{type(problem).__name__}: {problem}"[:500]))
            limits.append(0)
    return min(limits, default=None)


def _telling(terms: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 6) for name, value in terms.items() if value != 1}
