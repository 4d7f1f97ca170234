"""A storage compared with the catalogue: files that lie there and that nobody knows, and replicas that are not there.

It goes dataset by dataset, so that what it keeps in memory is the file list of one; nothing is changed. Only storages
that are folders can be listed so far.
"""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

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

    kind: Literal["dark", "lost", "wrong_size"]
    """`dark`: on the storage, in no catalogue. `lost`: in the catalogue, not on the storage."""
    path: str
    """Below the storage's root."""
    size_bytes: int | None
    """On the storage; None: it is not there."""
    expected_bytes: int | None = None


def scan(begin: Begin, storage: str, *, min_age_s: float) -> Iterator[Finding]:
    """What a storage and the catalogue disagree about.

    Args:
        min_age_s: younger files are not called dark: they may be on their way into the catalogue.
    Raises:
        NotFound: no such storage. Invalid: it is no folder, or its folder is not there.
    """
    with once(begin) as connection:
        found = rows(connection, STORAGE, {"name": storage})
    if not found:
        raise NotFound("storage", storage)
    root = Path(found[0].root)
    if found[0].kind != "local" or found[0].stager or not root.is_dir():
        raise Invalid(f"storage {storage} is no folder of this machine", where="storage", code="cannot_scan")
    older_than = time.time() - min_age_s
    seen: set[Path] = set()
    for dataset_id, folder in _datasets(begin):
        seen.add(folder)
        yield from _compare(begin, storage, root, dataset_id, folder, older_than)
    for folder in _folders(root):
        if folder not in seen:
            yield from (Finding("dark", path, size) for path, size, at in _files(root, folder) if at < older_than)


def _compare(
    begin: Begin, storage: str, root: Path, dataset_id: int, folder: Path, older_than: float
) -> Iterator[Finding]:
    on_storage = {path: (size, at) for path, size, at in _files(root, folder)}
    for path, expected in _known(begin, storage, dataset_id):
        size, _ = on_storage.pop(path, (None, 0.0))
        if size is None and not (root / path).is_file():  # it may have come since the folder was read
            yield Finding("lost", path, None, expected)
        elif size is not None and size != expected:
            yield Finding("wrong_size", path, size, expected)
    with once(begin) as connection:
        going = {row.path for row in rows(connection, GOING, {"dataset_id": dataset_id, "storage": storage})}
    for path, (size, at) in on_storage.items():
        if at < older_than and path not in going:
            yield Finding("dark", path, size)


def _datasets(begin: Begin) -> Iterator[tuple[int, Path]]:
    after = 0
    while True:
        with once(begin) as connection:
            found = rows(connection, DATASETS, {"after": after, "limit": PAGE})
        yield from ((row.dataset_id, Path(row.scope) / row.name) for row in found)
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


def _folders(root: Path) -> Iterator[Path]:
    """`scope/dataset` of every dataset's folder on the storage; a stray file counts as one."""
    for scope in sorted(root.iterdir()):
        if scope.is_symlink() or not scope.is_dir():
            yield scope.relative_to(root)
        else:
            yield from (dataset.relative_to(root) for dataset in sorted(scope.iterdir()))


def _files(root: Path, folder: Path) -> Iterator[tuple[str, int, float]]:
    """Files below a folder, links not followed: path below the root, size in bytes, time of the last change."""
    if (root / folder).is_symlink() or (root / folder).is_file():
        state = (root / folder).lstat()
        yield str(folder), state.st_size, state.st_mtime
        return
    for place, _, names in os.walk(root / folder):
        for name in names:
            path = Path(place) / name
            try:
                state = path.lstat()
            except FileNotFoundError:
                continue  # moved or removed since
            yield str(path.relative_to(root)), state.st_size, state.st_mtime
