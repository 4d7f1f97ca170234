"""A storage compared with the catalogue: files that lie there and that nobody knows, and replicas that are not there.

It goes dataset by dataset, so that what it keeps in memory is the file list of one; nothing is changed. A storage that
does not answer, or whose answers make no sense, ends the scan: nothing is called lost or dark because of it.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, cast

from panda.dataservice.movers.base import Mover, Place
from panda.dataservice.movers.listing import Entry, Listing
from panda.dataservice.storage import mover_of
from panda.db.session import Begin, once, rows
from panda.errors import Invalid, NotFound

#: Datasets and files that one statement fetches.
PAGE = 500
FILES_PAGE = 5_000

STORAGE = "SELECT kind, root, stager FROM storages WHERE name = %(name)s"
DATASETS = """
SELECT dataset_id, scope, name FROM datasets WHERE dataset_id > %(after)s ORDER BY dataset_id LIMIT %(limit)s
"""
KNOWN = """
SELECT f.lfn, r.path, f.size_bytes FROM (
    SELECT file_id, lfn, size_bytes FROM files WHERE dataset_id = %(dataset_id)s AND lfn > %(after)s
    ORDER BY lfn LIMIT %(limit)s) f
LEFT JOIN LATERAL (
    SELECT path FROM replicas WHERE file_id = f.file_id AND storage = %(storage)s OFFSET 0) r ON true
ORDER BY f.lfn
"""
#: Replicas of datasets that are being deleted are known until they are gone.
GOING = "SELECT path FROM deletions WHERE dataset_id = %(dataset_id)s AND storage = %(storage)s"


@dataclass(frozen=True)
class Finding:
    """Something that storage and catalogue disagree about."""

    kind: Literal["dark", "lost", "wrong_size", "odd"]
    """`dark`: on the storage, in no catalogue. `lost`: in the catalogue, not on the storage. `odd`: listed under a name
    that is none of ours and might mean another file: no command should be given it."""
    path: str
    """Below the storage's root; of an odd one as Python writes it, in quotes."""
    size_bytes: int | None
    """On the storage; None: it is not there."""
    expected_bytes: int | None = None


def scan(begin: Begin, storage: str, *, min_age_s: float) -> Iterator[Finding]:
    """What a storage and the catalogue disagree about.

    Args:
        min_age_s: younger files are not called dark: they may be on their way into the catalogue.
    Raises:
        NotFound: no such storage. Invalid: it cannot be listed (`cannot_scan`). OSError: its answers make no sense.
    """
    with once(begin) as connection:
        found = rows(connection, STORAGE, {"name": storage})
    if not found:
        raise NotFound("storage", storage)
    there = _listed(storage, found[0].kind, found[0].root, found[0].stager)
    older_than = time.time() - min_age_s
    seen: set[str] = set()
    for dataset_id, folder in _datasets(begin):
        seen.add(folder)
        yield from _compare(begin, there, dataset_id, folder, older_than)
    for each in _unseen(there, seen):
        yield from _stray(there, each, older_than)


class _There(NamedTuple):
    """A storage whose mover can list it."""

    name: str
    root: str
    mover: Mover
    listing: Listing


def _listed(name: str, kind: str, root: str, stager: str) -> _There:
    """Raises Invalid."""
    if stager:
        raise _cannot(name, "is a tape, whose list is not what is on it")
    if kind == "rucio":
        raise _cannot(name, "is Rucio's: which files lie there, of whom, Rucio's own catalogue tells")
    mover = mover_of(kind)
    if not isinstance(mover, Listing):
        raise _cannot(name, f"is of kind {kind}, whose mover cannot list files")
    there = _There(name, root, cast(Mover, mover), mover)
    try:
        next(there.listing.entries(root, ""), None)
    except OSError as problem:
        raise _cannot(name, f"cannot be listed: {problem.strerror or problem}") from problem
    return there


def _cannot(name: str, why: str) -> Invalid:
    return Invalid(f"storage {name} cannot be scanned: it {why}", where="storage", code="cannot_scan")


def _compare(begin: Begin, there: _There, dataset_id: int, folder: str, older_than: float) -> Iterator[Finding]:
    on_storage: dict[str, Entry] = {}
    for entry in there.listing.walk(there.root, folder):
        if _is_odd(entry):
            yield Finding("odd", ascii(entry.path), None)
        else:
            on_storage[entry.path] = entry
    for path, expected in _known(begin, there.name, dataset_id):
        entry_there = on_storage.pop(path, None)
        size = _size(there, path) if entry_there is None else entry_there.size_bytes
        if size is None:
            yield Finding("lost", path, None, expected)
        elif size != expected:
            yield Finding("wrong_size", path, size, expected)
    with once(begin) as connection:
        going = {row.path for row in rows(connection, GOING, {"dataset_id": dataset_id, "storage": there.name})}
    for path, entry in on_storage.items():
        if path not in going:
            yield from _stray(there, entry, older_than)


def _stray(there: _There, entry: Entry, older_than: float) -> Iterator[Finding]:
    """A file that no catalogue knows, unless it is young. One whose name may not be its own is asked for by it (for
    XRootD, what follows a `?` is no part of a name)."""
    if _is_odd(entry):
        yield Finding("odd", ascii(entry.path), None)
    elif (entry.changed_at if entry.changed_at is not None else time.time()) >= older_than:
        return
    elif there.listing.names_are_exact or ("?" not in entry.path and _size(there, entry.path) == entry.size_bytes):
        yield Finding("dark", entry.path, entry.size_bytes)
    else:
        yield Finding("odd", ascii(entry.path), None)


def _is_odd(entry: Entry) -> bool:
    """Names of ours hold nothing that cannot be seen, and lead nowhere else."""
    parts = entry.path.split("/")
    return entry.is_folder or not entry.path.isprintable() or any(part in ("", ".", "..") for part in parts)


def _size(there: _There, path: str) -> int | None:
    """Of one file, asked for by its name; None: it is not there. It may have come since its folder was read."""
    try:
        return there.mover.size(Place(there.root, path))
    except FileNotFoundError:
        return None


def _datasets(begin: Begin) -> Iterator[tuple[int, str]]:
    after = 0
    while True:
        with once(begin) as connection:
            found = rows(connection, DATASETS, {"after": after, "limit": PAGE})
        yield from ((row.dataset_id, f"{row.scope}/{row.name}") for row in found)
        if len(found) < PAGE:
            return
        after = found[-1].dataset_id


def _known(begin: Begin, storage: str, dataset_id: int) -> Iterator[tuple[str, int]]:
    """Replicas of a dataset on the storage: path, size in bytes."""
    after = ""
    while True:
        values = {"dataset_id": dataset_id, "storage": storage, "after": after, "limit": FILES_PAGE}
        with once(begin) as connection:
            found = rows(connection, KNOWN, values)
        yield from ((row.path, row.size_bytes) for row in found if row.path is not None)
        if len(found) < FILES_PAGE:
            return
        after = found[-1].lfn


def _unseen(there: _There, seen: set[str]) -> Iterator[Entry]:
    """Files below no dataset's folder (`scope/dataset`)."""
    for scope in sorted(there.listing.entries(there.root, ""), key=_path_of):
        if not scope.is_folder:
            yield scope
            continue
        for each in sorted(there.listing.entries(there.root, scope.path), key=_path_of):
            if not each.is_folder:
                yield each
            elif each.path not in seen:
                yield from there.listing.walk(there.root, each.path)


def _path_of(entry: Entry) -> str:
    return entry.path
