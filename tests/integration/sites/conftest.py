"""Places as a file has them, on a database."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from panda.db.session import Begin, rows
from panda.sites import applying, siteinfo
from panda.sites.versions import Recorded

FILE = """
[sites.NORTH]
cloud = "EU"
[sites.SOUTH]
cloud = "EU"
[storages.NORTH-DISK]
site = "NORTH"
root = "/north"
[storages.SOUTH-DISK]
site = "SOUTH"
root = "/south"
[queues.NORTH-Q]
site = "NORTH"
storage = "NORTH-DISK"
cores = 8
memory_mb = 16000
disk_mb = 50000
walltime_s = 86400
tags = ["linux"]
[queues.SOUTH-Q]
site = "SOUTH"
storage = "SOUTH-DISK"
cores = 4
memory_mb = 8000
disk_mb = 50000
walltime_s = 86400
"""

Sync = Callable[..., Recorded]
Query = Callable[..., list[Any]]


@pytest.fixture
def sync(begin: Begin, tmp_path: Path) -> Sync:
    """`sync()`: the file is read as at a start; `sync(("cores = 8", "cores = 16"), more="[sites.X]")`: another one."""

    def read(*changed: tuple[str, str], more: str = "") -> Recorded:
        text = FILE + more
        for was, now in changed:
            assert was in text
            text = text.replace(was, now)
        path = tmp_path / "sites.toml"
        path.write_text(text)
        with begin() as connection:
            return applying.sync(connection, siteinfo.load_file(path), tmp_path / "data")

    return read


@pytest.fixture
def query(begin: Begin) -> Query:
    """Rows of any question."""

    def ask(sql: str, **values: Any) -> list[Any]:
        with begin() as connection:
            return rows(connection, sql, values)

    return ask
