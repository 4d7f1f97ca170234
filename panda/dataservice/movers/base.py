"""What a mover is: the hands of the data service in storages of one kind."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, Literal, Protocol, runtime_checkable

from panda.errors import PandaError


class Stream(Protocol):
    """Bytes that come in."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none: that was all."""
        ...


#: Called by a mover every so often while bytes flow; it may raise to make the mover stop.
Tick = Callable[[], None]


@dataclass(frozen=True)
class Place:
    """Where a file is: the storage's root (a folder or an address) and the path below it."""

    root: str
    path: str


@dataclass(frozen=True)
class Content:
    """What a file holds, as far as we check it."""

    size_bytes: int
    adler32: str
    """Eight hex digits, lower case."""


@dataclass(frozen=True)
class Space:
    """What a storage says of its own size."""

    free_bytes: int
    total_bytes: int | None = None


class Mover(Protocol):
    """Every verb is safe to repeat. A file appears whole under its name, on disk, or not at all.

    OSError stands for every trouble of the storage; FileNotFoundError for a file that is not there."""

    def write(self, place: Place, stream: Stream, cap_bytes: int, tick: Tick) -> Content:
        """Store what `stream` yields. Raises TooLarge beyond `cap_bytes`; nothing is kept then."""
        ...

    def copy(self, source: Place, destination: Place, expected: Content, tick: Tick) -> None:
        """Copy between two storages of this kind. Raises WrongContent, and keeps nothing, if what arrived
        is not `expected`; Underway, if somebody else does it, until it is done."""
        ...

    def measure(self, place: Place, tick: Tick) -> Content:
        """Read the file and say what it holds."""
        ...

    def size(self, place: Place) -> int:
        """The file's size in bytes, without reading it."""
        ...

    def open(self, place: Place) -> BinaryIO:
        """The file's bytes, from the first one."""
        ...

    def rename(self, place: Place, path: str) -> None:
        """Move a file within its storage, over what may be there."""
        ...

    def remove(self, place: Place) -> None:
        """Forget a file; no error if it is not there."""
        ...

    def space(self, root: str) -> Space | None:
        """How much is free there; None: storages of this kind do not tell."""
        ...

    def link(self, root: str, path: str, verb: Literal["GET", "PUT"], for_s: float) -> str:
        """A URL by which a node reads (GET) or writes (PUT) this one file, good for `for_s` seconds at least,
        with whatever right it needs in it and no credential of ours."""
        ...


@runtime_checkable
class Registering(Protocol):
    """A mover whose storages have a catalogue of their own."""

    def keep(self, place: Place, content: Content) -> None:
        """Our catalogue is about to count on this file, which was measured. Safe to repeat."""
        ...


class WrongContent(PandaError):
    """A file is not what the catalogue says."""

    code = "wrong_content"

    def __init__(self, place: Place, found: Content, expected: Content) -> None:
        super().__init__(
            f"{place.path} holds {found.size_bytes} bytes with adler32 {found.adler32}, "
            f"not {expected.size_bytes} with {expected.adler32}"
        )
        self.place, self.found, self.expected = place, found, expected


class Underway(PandaError):
    """Somebody else copies the file; it is neither there nor has it failed."""

    code = "underway"

    def __init__(self, what: str, look_again_s: float) -> None:
        super().__init__(what)
        self.look_again_s = look_again_s


def still() -> None:
    """A tick for those whom nobody waits for."""
