"""A whole installation on this machine, for tests: real processes, their state in one folder."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy.engine import Connection

from panda.client import Client
from panda.db.session import make_engine, rows
from panda.jobs import audit

#: Two sites with pilots; a third whose pilots are played by tests, and that takes only jobs that ask for it.
SITES = """
[sites.NORTH]
cloud = "LOCAL"
[sites.SOUTH]
cloud = "LOCAL"
[sites.WEST]
cloud = "LOCAL"

[storages.NORTH-DISK]
site = "NORTH"
kind = "local"
root = "storage/north"
[storages.SOUTH-DISK]
site = "SOUTH"
kind = "local"
root = "storage/south"
[storages.WEST-DISK]
site = "WEST"
kind = "local"
root = "storage/west"

[queues.NORTH-Q]
site = "NORTH"
storage = "NORTH-DISK"
cores = 2
memory_mb = 4000
disk_mb = 10000
walltime_s = 86400
submitter = "local"
max_pilots = 2
pilot_cores = 4
pilot_options = ["--grace-s", "1"]

[queues.SOUTH-Q]
site = "SOUTH"
storage = "SOUTH-DISK"
cores = 2
memory_mb = 4000
disk_mb = 10000
walltime_s = 86400
submitter = "local"
max_pilots = 2
pilot_cores = 4
pilot_options = ["--grace-s", "1"]

[queues.WEST-Q]
site = "WEST"
storage = "WEST-DISK"
status = "test"
cores = 2
memory_mb = 4000
disk_mb = 10000
walltime_s = 86400
submitter = "none"
"""

T = TypeVar("T")


class System:
    """An installation that runs. Made by `started`; whoever makes one calls `stop`."""

    def __init__(self, folder: Path, environ: Mapping[str, str], addresses: Mapping[str, Any]) -> None:
        self.folder = folder
        self.environ = dict(environ)
        self.api = str(addresses["api"])
        self.monitor = str(addresses["monitor"])
        self.token = (folder / "token").read_text().strip()
        self.pilot_token = (folder / "pilot-token").read_text().strip()
        self.client = Client(self.api, self.token)
        facts = json.loads((folder / "run" / "supervisor.json").read_text())
        self.redis_url = str(facts["redis_url"])
        self.database_url = str(facts["database_url"])

    @classmethod
    def started(cls, folder: Path, *, sites: str = SITES, **settings: object) -> "System":
        """`panda up --detach` in `folder`; `settings` as `engine_sweep_s=0.5`."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "sites.toml").write_text(sites)
        environ = clean_environ() | {f"PANDA_{name.upper()}": str(value) for name, value in settings.items()}
        done = local("up", "--data", str(folder), "--port", "0", "--detach", environ=environ)
        if done.returncode:
            local("down", "--data", str(folder))
            raise AssertionError(f"panda up failed: {done.stderr}")
        return cls(folder, environ, json.loads(done.stdout))

    def stop(self) -> None:
        """`panda down`; nothing of it may be left running."""
        self.client.close()
        done = local("down", "--data", str(self.folder))
        assert done.returncode == 0, done.stderr
        left = await_that(lambda: not self.left_running() or None, 10, lambda: f"still there: {self.left_running()}")
        assert left

    def left_running(self) -> dict[int, str]:
        """Processes of this machine that know our folder, by pid."""
        return {pid: words for pid, words in _processes_that_name(self.folder)}

    def pid(self, name: str) -> int:
        """The process that runs under this name now."""
        return int(json.loads((self.folder / "run" / f"{name}.json").read_text())["pid"])

    def children(self, name: str) -> list[int]:
        """The processes that it started, e.g. a Celery worker's pool."""
        pid = self.pid(name)
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def pilots(self) -> dict[str, int]:
        """Pids of the pilots that run, by pilot id."""
        found = {}
        for file in (self.folder / "pilots").glob("*.json"):
            try:
                pid = int(json.loads(file.read_text())["pid"])
            except (OSError, ValueError):
                continue  # gone meanwhile, or half written
            if Path(f"/proc/{pid}").exists():
                found[file.stem] = pid
        return found

    def query(self, sql: str, **values: Any) -> list[Any]:
        """Rows of any question to the database."""
        with self._connected() as connection:
            return rows(connection, sql, values)

    def findings(self) -> list[audit.Finding]:
        """Invariants that do not hold, over every job."""
        with self._connected() as connection:
            return audit.audit(connection, everything=True)

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        """A connection of its own: the database may have been killed since the last one."""
        engine = make_engine(self.database_url, pool_size=1)
        try:
            with engine.begin() as connection:
                yield connection
        finally:
            engine.dispose()

    def panda(self, *words: str, stdin: str = "", folder: Path | None = None) -> "subprocess.CompletedProcess[str]":
        """The `panda` command, as a person at this machine calls it."""
        environ = clean_environ() | {"PANDA_URL": self.api, "PANDA_TOKEN": self.token, "HOME": str(self.folder)}
        return subprocess.run(
            [sys.executable, "-m", "panda.cli.main", *words], input=stdin, capture_output=True, text=True,
            env=environ, cwd=folder or self.folder, timeout=60,
        )  # fmt: skip


def clean_environ() -> dict[str, str]:
    """The environment without anybody's PANDA_ variables."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PANDA_")}


def local(*words: str, environ: Mapping[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    """`panda up`, `panda down`."""
    return subprocess.run(
        [sys.executable, "-m", "panda.local", *words], capture_output=True, text=True,
        env=environ or clean_environ(), timeout=120,
    )  # fmt: skip


def await_that(
    look: Callable[[], T | None], within_s: float, otherwise: Callable[[], object] = lambda: "it did not come true"
) -> T:
    """What `look` answers as soon as that is something; fails with `otherwise()` when the time is up."""
    deadline = time.monotonic() + within_s
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, otherwise()
        time.sleep(0.05)


def _processes_that_name(folder: Path) -> list[tuple[int, str]]:
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            environ = (entry / "environ").read_bytes()
            place = os.readlink(entry / "cwd")
        except OSError:
            continue  # it ended meanwhile, or is not ours to look at
        if words and (str(folder) in words or os.fsencode(folder) in environ or place.startswith(str(folder))):
            found.append((int(entry.name), words))
    return found
