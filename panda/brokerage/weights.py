"""Who of several good queues gets how many jobs. Pure."""

from collections.abc import Mapping

from panda.brokerage.snapshot import Load, Locality, Queue

#: Weight of a queue where every input byte has to travel, against one where none has to.
ALL_TRAVELS = 0.1
#: Weight of a queue whose pilots come by themselves and where none asked lately, against a lively one.
QUIET = 0.1


def queue_weight(queue: Queue, locality: Locality | None) -> float:
    """Rank a candidate queue by how fast it eats its backlog and by how little has to travel there.

    Args:
        queue: the candidate with its load, counts without a unit.
        locality: where the input bytes are; None for jobs without inputs.
    Returns: a weight above zero, without a unit; only ratios mean anything.
    """
    weight = backlog_weight(queue.load)
    if locality is not None:
        weight *= ALL_TRAVELS + (1 - ALL_TRAVELS) * locality.fraction_at(queue.storage)
    if queue.submitter == "none" and not queue.load.n_pilots:
        weight *= QUIET
    return weight


def backlog_weight(load: Load) -> float:
    """How fast the queue eats its backlog; larger is better. Jobs get a queue with `assigned`, so the
    formula's `defined` is always zero here.

    Source: PanDA documentation, Brokerage, "Calculate brokerage weight".
    """
    waiting = load.assigned + load.activated + load.starting
    many_assigned = max(1.0, min(2.0, load.assigned / max(load.activated, 1)))
    return (load.running + 1) / ((waiting + 10) * many_assigned)


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
