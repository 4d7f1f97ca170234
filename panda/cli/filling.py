"""A dataset that may still be filled: who fills it, what is to come, and the wait for that. `panda get`."""

import time
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass

from panda.cli.progress import shown
from panda.cli.show import Item
from panda.client import Client, NotFound, Waited
from panda.client.waiting import wait

LONGEST_PAUSE_S = 5.0


@dataclass(frozen=True)
class Look:
    """One look at a dataset, or at the datasets of a container, and at the job sets that fill them."""

    waited: Waited
    """The job sets."""
    n_files: int
    n_open: int
    """Datasets that may get files from people: open, and of no job set."""

    @property
    def to_come(self) -> str:
        """How many jobs have not ended; empty: all have."""
        open_sets = [each for each in self.waited.jobsets if not each.is_ended]
        n, n_all = (
            sum(each.ledger.accepted - each.ledger.final for each in open_sets),
            sum(each.ledger.accepted for each in open_sets),
        )
        names = ", ".join(f"set:{each.jobset_id}" for each in open_sets)
        return f"more may come: {n} of {n_all} jobs of {names} have not ended" if open_sets else ""

    @property
    def missing(self) -> str:
        """How many jobs ended without success; empty: none."""
        n = sum(each.ledger.failed + each.ledger.cancelled for each in self.waited.jobsets)
        names = ", ".join(f"set:{each.jobset_id}" for each in self.waited.jobsets)
        return f"what {n} failed or cancelled jobs of {names} should have written is not there" if n else ""

    @property
    def is_over(self) -> bool:
        """Nothing more comes."""
        return self.waited.is_ended and not self.n_open


def look_at(client: Client, dataset: str, jobset_id: int | None) -> Look:
    """Look once.

    Args:
        jobset_id: that fills it; None: the one that made it, if one did.
    """
    shown_as = client.datasets.show(dataset)
    parts = client.datasets.members(dataset) if shown_as.kind == "container" else [shown_as]
    found = {each.dataset: jobset_id or each.jobset_id for each in parts}
    jobsets = []
    for number in sorted({number for number in found.values() if number is not None}):
        try:
            jobsets.append(client.jobset(number))
        except NotFound:  # forgotten since
            found = {name: None if at == number else at for name, at in found.items()}
    n_open = sum(each.status == "open" and found[each.dataset] is None for each in parts)
    return Look(Waited(jobsets=tuple(jobsets)), shown_as.n_files, n_open)


def as_they_come(
    look: Callable[[], Look], bring: Callable[[Set[str]], Iterator[Item]], *, timeout_s: float | None, is_quiet: bool
) -> Iterator[Item]:
    """Bring what is there, and again whenever there is more, until nothing more comes.

    Args:
        look: asks the server anew.
        bring: what is there but what has one of these names (`dataset/lfn`, in `item["at"]`).
    Raises:
        WaitTimeout: `timeout_s` passed. Unavailable: the server stayed away.
    """
    seen: set[str] = set()
    began = time.monotonic()
    while True:
        last = look()  # before the list: what was there when the last job ended is in it
        brought_from = time.monotonic()
        for item in bring(seen):
            seen.add(item["at"])
            yield {name: value for name, value in item.items() if name != "at"}
        if last.is_over:
            return
        now = time.monotonic()
        left_s = None if timeout_s is None else max(0.0, began + timeout_s - now)
        # A long list is not asked for without a pause.
        time.sleep(min(now - brought_from, LONGEST_PAUSE_S, LONGEST_PAUSE_S if left_s is None else left_s))
        _await_more(look, last, left_s, is_quiet)


def _await_more(look: Callable[[], Look], last: Look, timeout_s: float | None, is_quiet: bool) -> None:
    latest = [last]

    def again(_: Waited) -> Waited:
        latest[0] = look()
        return latest[0].waited

    with shown(is_quiet) as on_look:
        wait(
            again,
            until=lambda _: latest[0].is_over or latest[0].n_files != last.n_files,
            timeout_s=timeout_s,
            on_look=on_look,
        )
