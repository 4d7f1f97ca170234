"""What a submitter is: the whole contract on one screen."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol


class Order(NamedTuple):
    """A pilot that is to be started."""

    pilot_id: str
    queue: str
    cores: int
    memory_mb: int
    disk_mb: int
    walltime_s: int
    tags: Sequence[str]
    options: Sequence[str]


class Submitter(Protocol):
    """Starts pilots somewhere and knows which of them are still there."""

    def __init__(self, data_dir: Path, api_url: str, idle_s: int) -> None: ...

    def submit(self, order: Order) -> None:
        """Start one pilot. Raises PandaError when the place refuses it."""

    def alive(self, queue: str) -> int:
        """Pilots of a queue that were submitted and have not left, waiting ones included."""

    def failures(self, queue: str) -> int:
        """Pilots that left with an error, since one last did well."""

    def stop(self) -> None:
        """End every pilot that this submitter may end."""
