"""What a stager is: the hands of the data service in a tape system. Bytes are still moved by the storage's mover."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol


@dataclass(frozen=True)
class Recall:
    """How far a file is that was asked for."""

    state: Literal["waiting", "online", "failed"]
    problem: str = ""
    """Why it failed, in a sentence."""


class Stager(Protocol):
    """Every verb is safe to repeat, and answers within seconds: none of them waits for a tape.

    OSError stands for every trouble of the tape system: it is asked again later."""

    def request(self, root: str, paths: Sequence[str], pin_s: float) -> str:
        """Ask for files below `root` to be brought online and to stay there for `pin_s` seconds; together, so that
        tapes are read in one go. Returns the tape system's own name for the request."""
        ...

    def poll(self, root: str, request: str, paths: Sequence[str]) -> Mapping[str, Recall]:
        """How far these files of a request are, by path."""
        ...

    def release(self, root: str, request: str, paths: Sequence[str]) -> None:
        """Nobody needs these files online any more."""
        ...
