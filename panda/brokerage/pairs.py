"""Which two changes together would let a job run, where no single one does. Pure.

For each queue everything that may be in the way is taken away at once; then what was not needed is put back, what only
an operator could change first. What is left is the least that this queue wants, and each set was tried.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from panda.brokerage.criteria.resources import REFERENCE_COREPOWER
from panda.brokerage.subjects import Kind, Load, Queue
from panda.names import amount, amount_of
from panda.requirements import read

#: Changes that are told together at most; what wants more is another job.
TOGETHER = 2
#: Queues that are looked at, those with most pilots first.
QUEUES = 200

Takes = Callable[[Kind, Queue], bool]


class Part(NamedTuple):
    """One thing that could be different, for a job at one queue."""

    is_owners: bool
    say: str
    kind: Callable[[Kind], Kind] = lambda kind: kind
    queue: Callable[[Queue], Queue] = lambda queue: queue


class Pair(NamedTuple):
    """Things that have to be different together."""

    is_owners: bool
    """The job's owner could make them all."""
    say: str
    queues: tuple[str, ...]


def pairs(kind: Kind, queues: Sequence[Queue], takes: Takes) -> list[Pair]:
    """The pairs that open queues, those first that the owner could make, then those that open most."""
    found: defaultdict[tuple[bool, str], list[str]] = defaultdict(list)
    for queue in sorted(queues, key=lambda each: (-each.load.n_pilots, each.name))[:QUEUES]:
        least = _least(kind, queue, takes)
        if 0 < len(least) <= TOGETHER:
            key = all(part.is_owners for part in least), ", and ".join(part.say for part in least)
            found[key].append(queue.name)
    made = [Pair(is_owners, say, tuple(sorted(names))) for (is_owners, say), names in found.items()]
    return sorted(made, key=lambda each: (not each.is_owners, -len(each.queues), each.say))


def _least(kind: Kind, queue: Queue, takes: Takes) -> list[Part]:
    """The parts without which this queue does not take the job; none: not even all of them help."""
    parts = [*_of_job(kind, queue), *_of_queue(queue)]
    if not _do(kind, queue, parts, takes):
        return []
    for part in reversed(parts):
        others = [each for each in parts if each is not part]
        if _do(kind, queue, others, takes):
            parts = others
    return parts


def _do(kind: Kind, queue: Queue, parts: Sequence[Part], takes: Takes) -> bool:
    for part in parts:
        kind, queue = part.kind(kind), part.queue(queue)
    return takes(kind, queue)


def _of_job(kind: Kind, queue: Queue) -> Iterator[Part]:
    """What its owner could ask for instead."""
    yield from _numbers(kind, queue)
    for tag in sorted(kind.tags - queue.tags):
        yield Part(True, f"do without the tag {tag}", lambda k, tag=tag: replace(k, tags=k.tags - {tag}))  # type: ignore[misc]
    wishes = kind.wishes
    if wishes.wanted and not queue.is_named(wishes.wanted):
        say = f"let it go elsewhere than to {', '.join(wishes.wanted)}"
        free = tuple(each for each in wishes.sites if each.startswith("!"))
        yield Part(True, say, lambda k: replace(k, wishes=replace(k.wishes, sites=free)))
    if wishes.requirements:
        wanted = read(wishes.requirements)
        for part in wanted.parts():
            without = wanted.without(part)
            yield Part(
                True,
                f"do not require `{wanted.words(part)}`",
                lambda k, text=without: replace(k, wishes=replace(k.wishes, requirements=text)),  # type: ignore[misc]
            )


def _numbers(kind: Kind, queue: Queue) -> Iterator[Part]:
    for name, least, most in (
        ("memory_mb", queue.min_memory_mb, queue.memory_mb),
        ("cores", queue.min_cores, queue.cores),
        ("walltime_s", _at_reference(queue, queue.min_walltime_s, math.ceil),
         _at_reference(queue, queue.walltime_s, math.floor)),
        ("disk_mb", 0, queue.disk_mb),
        ("gpus", 0, queue.gpus),
    ):  # fmt: skip
        asked: int = getattr(kind, name)
        wanted = min(max(asked, least), most)
        if wanted != asked and (wanted or name == "gpus"):
            instead = f"ask for {amount_of(name, wanted)} instead of {amount(name, asked)}"
            say = instead if wanted else "ask for no GPUs"
            changed = {name: wanted}
            yield Part(True, say, lambda k, changed=changed: replace(k, **changed))  # type: ignore[misc]


def _at_reference(queue: Queue, wall_s: int, whole: Callable[[float], int]) -> int:
    """Seconds on cores of the reference power, for so many on those of the queue."""
    return whole(wall_s * queue.corepower / REFERENCE_COREPOWER)


def _of_queue(queue: Queue) -> Iterator[Part]:
    """What an operator, or time, could change."""
    if queue.is_paused:
        yield Part(
            False, f"let brokerage go on at {queue.name}", queue=lambda q: replace(q, status="online", is_paused=False)
        )
    elif queue.status != "online":
        yield Part(False, "if the queue were online", queue=lambda q: replace(q, status="online"))
    if queue.storage_status != "online" or queue.write_status != "online":
        say = "if its storages were online"
        yield Part(False, say, queue=lambda q: replace(q, storage_status="online", write_status="online"))
    if queue.storage_full is not None or queue.write_full is not None:
        say = "if its storages had room"
        yield Part(False, say, queue=lambda q: replace(q, storage_full=None, write_full=None))
    if queue.downtime is not None:
        say = f"wait until the downtime of {queue.downtime.what} ends"
        yield Part(False, say, queue=lambda q: replace(q, downtime=None))
    if queue.requirements:
        yield Part(False, "if the queue required nothing of its jobs", queue=lambda q: replace(q, requirements=""))
    yield Part(
        False,
        "wait until there is room",
        queue=lambda q: replace(q, load=Load(n_pilots=q.load.n_pilots), max_running=0),
    )
