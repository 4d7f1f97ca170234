"""What a fault is, and what it may lay hands on."""

import os
import random
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Event

from redis import Redis

from panda.chaos.ask import Line
from panda.chaos.load import Accepted
from panda.chaos.pilots import PlayedPilot
from panda.chaos.proxy import Proxy
from panda.chaos.system import System
from panda.settings import client_url


@dataclass
class Lab:
    """What a fault may lay hands on."""

    system: System
    proxy: Proxy
    pilots: Sequence[PlayedPilot]
    line: Line
    """Straight to the API, as an admin."""
    random: random.Random
    stop: Event
    accepted: Sequence[Accepted]
    """Job sets that were promised, oldest first; it grows."""
    newcomer: Callable[[], PlayedPilot]
    """A pilot with room for one job, that was never there before; not started."""

    def redis(self) -> Redis:
        """A connection to Redis of a fault's own."""
        return Redis.from_url(client_url(self.system.redis_url), socket_timeout=5, socket_connect_timeout=5)

    def wait(self, seconds: float) -> None:
        """Let time pass; less when the lab closes."""
        self.stop.wait(seconds)


class NotPossible(Exception):
    """There is nothing to break right now, or not on this machine; the fault is told as skipped."""


class Broken(Exception):
    """A fault saw a promise broken by itself."""


Inject = Callable[[Lab], None]


@dataclass(frozen=True)
class Fault:
    name: str
    number: str
    """F1 to F40 of the catalogue."""
    inject: Inject


def send(pids: Sequence[int], number: int = signal.SIGKILL) -> None:
    """A signal to these. Raises NotPossible: there are none."""
    if not pids:
        raise NotPossible("nothing of the kind runs")
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


@contextmanager
def standing_still(pids: Sequence[int]) -> Iterator[None]:
    """These processes stand still meanwhile."""
    send(pids, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
