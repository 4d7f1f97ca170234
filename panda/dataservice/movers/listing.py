"""What lies on a storage, as far as its protocol can list it. A storage may be anybody's: what it says is checked."""

import errno
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

#: Folders below one another; ours are five. A link that leads back to its own folder ends here.
MOST_DEPTH = 32


@dataclass(frozen=True)
class Entry:
    """A file or a folder; of a folder only the path counts."""

    path: str
    """Below the storage's root."""
    is_folder: bool
    size_bytes: int = 0
    changed_at: float | None = None
    """Seconds since 1970; None: the storage does not tell."""


@runtime_checkable
class Listing(Protocol):
    """A mover whose storages can be listed. OSError stands for every trouble, an answer that makes no sense too."""

    names_are_exact: bool
    """Whether a name that is listed is surely one by which the file can be reached."""

    def entries(self, root: str, folder: str) -> Iterator[Entry]:
        """What is in a folder (empty: the root) itself. Raises FileNotFoundError: it is not there."""
        ...

    def walk(self, root: str, folder: str) -> Iterator[Entry]:
        """All files below a folder, in no order; of a folder that is not there, none. A folder among them is one that
        was listed and that cannot be reached by its name."""
        ...


def walked(mover: Listing, root: str, folder: str, depth: int = 0) -> Iterator[Entry]:
    """`walk` in `entries`: kept in memory are the names of the folders in one folder, at every level.

    Raises:
        OSError: folders are nested too deeply.
    """
    if depth > MOST_DEPTH:
        raise OSError(errno.ELOOP, "folders lie in folders without an end", folder)
    inner: list[str] = []
    try:
        for entry in mover.entries(root, folder):
            if entry.is_folder:
                inner.append(entry.path)
            else:
                yield entry
    except (FileNotFoundError, NotADirectoryError):
        if depth:
            yield Entry(folder, is_folder=True)
        return
    for each in inner:
        yield from walked(mover, root, each, depth + 1)


def path_in(folder: str, name: str) -> str:
    """Path of a name that was listed in a folder. Raises OSError: no file system has such a name."""
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise OSError(errno.EBADMSG, f"the storage lists a name that cannot be: {name!r}", folder)
    return f"{folder}/{name}" if folder else name
