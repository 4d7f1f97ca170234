"""How many jobs of each share a claim takes: the shares that are furthest below their parts, by running cores.

Each process goes by the last count (`share_usage`) and by what it handed out itself since then; it takes the other
processes that hand out to do as much, of the same shares. What ended since the count it does not know. So a fleet
keeps the parts to within what ends between two counts and the difference between what two processes hand out in
that time. The time is `REST` times what a count takes, which grows with the fleet; so, measured in parts of the
fleet, it depends on the rate alone: below 1 % at 100 jobs per second (docs/explanation/shares.md has the numbers).

A claim for several jobs is dealt out over at most `MOST` shares, one statement each: it costs the same with three
shares and with thirty, and those that came too short come first in the next claim.
"""

import os
import time
from collections import deque
from collections.abc import Mapping
from threading import Lock
from uuid import uuid4

from sqlalchemy.engine import Connection

from panda.dispatcher.background import Renewed
from panda.jobs import share_usage, shares
from panda.jobs.share_tree import Load, Tree

#: Shares that one claim takes jobs of.
MOST = 3
#: Seconds that a process trusts its picture of the tree: a weight that an operator set counts from then on.
TREE_S = 0.5
#: Claims that a process remembers; more than it can make between two counts.
REMEMBERED = 5_000


class Balance(Renewed):
    """What one process knows of the running cores: the last count, and what was handed out since."""

    def __init__(self) -> None:
        super().__init__()
        self._name = uuid4().hex
        self._tree = Tree(())
        self._load: Load = {}
        self._n_dealers = 1
        self._handed: deque[tuple[float, str, int]] = deque(maxlen=REMEMBERED)
        self._tree_until = float("-inf")  # monotonic seconds, as in `_handed`
        self._tree_of = 0
        self._changing = Lock()

    def deal(self, connection: Connection, cores_of: Mapping[str, float], n: int) -> dict[str, int]:
        """How many of `n` jobs to take of each share, the one furthest below its part first.

        Args:
            cores_of: cores of a job, by share that has ready jobs that fit.
        """
        if len(cores_of) == 1:
            return dict.fromkeys(cores_of, n)
        self._ensure(connection)
        with self._changing:
            tree, load = self._tree, dict(self._load)
        return tree.deal(cores_of, n, load, MOST, self._n_dealers)

    def gave(self, share: str, cores: int) -> None:
        """This process handed out jobs of `share`."""
        with self._changing:
            self._handed.append((time.monotonic(), share, cores))
            self._tree.add(self._load, share, cores * self._n_dealers)

    @property
    def dealer(self) -> str:
        """This process's name among those that hand out jobs."""
        return f"{self._name}-{os.getpid()}"  # forks share the first half

    def _look(self, connection: Connection) -> float:
        tree, n_forgotten = self._tree, self._n_forgotten
        if time.monotonic() >= self._tree_until or self._tree_of != n_forgotten:
            tree, self._tree_until = shares.tree(connection), time.monotonic() + TREE_S
            self._tree_of = n_forgotten
        count = share_usage.current(connection, self.dealer)
        now = time.monotonic()
        with self._changing:
            while self._handed and self._handed[0][0] < now - count.age_s:
                self._handed.popleft()  # counted
            self._tree, self._n_dealers = tree, max(1, count.n_dealers)
            self._load = tree.load(count.cores)
            for _, share, cores in self._handed:
                tree.add(self._load, share, cores * self._n_dealers)
        return max(share_usage.FLOOR_S, count.good_for_s - count.age_s)


#: This process's.
balance = Balance()
