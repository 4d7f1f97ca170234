"""Connections and transactions. One `begin()` is one decision: it commits whole or not at all.

The hot path speaks SQL through `rows()` and `run()`: constants of ours with psycopg's `%(name)s`
marks, which psycopg prepares on the server after a few uses. They go straight to psycopg on the
connection that SQLAlchemy pools: a statement costs 0.1 ms this way, nearly twice that through SQLAlchemy's
own cursor, and ten times as much through the ORM. Transactions are begun and ended here as well, for the same
reason; to SQLAlchemy its connections commit each statement by itself.
"""

import os
import select
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from threading import BoundedSemaphore
from typing import Any, cast

import msgspec
import psycopg
from psycopg.errors import FeatureNotSupported, error_from_result
from psycopg.pq import ExecStatus, TransactionStatus
from psycopg.rows import namedtuple_row
from psycopg.types.json import set_json_loads
from sqlalchemy import create_engine, event
from sqlalchemy.engine import Connection, Engine, Row
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import QueuePool

from panda.db import arrays
from panda.errors import ConfigError
from panda.settings import Settings

Begin = Callable[[], AbstractContextManager[Connection]]

#: PostgreSQL's limits for every transaction of ours (law 8); work is split to stay below them.
STATEMENT_TIMEOUT_S = 5
IDLE_IN_TRANSACTION_S = 10
#: Whoever wants a connection waits this long for one.
POOL_TIMEOUT_S = 5.0
#: For questions about everything (`panda audit`, migrations), which only a person or a slow clock asks.
UNHURRIED_S = 120
#: A plan is made once and kept. One that was made while the hot tables were empty would scan them from
#: end to end for as long as nobody counted their rows anew, so plans never look at a whole table; and each of
#: our statements names the rows that it wants by `= ANY(…)`, since a mere join leaves the planner that choice
#: (tests/integration/db asks every one of them). Without bitmaps, rows are met in the order of their index. A scan of a
#: small table that cannot be avoided looks so dear now that PostgreSQL would start processes to help it, each time.
PLANS = (
    "-c plan_cache_mode=force_generic_plan -c jit=off "
    "-c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off -c enable_bitmapscan=off "
    "-c max_parallel_workers_per_gather=0"
)


def make_engine(url: str, pool_size: int = 8) -> Engine:
    """An engine for `postgresql://…`; what its connections execute commits by itself unless `begin()` says otherwise.

    Raises:
        ConfigError: the URL names another database.
    """
    if not url.startswith(("postgresql://", "postgres://")):
        raise ConfigError("PANDA_DATABASE_URL must start with postgresql://")
    options = (
        f"-c statement_timeout={STATEMENT_TIMEOUT_S * 1000} "
        f"-c idle_in_transaction_session_timeout={IDLE_IN_TRANSACTION_S * 1000} "
        f"-c timezone=UTC {PLANS}"
    )
    engine = create_engine(
        "postgresql+psycopg://" + url.split("://", 1)[1],
        poolclass=QueuePool,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=POOL_TIMEOUT_S,
        pool_pre_ping=False,
        isolation_level="AUTOCOMMIT",
        pool_reset_on_return=None,  # whoever begins also ends
        connect_args={"options": options, "connect_timeout": 5, "prepare_threshold": 2},
    )
    event.listen(engine, "connect", _speak_quickly)
    event.listen(engine, "checkout", _refuse_the_dead)
    return engine


def _speak_quickly(connection: psycopg.Connection[Any], *_: object) -> None:
    """How values travel, where psycopg's own way costs several times as much."""
    arrays.register(connection)
    set_json_loads(msgspec.json.decode, connection)


def _refuse_the_dead(connection: psycopg.Connection[Any], *_: object) -> None:
    """The pool opens another one then."""
    if not _is_fresh(connection):
        raise DisconnectionError("the server closed the connection")


