"""How a page reads: block by block, each in a short transaction of its own.

A block that is too slow, or a database that is away, costs the block, never the page.
"""

import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from panda.db.session import Begin
from panda.logs import Log

T = TypeVar("T")
log = Log("monitoring.reading")

#: A page's question to the database may take this long (law 8).
STATEMENT_TIMEOUT = "SET LOCAL statement_timeout = 2000"
QUERY_CANCELED = "57014"
TOO_SLOW, AWAY = "too slow", "unavailable"


class Block(Generic[T]):
    """What one question answered: a value, or the trouble that kept it away (`too slow`, `unavailable`).

    No dataclass, so that JSON gets `plain()` and not its two fields."""

    __slots__ = ("trouble", "value")

    def __init__(self, value: T | None = None, trouble: str | None = None) -> None:
        self.value, self.trouble = value, trouble

    def plain(self) -> Any:
        """For JSON: the value, or `{"trouble": …}`."""
        return self.value if self.trouble is None else {"trouble": self.trouble}


class Reader:
    """Asks the database for blocks."""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    def ask(self, question: Callable[[Connection], T]) -> T:
        """The answer of `question(connection)`.

        Raises:
            SQLAlchemyError: it took longer than 2 s, or the database is away.
        """
        with self._begin() as connection:
            connection.exec_driver_sql(STATEMENT_TIMEOUT)
            return question(connection)

    def block(self, question: Callable[[Connection], T]) -> Block[T]:
        """The answer, or the trouble."""
        try:
            return Block(self.ask(question))
        except SQLAlchemyError as problem:
            trouble = trouble_of(problem)
            log.warning("block not read", trouble=trouble, problem=str(problem).splitlines()[0])
            return Block(trouble=trouble)


def trouble_of(problem: SQLAlchemyError) -> str:
    """The word that a page shows for it."""
    is_slow = isinstance(problem, DBAPIError) and getattr(problem.orig, "sqlstate", None) == QUERY_CANCELED
    return TOO_SLOW if is_slow else AWAY


class Memory:
    """Answers that stay good for a moment, so that twenty viewers cost as much as one."""

    def __init__(self, keep_s: float = 2.0, limit: int = 64, clock: Callable[[], float] = time.monotonic) -> None:
        """`keep_s`: of an answer for which nothing else is said; 0: nothing is kept at all."""
        self._keep_s, self._limit, self._clock = keep_s, limit, clock
        self._answers: dict[Hashable, tuple[float, Any]] = {}
        self._locks: dict[Hashable, threading.Lock] = {}
        self._kept: dict[Hashable, Any] = {}
        self._guard = threading.Lock()
        self._behind = ThreadPoolExecutor(1, thread_name_prefix="memory")

    def forget(self) -> None:
        """Somebody acted: what was remembered may be wrong now."""
        with self._guard:
            self._answers.clear()

    def keep(self, key: Hashable, answer: Any) -> None:
        """Remember something for `last`."""
        self._kept[key] = answer

    def last(self, key: Hashable) -> Any:
        """What was kept last under this key, however old; None: nothing yet."""
        return self._kept.get(key)

    def of(self, key: Hashable, make: Callable[[], T], keep_s: float | None = None, stale_s: float = 0.0) -> T:
        """The remembered answer for `key`, or a new one; only one thread makes it.

        Args:
            keep_s: how long it is good; as always, if None.
            stale_s: for so much longer it is given away while a new one is made behind: then nobody waits for it.
        """
        good_s = 0.0 if not self._keep_s else self._keep_s if keep_s is None else keep_s
        with self._guard:
            if len(self._answers) > self._limit:
                self._answers.clear()
                self._locks.clear()
            lock = self._locks.setdefault(key, threading.Lock())
            known = self._answers.get(key)
        if known is not None and good_s and good_s < self._clock() - known[0] <= good_s + stale_s:
            if not lock.locked():
                self._behind.submit(self._made, key, make, lock, good_s)
            return known[1]  # type: ignore[no-any-return]
        return self._made(key, make, lock, good_s)

    def _made(self, key: Hashable, make: Callable[[], T], lock: threading.Lock, good_s: float) -> T:
        with lock:
            made_at, answer = self._answers.get(key, (float("-inf"), None))
            if self._clock() - made_at > good_s:
                answer = make()
                self._answers[key] = (self._clock(), answer)
            return answer  # type: ignore[no-any-return]
