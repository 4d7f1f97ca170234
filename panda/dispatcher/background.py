"""A picture that a process goes by: looked up in the database now and then, and renewed behind a claim's back.

Nobody waits for a renewal. It is made after a claim that went by an old picture; until it is there, claims go by the
old one. A process that has none yet, or whose last one is `TOO_OLD_S` over its time, waits.
"""

import time
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from panda.db.session import Begin

#: A picture that should have been renewed so long ago is not gone by any more.
TOO_OLD_S = 0.5
_NEVER = float("-inf")


class Renewed(ABC):
    """Something looked up in the database. One thread of the process looks at a time."""

    def __init__(self) -> None:
        self._good_until = _NEVER  # monotonic seconds
        self._n_forgotten = 0
        self._looking, self._dating = Lock(), Lock()
        self._thread: ThreadPoolExecutor | None = None

    @abstractmethod
    def _look(self, connection: Connection) -> float:
        """Look anew; for how many seconds that is good."""

    @property
    def is_fresh(self) -> bool:
        """Whether what is asked now is answered without a look into the database."""
        return time.monotonic() < self._good_until + TOO_OLD_S

    def forget(self) -> None:
        """Look anew before the next answer. A look that is under way does not count: it may have missed the reason."""
        with self._dating:
            self._n_forgotten += 1
            self._good_until = _NEVER

    def renew(self, begin: Begin) -> None:
        """Look anew in the background, if this process goes by a picture that is old."""
        if not self._good_until < time.monotonic() < self._good_until + TOO_OLD_S:
            return
        if not self._looking.acquire(blocking=False):
            return
        try:
            if self._thread is None:  # made where it is used: a process that forks takes no thread along
                self._thread = ThreadPoolExecutor(1, type(self).__name__)
            self._thread.submit(self._look_behind, begin)
        except RuntimeError:  # the process ends
            self._looking.release()

    def _ensure(self, connection: Connection) -> None:
        """Look, if there is no picture to go by. While another thread looks, an old one is good enough; the first one
        is waited for."""
        if self.is_fresh or not self._looking.acquire(blocking=self._good_until == _NEVER):
            return
        try:
            if not self.is_fresh:
                self._look_and_date(connection)
        finally:
            self._looking.release()

    def _look_behind(self, begin: Begin) -> None:
        try:
            with begin() as connection:
                self._look_and_date(connection)
        except (DBAPIError, PoolTimeout):
            pass  # the next claim tries again, or waits for its own look
        finally:
            self._looking.release()

    def _look_and_date(self, connection: Connection) -> None:
        n_forgotten = self._n_forgotten
        good_for_s = self._look(connection)
        with self._dating:
            if n_forgotten == self._n_forgotten:
                self._good_until = time.monotonic() + good_for_s
