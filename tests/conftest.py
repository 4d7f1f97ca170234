"""The real PostgreSQL for every test that asks for `begin`: one server per test process, one database per test."""

import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from panda import settings as settings_module
from panda.db import migrate
from panda.db.session import Begin, begin_of, make_engine
from panda.local.postgres import EmbeddedPostgres
from panda.settings import Settings

_numbers = count()


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