def _is_fresh(connection: psycopg.Connection[Any]) -> bool:
    """An idle connection has nothing to read, unless its server went away since.

    It costs microseconds and no round trip; without it each process pays for a restart of PostgreSQL with
    the first thing that it tries afterwards."""
    if connection.closed or connection.pgconn.transaction_status != TransactionStatus.IDLE:
        return False
    readable = select.poll()
    readable.register(connection.fileno(), select.POLLIN)
    return not readable.poll(0)


class Lender:
    """Connections between two uses. SQLAlchemy makes them, and would do a good deal of bookkeeping for each use; here
    they stay as they are, the one that was used last comes first, and as many are in use as the pool has places."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._free: list[Connection] = []
        self._room = BoundedSemaphore(cast(QueuePool, engine.pool).size())
        event.listen(engine, "engine_disposed", lambda _: self._close())

    @contextmanager
    def lend(self) -> Iterator[Connection]:
        """One for the block.

        Raises:
            TimeoutError: SQLAlchemy's; none became free in time.
        """
        if not self._room.acquire(timeout=POOL_TIMEOUT_S):
            raise PoolTimeout(f"no connection to the database became free within {POOL_TIMEOUT_S:g} s")
        try:
            connection = self._fresh()
            try:
                yield connection
            finally:
                self._take_back(connection)
        finally:
            self._room.release()

    def _fresh(self) -> Connection:
        while self._free:
            try:
                connection = self._free.pop()
            except IndexError:  # another thread took the last one
                break
            if _is_fresh(_ours(connection)):
                return connection
            connection.invalidate()
            connection.close()
        return self._engine.connect()

    def _take_back(self, connection: Connection) -> None:
        if connection.in_transaction():  # of SQLAlchemy's making, for a statement that went through it
            connection.rollback()
        if connection.invalidated or connection.closed:
            connection.close()
        else:
            self._free.append(connection)

    def _close(self) -> None:
        while self._free:
            connection = self._free.pop()
            connection.invalidate()
            connection.close()

    def forget(self) -> None:
        """In a child after a fork: what its parent has is the parent's, and is not even closed here."""
        _PARENTS.append(self._free)
        self._free = []
        self._engine.dispose(close=False)


_PARENTS: list[list[Connection]] = []


def begin_of(engine: Engine) -> Begin:
    """A `begin()` for `engine`: commits at the end of the block, rolls back when it raises."""
    lender = Lender(engine)

    @contextmanager
    def begin() -> Iterator[Connection]:
        with lender.lend() as connection:
            _say(connection, b"BEGIN")
            try:
                yield connection
            except BaseException:
                if not connection.invalidated:
                    with suppress(DBAPIError):  # why the block ended is what the caller wants to know
                        _say(connection, b"ROLLBACK")
                raise
            _say(connection, b"COMMIT")

    setattr(begin, _LENDER, lender)
    return begin


_LENDER = "panda_lender"


def once(begin: Begin) -> AbstractContextManager[Connection]:
    """For a block of one statement, or of some that need not commit together: each commits by itself, and
    saves the two round trips of a transaction around it."""
    lender: Lender | None = getattr(begin, _LENDER, None)
    return lender.lend() if lender else begin()


def begin_from(settings: Settings) -> Begin:
    """`begin()` of a process of ours.

    Raises:
        ConfigError: no database is named; `panda up` names the embedded one to its processes.
    """
    url = settings.store.database_url
    if not url:
        raise ConfigError("no database: set PANDA_DATABASE_URL, or start everything with `panda up`")
    begin = begin_of(make_engine(url, settings.store.pool_size))
    os.register_at_fork(after_in_child=getattr(begin, _LENDER).forget)
    return begin


def rows(connection: Connection, sql: str, values: Mapping[str, Any] | None = None) -> list[Row[Any]]:
    """The rows that a constant statement answers with: named tuples.

    Raises:
        DBAPIError: SQLAlchemy's, by kind, as from its own cursor; a connection that was lost is not used again.
    """
    # Row is what SQLAlchemy calls a named tuple; of the two, only what they share is used.
    return cast("list[Row[Any]]", _execute(connection, sql, values).fetchall())


