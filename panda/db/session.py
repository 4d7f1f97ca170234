"""Connections and transactions. One `begin()` is one decision: it commits whole or not at all.

The hot path speaks SQL through `rows()` and `run()`: constants of ours with psycopg's `%(name)s`
marks, which psycopg prepares on the server after a few uses. No ORM object and no statement that
is built per request (a claim costs 0.3 ms this way and ten times that through the ORM).
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from sqlalchemy import create_engine
from sqlalchemy.engine import Connection, Engine, Row
from sqlalchemy.pool import QueuePool

from panda.errors import ConfigError
from panda.settings import Settings

Begin = Callable[[], AbstractContextManager[Connection]]

#: PostgreSQL's limits for every transaction of ours (law 8); work is split to stay below them.
STATEMENT_TIMEOUT_S = 20
IDLE_IN_TRANSACTION_S = 15


def make_engine(url: str, pool_size: int = 8) -> Engine:
    """An engine for `postgresql://…`.

    Raises:
        ConfigError: the URL names another database.
    """
    if not url.startswith(("postgresql://", "postgres://")):
        raise ConfigError("PANDA_DATABASE_URL must start with postgresql://")
    options = (
        f"-c statement_timeout={STATEMENT_TIMEOUT_S * 1000} "
        f"-c idle_in_transaction_session_timeout={IDLE_IN_TRANSACTION_S * 1000} "
        "-c timezone=UTC -c jit=off -c plan_cache_mode=force_generic_plan"
    )
    return create_engine(
        "postgresql+psycopg://" + url.split("://", 1)[1],
        poolclass=QueuePool,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=5,
        pool_pre_ping=False,
        connect_args={"options": options, "connect_timeout": 5, "prepare_threshold": 2},
    )


def begin_of(engine: Engine) -> Begin:
    """A `begin()` for `engine`: commits at the end of the block, rolls back when it raises."""

    @contextmanager
    def begin() -> Iterator[Connection]:
        with engine.begin() as connection:
            yield connection

    return begin


def begin_from(settings: Settings) -> Begin:
    """`begin()` of a process of ours.

    Raises:
        ConfigError: no database is named; `panda up` names the embedded one to its processes.
    """
    url = settings.store.database_url
    if not url:
        raise ConfigError("no database: set PANDA_DATABASE_URL, or start everything with `panda up`")
    engine = make_engine(url, settings.store.pool_size)
    os.register_at_fork(after_in_child=lambda: engine.dispose(close=False))
    return begin_of(engine)


def rows(connection: Connection, sql: str, values: Mapping[str, Any] | None = None) -> list[Row[Any]]:
    """The rows that a constant statement answers with."""
    result = connection.exec_driver_sql(sql, dict(values or {}))
    return list(result.all())


def run(connection: Connection, sql: str, values: Mapping[str, Any] | None = None) -> int:
    """Execute a constant statement; returns how many rows it touched."""
    return connection.exec_driver_sql(sql, dict(values or {})).rowcount


def asynchronous(connection: Connection) -> None:
    """This transaction may be lost in a crash of PostgreSQL (law 7): heartbeats and define … activate."""
    connection.exec_driver_sql("SET LOCAL synchronous_commit = off")
