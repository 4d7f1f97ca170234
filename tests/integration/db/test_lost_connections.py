"""What a restart of PostgreSQL leaves in the pool, and a commit that was none."""

from contextlib import suppress

import psycopg
import pytest
from livesystem import await_that
from sqlalchemy.exc import DBAPIError, OperationalError

from panda.db.session import begin_of, make_engine, rows, run

PID = "SELECT pg_backend_pid() AS pid"


@pytest.fixture
def engine(database_url):
    engine = make_engine(database_url, pool_size=2)
    yield engine
    engine.dispose()


def test_a_connection_that_died_while_it_was_idle_is_not_handed_out(engine, database_url):
    begin = begin_of(engine)
    with begin() as one, begin() as other:
        before = {rows(one, PID)[0].pid, rows(other, PID)[0].pid}

    with psycopg.connect(database_url, autocommit=True) as admin:
        admin.execute("SELECT pg_terminate_backend(pid) FROM unnest(%s::int[]) AS pid", [list(before)])
        alive = "SELECT 1 FROM pg_stat_activity WHERE pid = ANY(%s)"
        await_that(lambda: not admin.execute(alive, [list(before)]).fetchall(), 10)
    with begin() as one, begin() as other:
        after = {rows(one, PID)[0].pid, rows(other, PID)[0].pid}

    assert len(after) == 2
    assert not before & after


def test_a_database_that_dies_before_the_commit_is_a_database_that_is_away(engine, database_url):
    begin = begin_of(engine)

    def cut_off():
        with begin() as connection:
            run(connection, "INSERT INTO engine_state (key, value) VALUES ('test.cut', 'off')")
            pid = rows(connection, PID)[0].pid
            with psycopg.connect(database_url, autocommit=True) as admin:
                admin.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])

    with pytest.raises(OperationalError) as raised:
        cut_off()

    assert raised.value.connection_invalidated
    with begin() as connection:
        assert rows(connection, "SELECT 1 FROM engine_state WHERE key = 'test.cut'") == []


def test_a_commit_of_a_transaction_that_had_failed_is_no_commit(engine):
    begin = begin_of(engine)

    def swallow():
        with begin() as connection:
            run(connection, "INSERT INTO engine_state (key, value) VALUES ('test.swallowed', 'x')")
            with suppress(DBAPIError):
                rows(connection, "SELECT 1 / 0")

    with pytest.raises(DBAPIError, match="nothing was committed"):
        swallow()

    with begin() as connection:
        assert rows(connection, "SELECT 1 FROM engine_state WHERE key = 'test.swallowed'") == []
