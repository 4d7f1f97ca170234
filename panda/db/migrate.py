"""Bring a database to the newest revision."""

import time
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg.errors import DeadlockDetected, LockNotAvailable
from sqlalchemy import text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import OperationalError

from panda.db.session import make_engine
from panda.errors import Unavailable
from panda.logs import Log

log = Log("panda.migrate")

#: So long a change waits for a table, and everybody behind it.
LOCK_TIMEOUT_MS = 2_000
#: Between two tries, and until it is given up, seconds.
PAUSE_S, PATIENCE_S = 1.0, 600.0
#: pg_advisory_lock key: two systems that start at once migrate one after the other.
MIGRATION_LOCK = 7_000_002


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    return config


def upgrade(url: str, *, patience_s: float = PATIENCE_S) -> None:
    """Apply every revision that `url`'s database lacks. Safe to run from several processes at once, and while a
    system works on the database.

    A change of a table waits for whoever reads it, and everybody else waits behind the change. So it waits for a
    moment only, lets the others pass, and tries again.

    Raises:
        Unavailable: for `patience_s` seconds somebody held what a revision changes.
    """
    engine = make_engine(url, pool_size=2)
    try:
        with engine.connect().execution_options(isolation_level="READ COMMITTED") as connection:
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": MIGRATION_LOCK})
            connection.commit()
            try:
                connection.execute(text("SET statement_timeout = 0"))
                connection.execute(text(f"SET lock_timeout = {LOCK_TIMEOUT_MS}"))
                connection.commit()
                _apply(connection, time.monotonic() + patience_s)
            finally:
                connection.rollback()
                connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": MIGRATION_LOCK})
                connection.commit()
    finally:
        engine.dispose()


def _apply(connection: Connection, until: float) -> None:
    config = _config()
    config.attributes["connection"] = connection
    while True:
        try:
            command.upgrade(config, "head")
            connection.commit()
            return
        except OperationalError as problem:
            if not isinstance(problem.orig, LockNotAvailable | DeadlockDetected):
                raise
            connection.rollback()
            if time.monotonic() > until:
                raise Unavailable("the database cannot be migrated: somebody holds a table for too long") from problem
            log.warning("a migration waits for whoever holds a table", problem=str(problem.orig).split("\n")[0])
            time.sleep(PAUSE_S)


def is_current(connection: Connection) -> bool:
    """Whether the database has every revision that this code knows. It may have newer ones: while a system is
    upgraded, processes of both kinds run."""
    have = MigrationContext.configure(connection).get_current_revision()
    known = ScriptDirectory.from_config(_config())
    if have is None:
        return False
    return have == known.get_current_head() or have not in {each.revision for each in known.walk_revisions()}
