"""What owners may start of their jobs, as one process sees it: running quotas, and bans.

Nobody keeps a counter. What an owner runs is what the leases say at the last count (`share_usage`), and what this
process handed out since then; it takes the other processes that hand out to do as much. So a quota that was passed,
by a claim of two processes in the same moment, heals with the next count, and nothing can leak.

Only jobs whose owner a quota binds say whose they are (`jobs.quotas.watching`); where there is no quota, nothing here
is asked.
"""

import time
from collections import deque
from collections.abc import Mapping, Sequence
from threading import Lock

from sqlalchemy.engine import Connection

from panda.dispatcher.background import Renewed
from panda.dispatcher.shares import balance
from panda.jobs import share_usage
from panda.jobs.quotas import picture
from panda.jobs.quotas.rules import Picture, Room, Rooms

#: Claims that a process remembers; more than it can make between two counts.
REMEMBERED = 5_000
#: What was handed out is added to a count that began up to this later, too: its transaction may not have ended then.
OVERLAP_S = 0.1


class Allowance(Renewed):
    """What one process knows of what owners run."""

    def __init__(self) -> None:
        super().__init__()
        self._counted: Mapping[str, tuple[int, int]] = {}
        self._rooms = Rooms(Picture(), self._counted)
        self._n_dealers = 1
        self._handed: deque[tuple[float, str, int, int]] = deque(maxlen=REMEMBERED)  # at monotonic seconds
        self._changing = Lock()

    def left(self, connection: Connection, owner: str, cores: int = 1) -> Room:
        """What an owner may still start; and why not one more job of so many cores."""
        self._ensure(connection)
        with self._changing:
            return self._rooms.left(owner, cores)

    def allot(self, connection: Connection, wanted: Sequence[tuple[str, int]], n: int) -> list[int]:
        """How many of `n` jobs each of these (owner, cores of a job) may give."""
        self._ensure(connection)
        with self._changing:
            return self._rooms.allot(wanted, n)

    def gave(self, owner: str, jobs: int, cores: int) -> None:
        """This process handed out jobs of an owner whom a quota binds."""
        with self._changing:
            self._handed.append((time.monotonic(), owner, jobs, cores))
            self._rooms.add(owner, jobs * self._n_dealers, cores * self._n_dealers)

    def _look(self, connection: Connection) -> float:
        count = share_usage.current(connection, balance.dealer, by_owner=True)
        known, now = picture.current(connection), time.monotonic()
        with self._changing:
            if count.owners is not None:  # else somebody counts without owners at this moment
                self._counted = count.owners
                while self._handed and self._handed[0][0] < now - count.age_s - OVERLAP_S:
                    self._handed.popleft()  # counted
                self._n_dealers = max(1, count.n_dealers)
            self._rooms = Rooms(known, self._counted)
            for _, owner, jobs, cores in self._handed:
                self._rooms.add(owner, jobs * self._n_dealers, cores * self._n_dealers)
        return min(max(share_usage.FLOOR_S, count.good_for_s - count.age_s), picture.TRUST_S)


#: This process's.
allowance = Allowance()
