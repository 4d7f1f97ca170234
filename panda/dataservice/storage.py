"""Where a file belongs on a storage, and whose hands reach it there. Paths are the same on every storage,
so that a replica's place is known before it exists."""

import hashlib
from functools import cache

from panda import plugins
from panda.dataservice.movers.base import Content, Mover, Place, Registering

#: Longest stem of a file name that we keep as it is: file systems take 255 bytes, we add to some.
_LONGEST = 190


@cache
def mover_of(kind: str) -> Mover:
    """The mover of storages of this kind.

    Raises:
        UnknownName: nothing of that name is installed.
    """
    mover: Mover = plugins.load("panda.movers", kind)()
    return mover


def keep(mover: Mover, place: Place, content: Content) -> None:
    """Tell a storage that has a catalogue of its own that a file is about to be in ours. Raises OSError."""
    if isinstance(mover, Registering):
        mover.keep(place, content)


def file_path(scope: str, dataset: str, lfn: str) -> str:
    """Path of a file that somebody put into a dataset: `scope/dataset/3f/a1/lfn`.

    The two folders spread a large dataset over 65,536 of them, as Rucio does for a scope."""
    return f"{_folder(scope, dataset, lfn)}/{_stem(lfn)}"


def output_path(scope: str, dataset: str, lfn: str, panda_id: int, attempt_nr: int, era: int = 0) -> str:
    """Path of an output of one attempt: `scope/dataset/3f/a1/lfn@42.1`; `lfn@42.1.2` after two restores (`era`).

    An attempt that was given up and writes all the same never reaches the file of the one that
    counts. `@` is in no name, so nothing that is put can take its place either."""
    return f"{_folder(scope, dataset, lfn)}/{_stem(lfn)}@{panda_id}.{attempt_nr}" + (f".{era}" if era else "")


def draft_path(scope: str, dataset: str, token: str) -> str:
    """Path of a file that is still on its way in: `scope/dataset/@token`."""
    return f"{scope}/{dataset}/@{token}"


def _folder(scope: str, dataset: str, lfn: str) -> str:
    digest = hashlib.md5(f"{scope}:{lfn}".encode(), usedforsecurity=False).hexdigest()
    return f"{scope}/{dataset}/{digest[:2]}/{digest[2:4]}"


def _stem(lfn: str) -> str:
    if len(lfn) <= _LONGEST:
        return lfn
    digest = hashlib.md5(lfn.encode(), usedforsecurity=False).hexdigest()
    return f"{lfn[: _LONGEST - 33]}~{digest}"
