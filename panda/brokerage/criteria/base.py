"""What a criterion is."""

from typing import Protocol

from panda.brokerage.snapshot import Kind, Queue


class Criterion(Protocol):
    """One reason why a queue may not take a kind of job."""

    @property
    def name(self) -> str:
        """A word, as the funnel shows it."""
        ...

    def refuse(self, kind: Kind, queue: Queue) -> str | None:
        """Why `queue` may not take such a job, in words that its owner understands; None: it may."""
        ...
