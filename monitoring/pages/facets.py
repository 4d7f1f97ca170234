"""The facets of the list of jobs: what those that fit have in common, and how many have it."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy.engine import Connection

from monitoring.reads.blocks import Block, Reader
from panda.db import lists
from panda.jobs.kinds import kinds_of
from panda.jobs.nouns import JOBS
from panda.query import EVERYTHING, Expression

#: Facets and the histogram look at no more than this many of the newest rows.
LOOK_AT = 10_000
FACETS = (
    ("status", "Status"), ("failed_stage", "Failed stage"), ("queue", "Queue"), ("error", "Error"), ("owner", "User"),
    ("kind", "Kind"), ("cores", "Cores"), ("memory", "Memory"), ("attempt", "Attempt"),
)  # fmt: skip
#: Fields that are counted together: the groups of one count are limited.
TOGETHER = ("status", "failed_stage", "queue", "error", "owner")
SHAPE = ("cores", "memory", "attempt")
MOST_WORDS = 8


def facets(reader: Reader, expression: Expression, others: Expression) -> Block[dict[str, Any]]:
    """By facet its words and counts, the largest first; `n`, all that fit; `is_whole`: every job that fits was counted.

    Args:
        others: the same filter without what it says of the status.
    """
    found = reader.block(lambda c: _main(c, expression, others))
    if found.value is None:
        return found
    for part in (_shape, _kinds):  # each by itself: what takes too long is left out
        found.value.update(reader.block(lambda c, part=part: part(c, expression)).value or {})  # type: ignore[misc]
    return found


def _main(connection: Connection, expression: Expression, others: Expression) -> dict[str, Any]:
    counted = lists.counts(connection, JOBS, expression, TOGETHER, window=LOOK_AT)
    is_whole = counted.down_to is None and len(counted.groups) < lists.MAX_GROUPS
    found = _words(TOGETHER, counted.groups)
    if others not in (expression, EVERYTHING):  # also the statuses that are not chosen
        every = lists.counts(connection, JOBS, others, ["status"], window=LOOK_AT)
        listed = {str(words[0]): n for words, n in every.groups} | dict(found["status"])
        found["status"] = _largest(listed.items())
    return {**found, "n": sum(n for _, n in counted.groups), "is_whole": is_whole}


def _shape(connection: Connection, expression: Expression) -> dict[str, Any]:
    return _words(SHAPE, lists.counts(connection, JOBS, expression, SHAPE, window=LOOK_AT).groups)


def _kinds(connection: Connection, expression: Expression) -> dict[str, Any]:
    """Counted by job set, as a set has one kind; by job, which costs more, where there are too many sets."""
    sets = {words[0]: n for words, n in lists.counts(connection, JOBS, expression, ["jobset"], window=LOOK_AT).groups}
    if len(sets) >= lists.MAX_GROUPS:
        return _words(["kind"], lists.counts(connection, JOBS, expression, ["kind"], window=LOOK_AT).groups)
    found = Counter[str]()
    for jobset_id, kind in kinds_of(connection, list(sets)).items():
        found[kind] += sets[jobset_id]
    return {"kind": _largest(found.items())}


def _words(by: Sequence[str], groups: Iterable[tuple[tuple[Any, ...], int]]) -> dict[str, list[tuple[str, int]]]:
    found: dict[str, Counter[str]] = {name: Counter() for name in by}
    for words, n in groups:
        for name, word in zip(by, words, strict=True):
            if word is not None:
                found[name][str(word)] += n
    return {name: _largest(words.items()) for name, words in found.items()}


def _largest(words: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    return sorted(words, key=lambda item: -item[1])[:MOST_WORDS]
