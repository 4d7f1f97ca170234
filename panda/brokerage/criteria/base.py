"""What a criterion is.

A criterion is a class that an entry point of the group `panda.criteria` names; policies (`panda.brokerage.policies`)
say which are asked, in which order, and with which options: these are the keyword arguments of the class, and
whatever it does not understand must raise. It is pure: the same kind and queue get the same answer within a pass.
One that raises refuses the queue that it was asked about, and operators hear of it.
"""

from typing import Protocol, runtime_checkable

from panda.brokerage.subjects import Kind, Queue


class Criterion(Protocol):
    """One reason why a queue may not take a kind of job."""

    @property
    def name(self) -> str:
        """A word, as the funnel shows it."""
        ...

    def refuse(self, kind: Kind, queue: Queue) -> str | None:
        """Why `queue` may not take such a job, in words that its owner understands; None: it may."""
        ...


@runtime_checkable
class Rationing(Criterion, Protocol):
    """A criterion that also says how many jobs a queue may still take."""

    def room(self, queue: Queue) -> int | None:
        """Jobs that may still be sent there; None: any number."""
        ...


@runtime_checkable
class Sharing(Rationing, Protocol):
    """One whose queues also share room, those of a site."""

    def site_room(self, queue: Queue) -> int | None:
        """Jobs that may still be sent to all queues of its site together; None: any number."""
        ...
