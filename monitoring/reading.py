"""How a page reads: block by block, each in a short transaction of its own.

A block that is too slow, or a database that is away, costs the block, never the page.
"""

import threading
import time
from collections.abc import Callable, Hashable
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

    def __init__(self, keep_s: float = 2.0, limit: int = 64) -> None:
        self._keep_s, self._limit = keep_s, limit
        self._answers: dict[Hashable, tuple[float, Any]] = {}
        self._locks: dict[Hashable, threading.Lock] = {}
        self._guard = threading.Lock()

    def forget(self) -> None:
        """Somebody acted: what was remembered may be wrong now."""
        with self._guard:
            self._answers.clear()

    def of(self, key: Hashable, make: Callable[[], T], keep_s: float | None = None) -> T:
        """The remembered answer for `key`, or a new one; only one thread makes it. `keep_s`: as always, if None."""
        with self._guard:
            if len(self._answers) > self._limit:
                self._answers.clear()
                self._locks.clear()
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            made_at, answer = self._answers.get(key, (float("-inf"), None))
            if time.monotonic() - made_at > (self._keep_s if keep_s is None else keep_s):
                answer = make()
                self._answers[key] = (time.monotonic(), answer)
            return answer  # type: ignore[no-any-return]
