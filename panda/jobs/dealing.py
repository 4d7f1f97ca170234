"""Files of datasets, dealt out to jobs in order of name: a window of names at a time, however many there are.

A set whose jobs get groups of files is expanded chunk by chunk, each in a transaction of its own and perhaps in another
process. Where a chunk ended is kept with the set, so that the next one goes on from there by the index of the
catalogue, and nobody holds or skips all the names that came before.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from sqlalchemy.engine import Connection

from panda.db.session import rows
from panda.errors import Invalid
from panda.jobs.templates import Binding, FileName
from panda.names import split_did

#: Names that one statement fetches.
WINDOW = 5_000

DATASET_IDS = """
SELECT d.dataset_id, d.scope || ':' || d.name AS did
FROM unnest(%(scopes)s::text[], %(names)s::text[]) AS w(scope, name) JOIN datasets d USING (scope, name)
"""
FILES = """
SELECT lfn, file_id FROM files WHERE dataset_id = %(dataset_id)s AND lfn > %(after)s
ORDER BY dataset_id, lfn LIMIT %(limit)s
"""


class Place(NamedTuple):
    """Before which file a group begins: as `[group, member, lfn]` it is kept with the set."""

    group: int = 0
    member: int = 0
    """Which of the datasets of the binding."""
    after: str = ""
    """The last name before; empty: it begins with the first file of the member."""


class Dealer:
    """The input files of the jobs of one chunk."""

    def __init__(self, connection: Connection, bindings: Mapping[str, Binding], places: Mapping[str, Sequence[Any]]):
        """`places`: where the chunk before this one was; see `places`."""
        dealt = {name: binding for name, binding in bindings.items() if binding.files_per_job}
        ids = _ids_of(connection, sorted({did for binding in dealt.values() for did in binding.datasets}))
        self._hands = {
            name: _Hand(connection, binding, [ids.get(did, 0) for did in binding.datasets], places.get(name))
            for name, binding in dealt.items()
        }

    def files(self, name: str, group: int) -> list[FileName]:
        """The files of a group of the input `name`. Groups are best asked for in ascending order.

        Raises:
            Invalid: two of them have one name (`input_not_unique`), or files went since the submission
                (`input_changed`).
        """
        return self._hands[name].group(group)

    @property
    def places(self) -> dict[str, Place]:
        """Where each input is: the group that was asked for last."""
        return {name: hand.place for name, hand in self._hands.items()}


class _Hand:
    """Deals the files of one binding, group after group."""

    def __init__(
        self, connection: Connection, binding: Binding, dataset_ids: Sequence[int], place: Sequence[Any] | None
    ) -> None:
        self._connection, self._binding, self._dataset_ids = connection, binding, dataset_ids
        self._begin(Place(*place) if place else Place())

    def _begin(self, place: Place) -> None:
        self.place = place
        self._member, self._after = place.member, place.after
        self._ahead: deque[tuple[int, str]] = deque()
        self._files = self._take()

    def group(self, number: int) -> list[FileName]:
        if number < self.place.group:
            self._begin(Place())
        while self.place.group < number:
            last = self._last
            self.place = Place(self.place.group + 1, last[0], last[1])
            self._files = self._take()
        binding = self._binding
        n_meant = min(binding.files_per_job, binding.n_files - number * binding.files_per_job)
        if len(self._files) < n_meant:
            message = f"{binding.did} had {binding.n_files} files at submission, and some of them are gone"
            raise Invalid(message, code="input_changed")
        if len({each.lfn for each in self._files}) < len(self._files):
            raise _same_name(self._files)
        return self._files

    def _take(self) -> list[FileName]:
        size = self._binding.files_per_job
        while len(self._ahead) < size and self._read():
            pass
        taken = [self._ahead.popleft() for _ in range(min(size, len(self._ahead)))]
        self._last = taken[-1] if taken else (self.place.member, self.place.after)
        return [FileName(self._binding.datasets[member], lfn) for member, lfn in taken]

    def _read(self) -> bool:
        """Fetch the next names. Returns whether there may be more."""
        if self._member >= len(self._dataset_ids):
            return False
        values = {"dataset_id": self._dataset_ids[self._member], "after": self._after, "limit": WINDOW}
        found = rows(self._connection, FILES, values)
        self._ahead += [
            (self._member, row.lfn)
            for row in found
            if row.file_id <= self._binding.max_file_id and is_meant(row.lfn, self._binding.match)
        ]
        if len(found) == WINDOW:
            self._after = found[-1].lfn
        else:
            self._member, self._after = self._member + 1, ""
        return True


def is_meant(lfn: str, pattern: str) -> bool:
    """Whether a shell pattern means this name."""
    return pattern == "*" or fnmatchcase(lfn, pattern)


def count(connection: Connection, dataset_ids: Sequence[int], pattern: str) -> tuple[int, int]:
    """How many files of these datasets a pattern means, and the largest file_id among all that they have."""
    n_files = max_file_id = 0
    for dataset_id in dataset_ids:
        after: str | None = ""
        while after is not None:
            found = rows(connection, FILES, {"dataset_id": dataset_id, "after": after, "limit": WINDOW})
            n_files += sum(is_meant(row.lfn, pattern) for row in found)
            max_file_id = max([max_file_id, *(row.file_id for row in found)])
            after = found[-1].lfn if len(found) == WINDOW else None
    return n_files, max_file_id


def _ids_of(connection: Connection, datasets: Sequence[str]) -> dict[str, int]:
    if not datasets:
        return {}
    halves = [split_did(did, "dataset") for did in datasets]
    values = {"scopes": [scope for scope, _ in halves], "names": [name for _, name in halves]}
    return {row.did: row.dataset_id for row in rows(connection, DATASET_IDS, values)}


def _same_name(found: Sequence[FileName]) -> Invalid:
    lfns = [each.lfn for each in found]
    again = next(each for number, each in enumerate(found) if each.lfn in lfns[:number])
    first = found[lfns.index(again.lfn)]
    message = f"inputs {first.did}/{first.lfn} and {again.did}/{again.lfn} have the same name"
    return Invalid(message, code="input_not_unique")
