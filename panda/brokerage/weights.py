"""Who of several good queues gets how many jobs. Pure.

A weight is the product of the terms in `TERMS`, each to the power that the policy gives it.
"""

from collections.abc import Callable, Mapping
from math import prod

from panda.brokerage.subjects import Kind, Load, Queue

#: Weight of a queue where every input byte has to travel, against one where none has to.
ALL_TRAVELS = 0.1
#: Weight of a queue whose pilots come by themselves and where none asked lately, against a lively one.
QUIET = 0.1
#: Weight of a queue that the job set prefers, against one that it does not name.
PREFERRED = 5.0
#: Weight of the queue that a job comes from when it is brokered anew, against another one.
CAME_FROM = 0.1


def terms_of(kind: Kind, queue: Queue, exponents: Mapping[str, float]) -> dict[str, float]:
    """What each term makes of a candidate queue, to the power that the policy gives it; 1 changes nothing."""
    return {name: term(kind, queue) ** exponents.get(name, 1.0) for name, term in TERMS.items()}


def queue_weight(kind: Kind, queue: Queue, exponents: Mapping[str, float] | None = None) -> float:
    """Rank a candidate queue; larger is better.

    Args:
        exponents: by term; what is not named counts once.
    Returns: a weight above zero, without a unit; only ratios mean anything.
    """
    return prod(terms_of(kind, queue, exponents or {}).values())


def backlog_weight(load: Load) -> float:
    """How fast the queue eats its backlog; larger is better. Jobs get a queue with `assigned`, so the
    formula's `defined` is always zero here.

    Source: PanDA documentation, Brokerage, "Calculate brokerage weight".
    """
    many_assigned = max(1.0, min(2.0, load.assigned / max(load.activated, 1)))
    return (load.running + 1) / ((load.waiting + 10) * many_assigned)


def _backlog(kind: Kind, queue: Queue) -> float:
    return backlog_weight(queue.load)


def _locality(kind: Kind, queue: Queue) -> float:
    """The part of the input bytes that is there."""
    if kind.locality is None:
        return 1.0
    return ALL_TRAVELS + (1 - ALL_TRAVELS) * kind.locality.fraction_at(queue.storage)


def _liveliness(kind: Kind, queue: Queue) -> float:
    return QUIET if queue.submitter == "none" and not queue.load.n_pilots else 1.0


def _preference(kind: Kind, queue: Queue) -> float:
    return PREFERRED if queue.is_named(kind.wishes.prefer) else 1.0


def _return(kind: Kind, queue: Queue) -> float:
    return CAME_FROM if queue.name == kind.came_from else 1.0


TERMS: Mapping[str, Callable[[Kind, Queue], float]] = {
    "backlog": _backlog,
    "locality": _locality,
    "liveliness": _liveliness,
    "preference": _preference,
    "return": _return,
}


def deal(n: int, weights: Mapping[str, float], room: Mapping[str, int | None]) -> dict[str, int]:
    """Deal `n` jobs to queues in proportion to their weights (largest remainder, ties by name).

    Args:
        room: what a queue still takes at most; None: any number. What does not fit goes to the others.
    Returns: jobs by queue, in order of name, zeros left out; fewer than `n` if the room ends.
    """
    dealt = dict.fromkeys(sorted(weights), 0)
    left, candidates = n, [name for name in dealt if room[name] != 0]
    while left and candidates:
        total = sum(weights[name] for name in candidates)
        exact = {name: left * weights[name] / total for name in candidates}
        portion = {name: int(exact[name]) for name in candidates}
        by_remainder = sorted(candidates, key=lambda name: (portion[name] - exact[name], name))
        for name in by_remainder[: left - sum(portion.values())]:
            portion[name] += 1
        for name in candidates:
            limit = room[name]
            taken = portion[name] if limit is None else min(portion[name], limit - dealt[name])
            dealt[name] += taken
            left -= taken
        candidates = [name for name in candidates if room[name] is None or dealt[name] < (room[name] or 0)]
    return {name: count for name, count in dealt.items() if count}
