"""A newer revision comes to a database that is at work: F32. Processes of both kinds go on."""

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from integration.engine.conftest import world
from livesystem import await_that
from sqlalchemy.exc import DBAPIError

from panda.api.errors import RETRYABLE
from panda.db import migrate
from panda.db.session import rows
from panda.errors import Unavailable
from panda.jobs import bulk, queries

__all__ = ["world"]

#: Harmless, and wide: a column for whatever every job passes through, a table, an index.
REVISION = """
from alembic import op

revision, down_revision, branch_labels, depends_on = "test", "{head}", None, None


def upgrade():
    for table in ("jobs", "jobs_archive", "job_due", "ready", "leases", "jobsets", "attempts", "bulk_actions", "files"):
        op.execute(f"ALTER TABLE {{table}} ADD COLUMN of_the_future text NOT NULL DEFAULT 'x'")
    op.execute("CREATE TABLE of_the_future (n int PRIMARY KEY)")
    op.execute("CREATE INDEX jobs_of_the_future ON jobs (of_the_future)")
"""


@pytest.fixture
def newer(tmp_path, monkeypatch):
    """From now on there is a revision that the running code does not know. Its name."""
    head = migrate.ScriptDirectory.from_config(migrate._config()).get_current_head()
    folder = tmp_path / "migrations"
    shutil.copytree(Path(migrate.__file__).parent / "migrations", folder)
    (folder / "versions" / "test.py").write_text(REVISION.format(head=head))
    config = migrate._config()
    config.set_main_option("script_location", str(folder))
    old = migrate._config
    monkeypatch.setattr(migrate, "_config", lambda: config)
    return lambda: monkeypatch.setattr(migrate, "_config", old)


def test_a_newer_revision_comes_while_every_stage_and_pilots_are_at_work(world, newer, database_url):
    """The code that runs has its statements prepared; none may break because a table grew."""
    stop, problems = threading.Event(), []

    def work(nr):
        ids = world.jobs(5, brokerage={"sites": ["NORTH"]})
        world.turn()
        for job in world.acquire(5, queue="NORTH-Q", pilot_id=f"p{nr}"):
            world.report(job, "running")
            world.beat(job)
            world.report(job, "finished")
        with world.begin() as connection:
            queries.jobset(connection, 1)
            queries.made_or_promised(connection, queries.JOBS, ids[0])
            bulk.begin_at_once(
                connection, "cancel", f"jobset:{ids[0]}", stage=None, by="alice", reason="", request_id=None
            )
            bulk.advance(connection)
        world.sweep()

    def go_on(nr):
        while not stop.is_set() and not problems:
            try:
                work(nr)
            except DBAPIError as problem:  # a deadlock with the change of a table: a 503, and it comes again
                if not problem.connection_invalidated and not problem.orig.sqlstate.startswith(RETRYABLE):
                    problems.append(problem)
            except Exception as problem:  # told by the test itself
                problems.append(problem)

    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(go_on, nr) for nr in range(2)]
        n_archived = "SELECT count(*)::int AS n FROM jobs_archive"
        await_that(lambda: world.query(n_archived)[0].n > 10 or problems, 60)
        migrate.upgrade(database_url)
        before = world.query(n_archived)[0].n
        await_that(lambda: world.query(n_archived)[0].n > before + 20 or problems, 60)
        stop.set()
        for each in running:
            each.result(60)

    assert problems == []
    newer()  # what runs is the old code: to it the database is good, also after a restart
    with world.begin() as connection:
        assert migrate.is_current(connection)
        assert rows(connection, "SELECT of_the_future FROM jobs_archive LIMIT 1")[0].of_the_future == "x"
    world.settle()


def test_a_migration_that_waits_for_a_table_lets_the_others_pass(newer, database_url):
    with psycopg.connect(database_url) as backup, psycopg.connect(database_url, autocommit=True) as worker:
        backup.execute("SELECT 1 FROM jobs")  # a backup reads for hours
        worker.execute("SET statement_timeout = '20s'")
        with ThreadPoolExecutor(1) as pool:
            migrating = pool.submit(migrate.upgrade, database_url)
            waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'ALTER TABLE%'"
            for _ in range(2):
                await_that(lambda: worker.execute(waits).fetchone(), 30)
                worker.execute("SELECT 1 FROM jobs")
            backup.rollback()
            migrating.result(60)

        assert worker.execute("SELECT of_the_future FROM jobs").fetchall() == []


def test_a_migration_that_waits_for_too_long_says_so_and_changes_nothing(newer, database_url):
    with psycopg.connect(database_url) as backup, psycopg.connect(database_url, autocommit=True) as worker:
        backup.execute("SELECT 1 FROM attempts")  # not the first table of the revision
        with pytest.raises(Unavailable, match="too long"):
            migrate.upgrade(database_url, patience_s=0.0)

        columns = "SELECT 1 FROM information_schema.columns WHERE column_name = 'of_the_future'"
        assert worker.execute(columns).fetchall() == []
