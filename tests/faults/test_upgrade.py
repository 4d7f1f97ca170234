"""F32. A newer database, newer messages and older processes, all at once, under load."""

import os
import shutil
import signal
import urllib.request
from pathlib import Path

import pytest
from celery import Celery
from integration.db.test_migrations import REVISION
from livesystem import await_that

from panda.db import migrate
from panda.settings import REDIS_KEY_PREFIX


@pytest.fixture
def newer_revision(tmp_path, monkeypatch):
    """What the processes of the system do not know."""
    head = migrate.ScriptDirectory.from_config(migrate._config()).get_current_head()
    folder = tmp_path / "migrations"
    shutil.copytree(Path(migrate.__file__).parent / "migrations", folder)
    (folder / "versions" / "test.py").write_text(REVISION.format(head=head))
    config = migrate._config()
    config.set_main_option("script_location", str(folder))
    monkeypatch.setattr(migrate, "_config", lambda: config)


def test_a_migration_under_load_is_only_a_delay_and_old_processes_start_on_it(system, load, newer_revision):
    accepted = load.in_the_middle()

    migrate.upgrade(system.database_url)
    also = load.submit()
    for name in ("api", "relay", "stages", "data", "beat"):  # they come back as the code that they are
        os.kill(system.pid(name), signal.SIGKILL)

    await_that(lambda: is_ready(system.api), 60)
    for each in (accepted, also):
        load.finishes(each)


def test_messages_of_another_version_do_no_harm(system, load):
    relay = system.pid("relay")
    accepted = load.submit(3)
    ids = list(range(accepted.first_panda_id, accepted.last_panda_id + 1))
    await_that(lambda: len(list(system.client.jobset_jobs(accepted.jobset_id))) == 3, 30)
    with Celery("newer", broker=system.redis_url, set_as_current=False) as newer:
        newer.conf.broker_transport_options = {"global_keyprefix": REDIS_KEY_PREFIX}
        for lane, name in (("stages", "define"), ("final", "archive"), ("data", "transfer")):
            newer.send_task(f"panda.{name}", [ids, "of", "the"], {"future": {"n": 1}}, queue=lane, headers={"v": 99})
        newer.send_task("panda.of_the_future", [ids], queue="stages")

    load.finishes(accepted)
    assert system.pid("relay") == relay


def is_ready(url):
    """Whether the API says so."""
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False
