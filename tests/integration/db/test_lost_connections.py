"""What a restart of PostgreSQL leaves in the pool."""

import psycopg
import pytest
from livesystem import await_that

from panda.db.session import begin_of, make_engine, rows

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
