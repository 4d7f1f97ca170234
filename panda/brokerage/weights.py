"""Who of several good queues gets how many jobs. Pure.

A weight is the product of the terms in `TERMS`, each to the power that the policy gives it.
"""

from collections.abc import Callable, Mapping
from math import prod

from panda.brokerage.subjects import Kind, Load, Locality, Queue

#: Weight of a queue where every input byte has to travel, against one where none has to.
ALL_TRAVELS = 0.1
#: MB that are brought in a second over no distance; twice that time over a distance of 10, three times over 20.
MB_PER_S = 100.0
#: Until the first of the files that have to be brought is on its way.
START_S = 60.0
#: A queue that the inputs reach after so many seconds weighs half of one where they are.
PATIENCE_S = 3_600.0
#: Weight of a queue for which all inputs have to be brought online from tape first, against one fed from disks.
FROM_TAPE = 0.1
#: Weight of a queue whose pilots come by themselves and where none asked lately, against a lively one.
QUIET = 0.1
#: Weight of a queue whose ready jobs wait for pilots in vain, against one that starts what it has.
STALLED = 0.1
#: Least and most weight of a queue by its pace.
SLOW, QUICK = 0.5, 2.0
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
    return ALL_TRAVELS + (1 - ALL_TRAVELS) * kind.locality.fraction_at(queue.reads)


def _transfer(kind: Kind, queue: Queue) -> float:
    """How long the inputs that are not there will be on their way."""
    return 1.0 if kind.locality is None else PATIENCE_S / (PATIENCE_S + bringing_s(kind.locality, queue))


def bringing_s(locality: Locality, queue: Queue) -> float:
    """Seconds until all inputs are there, roughly: by size, and by the distance of the nearest storages that have
    them."""
    ways = locality.ways(queue)
    if not ways:
        return 0.0
    tenth_mb = locality.size_mb / 10
    return START_S + sum(way.tenths * tenth_mb * (1 + way.distance / 10) / MB_PER_S for way in ways)


def _recall(kind: Kind, queue: Queue) -> float:
    """The part of the input bytes that a tape would have to bring online first."""
    if kind.locality is None:
        return 1.0
    tenths = sum(way.tenths for way in kind.locality.ways(queue) if way.is_tape)
    return 1 - (1 - FROM_TAPE) * tenths / 10


def _pace(kind: Kind, queue: Queue) -> float:
    """How often its cores change hands: jobs that started in the last hour for each one that runs."""
    if queue.load.starts is None:
        return 1.0
    return max(SLOW, min(QUICK, (queue.load.starts + 1) / (queue.load.running + 1)))


def _liveliness(kind: Kind, queue: Queue) -> float:
    return QUIET if queue.submitter == "none" and not queue.load.n_pilots else 1.0


def _stalled(kind: Kind, queue: Queue) -> float:
    return STALLED if queue.is_stalled else 1.0


def _preference(kind: Kind, queue: Queue) -> float:
    return PREFERRED if queue.is_named(kind.wishes.prefer) else 1.0


def _return(kind: Kind, queue: Queue) -> float:
    return CAME_FROM if queue.name == kind.came_from else 1.0


TERMS: Mapping[str, Callable[[Kind, Queue], float]] = {
    "backlog": _backlog,
    "pace": _pace,
    "locality": _locality,
    "transfer": _transfer,
    "recall": _recall,
    "liveliness": _liveliness,
    "stalled": _stalled,
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
