"""A whole installation on this machine, for tests: real processes, their state in one folder."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

from panda.chaos.system import System as OfTheLab
from panda.chaos.system import local as run_local
from panda.client import Client

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


class System(OfTheLab):
    """An installation that runs, with a client. Made by `started`; whoever makes one calls `stop`."""

    def __init__(self, folder: Path, environ: Mapping[str, str], addresses: Mapping[str, Any]) -> None:
        super().__init__(folder, environ, addresses)
        self.client = Client(self.api, self.token)

    @classmethod
    def started(
        cls, folder: Path, environ: Mapping[str, str] | None = None, *, sites: str = SITES, **settings: object
    ) -> Self:
        """`panda up --detach` in `folder`; `settings` as `engine_sweep_s=0.5`."""
        return super().started(folder, clean_environ() | dict(environ or {}), sites=sites, settings=settings)

    def stop(self) -> "subprocess.CompletedProcess[str]":
        """`panda down`; nothing of it may be left running."""
        self.client.close()
        done = super().stop()
        assert done.returncode == 0, done.stderr
        assert await_that(lambda: not self.left_running(), 10, lambda: f"still there: {self.left_running()}")
        return done

    def left_running(self) -> dict[int, str]:
        """Processes of this machine that know our folder, by pid."""
        return dict(_processes_that_name(self.folder))

    def children(self, name: str) -> list[int]:
        """The processes that it started itself, e.g. a Celery worker's pool."""
        pid = self.pid(name)
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

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
    return run_local(*words, environ=environ or clean_environ())


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
