"""The real PostgreSQL for every test that asks for `begin`: one server per test process, one database per test."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

import hypothesis
import pytest
from xdist.scheduler import LoadScopeScheduling

from panda import collector
from panda import settings as settings_module
from panda.db import migrate
from panda.db.session import Begin, begin_of, make_engine
from panda.local.postgres import EmbeddedPostgres
from panda.settings import Settings

#: A file system in memory, and the room that it must have.
MEMORY = Path("/dev/shm")
ROOM_BYTES = 8 * 1024**3


def _live_in_memory() -> None:
    """Temporary files of the tests and of all that they start never reach a disk, if there is room: a database per
    test is 700 files, made and removed, an installation 50 MB that wait for the disk again and again. Whoever sets
    TMPDIR has it otherwise."""
    with suppress(OSError):
        if "TMPDIR" not in os.environ and shutil.disk_usage(MEMORY).free > ROOM_BYTES and os.access(MEMORY, os.W_OK):
            os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)


_live_in_memory()
_numbers = count()

# No test asserts a time; a busy machine is no reason to fail.
hypothesis.settings.register_profile("panda", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("panda")

#: Folders whose tests share one installation of real processes: one worker of pytest-xdist runs all of each.
ONE_INSTALLATION = ("tests/acceptance", "tests/faults", "tests/browser", "tests/browser/troubles")


class ByInstallation(LoadScopeScheduling):
    """`--dist loadgroup` by folder. (xdist 3.8 reads its group marks, and pytest 9.2 does not let it use them.)"""

    def _split_scope(self, nodeid: str) -> str:
        folder = nodeid.partition("::")[0].rpartition("/")[0]
        return folder if folder in ONE_INSTALLATION else nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> ByInstallation | None:
    """Our own scheduler where `--dist loadgroup` is asked for."""
    return ByInstallation(config, log) if config.getoption("dist") == "loadgroup" else None


def pytest_collection_finish() -> None:
    """Ten thousand tests are half a million objects, which nobody has to look through again and again."""
    collector.spare()


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No PANDA_ variable of whoever runs the tests reaches them."""
    for name in list(os.environ):
        if name.startswith("PANDA_"):
            monkeypatch.delenv(name)
    settings_module.current.cache_clear()
    yield
    settings_module.current.cache_clear()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A server with a migrated database `template_panda` to copy from."""
    server = EmbeddedPostgres(tmp_path_factory.mktemp("postgres"), fsync=False)
    server.start()
    migrate.upgrade(server.create_database("template_panda"))
    yield server
    server.stop()


@pytest.fixture
def database_url(postgres: EmbeddedPostgres) -> Iterator[str]:
    """A fresh database with every table."""
    name = f"test_{next(_numbers)}"
    yield postgres.create_database(name, template="template_panda")
    postgres.drop_database(name)


@pytest.fixture
def begin(database_url: str) -> Iterator[Begin]:
    """`begin()` on a fresh database."""
    engine = make_engine(database_url, pool_size=20)
    yield begin_of(engine)
    engine.dispose()


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    """Settings as a process of ours would have them."""
    return settings_module.load([], {"PANDA_DATABASE_URL": database_url, "PANDA_DATA_DIR": str(tmp_path / "data")})


@pytest.fixture
def by_hand() -> None:
    """This test writes rows that the engine never would: the auditor is not asked."""
