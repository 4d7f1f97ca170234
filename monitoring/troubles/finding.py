"""What is wrong, since when, whom it hits, and where it is mended: worked out from what the pages know anyway.

Nothing here is kept: a trouble is there as long as what it is read from.
"""

from collections.abc import Callable, Iterable

from monitoring.troubles.failures import black_holes, failures
from monitoring.troubles.parts import (
    floods,
    parts_down,
    pauses,
    pilots_away,
    queues_closed,
    storages_full,
    stuck,
    workers_silent,
    workers_stuck,
)
from monitoring.troubles.seen import Seen
from monitoring.troubles.words import Trouble

Finder = Callable[[Seen], Iterable[Trouble]]

FINDERS: tuple[Finder, ...] = (
    parts_down, workers_stuck, workers_silent, pilots_away, black_holes, failures, storages_full, queues_closed, pauses,
    floods, stuck,
)  # fmt: skip


def find(seen: Seen) -> list[Trouble]:
    """Every trouble, the bad ones first, then the oldest."""
    found = [trouble for finder in FINDERS for trouble in finder(seen)]
    unique = {trouble.key: trouble for trouble in reversed(found)}
    return sorted(unique.values(), key=lambda t: (not t.is_bad, t.since or seen.now, t.key))