def run(connection: Connection, sql: str, values: Mapping[str, Any] | None = None) -> int:
    """Execute a constant statement; returns how many rows it touched. Raises as `rows` does."""
    return _execute(connection, sql, values).rowcount


def commit(connection: Connection) -> None:
    """What this transaction did so far is done; the block goes on in a new one."""
    _say(connection, b"COMMIT AND CHAIN")


def roll_back(connection: Connection) -> None:
    """What this transaction did so far never was; the block goes on in a new one."""
    _say(connection, b"ROLLBACK AND CHAIN")


@contextmanager
def undone(connection: Connection, *, if_: bool = True) -> Iterator[None]:
    """What the block does is tried, and undone at its end: a dry run goes the same way as the deed. What the
    transaction did before stands."""
    if not if_:
        yield
        return
    _say(connection, b"SAVEPOINT undone")
    try:
        yield
    finally:
        _say(connection, b"ROLLBACK TO SAVEPOINT undone")


def asynchronous(connection: Connection) -> None:
    """This transaction may be lost in a crash of PostgreSQL (law 7): heartbeats and define … activate."""
    _say(connection, b"SET LOCAL synchronous_commit = off")


def unhurried(connection: Connection) -> None:
    """This transaction asks about whole tables: the planner's whole toolbox, and minutes rather than seconds."""
    run(connection, f"SET LOCAL statement_timeout = '{UNHURRIED_S}s'")
    run(connection, "SET LOCAL plan_cache_mode = force_custom_plan")
    for kind in ("seqscan", "bitmapscan", "hashjoin", "mergejoin"):
        run(connection, f"SET LOCAL enable_{kind} = on")
    run(connection, "SET LOCAL max_parallel_workers_per_gather = 2")


def _execute(connection: Connection, sql: str, values: Mapping[str, Any] | None) -> psycopg.Cursor[Any]:
    cursor = _cursor(connection)
    try:
        return cursor.execute(sql, values or {})
    except psycopg.Error as problem:
        raise _told(connection, sql, problem) from problem


def _cursor(connection: Connection) -> psycopg.Cursor[Any]:
    """The connection's own: what it learned about types of values and about rows serves all its statements."""
    known = connection.connection.info
    cursor: psycopg.Cursor[Any] | None = known.get(_CURSOR)
    if cursor is None:
        cursor = known[_CURSOR] = _ours(connection).cursor(row_factory=namedtuple_row)
    return cursor


_CURSOR = "panda_cursor"


def _say(connection: Connection, words: bytes) -> None:
    """A word about the transaction. It has no values and no rows, so it goes by libpq's shortest way."""
    ours = _ours(connection)
    try:
        result = ours.pgconn.exec_(words)
        if result.status != ExecStatus.COMMAND_OK:
            problem = error_from_result(result)
            raise psycopg.OperationalError(str(problem)) if ours.closed else problem
        if result.command_status == b"ROLLBACK" and words.startswith(b"COMMIT"):
            raise psycopg.InternalError("a statement had failed, so nothing was committed")
    except psycopg.Error as problem:
        raise _told(connection, words.decode(), problem) from problem


def _is_outdated(problem: psycopg.Error) -> bool:
    """A revision added a column to what a prepared `SELECT *` shows: PostgreSQL refuses that plan on this connection
    for ever, and makes a new one on the next."""
    return isinstance(problem, FeatureNotSupported) and problem.diag.source_function == "RevalidateCachedQuery"


def _told(connection: Connection, sql: str, problem: psycopg.Error) -> DBAPIError:
    """SQLAlchemy's error for psycopg's. A connection that is lost is not used again."""
    ours = _ours(connection)
    is_lost = ours.closed or ours.broken or _is_outdated(problem)
    if is_lost:
        connection.invalidate(problem)
        connection.engine.dispose()  # the others in the pool went with it
    told = DBAPIError.instance(sql, None, problem, psycopg.Error, connection_invalidated=is_lost)
    return cast(DBAPIError, told)


def _ours(connection: Connection) -> psycopg.Connection[Any]:
    return cast("psycopg.Connection[Any]", connection.connection.dbapi_connection)
