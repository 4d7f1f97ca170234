"""The facets of the list of jobs: what those that fit have in common, and how many have it."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy.engine import Connection

from monitoring.reads.blocks import Block, Reader
from panda.db import lists
from panda.jobs.nouns import JOBS
from panda.query import EVERYTHING, Expression

#: Facets and the histogram look at no more than this many of the newest rows.
LOOK_AT = 10_000
#: What jobs are like costs a look at another table for each row; it changes little from row to row.
SHAPE_LOOK_AT = 2_000
FACETS = (
    ("status", "Status"), ("failed_stage", "Failed stage"), ("queue", "Queue"), ("error", "Error"), ("owner", "User"),
    ("kind", "Kind"), ("cores", "Cores"), ("memory", "Memory"), ("attempt", "Attempt"),
)  # fmt: skip
#: Fields that are counted together: the groups of one count are limited.
TOGETHER = ("status", "failed_stage", "queue", "error", "owner")
SHAPE = ("kind", "cores", "memory", "attempt")
MOST_WORDS = 8


def facets(reader: Reader, expression: Expression, others: Expression) -> Block[dict[str, Any]]:
    """By facet its words and counts, the largest first; `n`, all that fit; `is_whole`: every job that fits was counted.

    Args:
        others: the same filter without what it says of the status.
    """
    found = reader.block(lambda c: _main(c, expression, others))
    if found.value is None:
        return found
    shape = reader.block(lambda c: _shape(c, expression))  # by itself: what takes too long is left out
    found.value.update(shape.value or {"shape_of": None})
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
    """`shape_of`: how many of the newest rows were looked at; None: all that fit."""
    counted = lists.counts(connection, JOBS, expression, SHAPE, window=SHAPE_LOOK_AT)
    return {**_words(SHAPE, counted.groups), "shape_of": None if counted.down_to is None else SHAPE_LOOK_AT}


def _words(by: Sequence[str], groups: Iterable[tuple[tuple[Any, ...], int]]) -> dict[str, list[tuple[str, int]]]:
    found: dict[str, Counter[str]] = {name: Counter() for name in by}
    for words, n in groups:
        for name, word in zip(by, words, strict=True):
            if word is not None:
                found[name][str(word)] += n
    return {name: _largest(words.items()) for name, words in found.items()}


def _largest(words: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    return sorted(words, key=lambda item: -item[1])[:MOST_WORDS]
