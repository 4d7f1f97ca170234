"""An installation of somebody's own: started, looked into, and stopped."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import psycopg
from psycopg.rows import namedtuple_row

from panda.db.session import begin_of, make_engine
from panda.errors import Unavailable
from panda.jobs import audit

#: Clocks run fast in the lab, so that many faults fit into few minutes; no guard depends on their length.
SETTINGS: Mapping[str, object] = {
    "dispatcher_lease_s": 8, "dispatcher_heartbeat_s": 2, "data_transfer_lease_s": 4,
    "engine_visibility_s": 15, "engine_hard_limit_s": 12, "engine_resend_s": 28, "api_threads": 12,
}  # fmt: skip
#: Where real pilots run real payloads, and where the lab plays the pilots.
SITES = """
[sites.REAL]
cloud = "LOCAL"
[sites.PLAYED]
cloud = "LOCAL"
[storages.REAL-DISK]
site = "REAL"
kind = "local"
root = "storage/real"
[storages.PLAYED-DISK]
site = "PLAYED"
kind = "local"
root = "storage/played"

[queues.REAL-Q]
site = "REAL"
storage = "REAL-DISK"
cores = 2
memory_mb = 4000
disk_mb = 10000
walltime_s = 86400
submitter = "local"
max_pilots = 2
pilot_cores = 2
pilot_options = ["--grace-s", "1"]

[queues.PLAYED-Q]
site = "PLAYED"
storage = "PLAYED-DISK"
cores = 64
memory_mb = 64000
disk_mb = 100000
walltime_s = 86400
submitter = "none"
"""
#: Folders on disks of their own, in memory. That of the database holds its log (at most 2 GB) too.
DISKS_MB: Mapping[str, int] = {"spool": 24, "redis": 64, "postgres": 3000}
#: So much memory must be free beside such a disk.
SPARE_MB = 4000


class System:
    """A whole system in `folder`: its processes, its stores. Made by `started`; whoever makes one calls `stop`.

    The lab breaks one, and the tests of whole systems run on one too."""

    def __init__(self, folder: Path, environ: Mapping[str, str], addresses: Mapping[str, Any]) -> None:
        self.folder = folder
        self.environ = dict(environ)
        self.api, self.monitor = str(addresses["api"]), str(addresses["monitor"])
        self.token = (folder / "token").read_text().strip()
        self.pilot_token = (folder / "pilot-token").read_text().strip()
        facts = json.loads((folder / "run" / "supervisor.json").read_text())
        self.database_url, self.redis_url = str(facts["database_url"]), str(facts["redis_url"])

    @classmethod
    def started(
        cls,
        folder: Path,
        environ: Mapping[str, str],
        *,
        sites: str = SITES,
        settings: Mapping[str, object] = SETTINGS,
        disks_mb: Mapping[str, int] | None = None,
    ) -> Self:
        """`panda up` in `folder`.

        Args:
            settings: as `engine_sweep_s`.
            disks_mb: folders of it that lie on disks of their own, which can be filled; where we may mount any.
        Raises:
            Unavailable: it does not start.
        """
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "sites.toml").write_text(sites)
        environ = dict(environ) | {f"PANDA_{name.upper()}": str(value) for name, value in settings.items()}
        for name, size_mb in (disks_mb or {}).items():
            _mount(folder / name, size_mb)
        done = local("up", "--data", str(folder), "--port", "0", "--detach", environ=environ)
        if done.returncode:
            local("down", "--data", str(folder), environ=environ)
            _unmount_all(folder)
            raise Unavailable(f"the system does not start: {done.stderr[-2000:]}")
        return cls(folder, environ, json.loads(done.stdout))

    def stop(self) -> "subprocess.CompletedProcess[str]":
        """`panda down`; what stands still is woken first."""
        for pid in self.everyone():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        done = local("down", "--data", str(self.folder), environ=self.environ)
        _unmount_all(self.folder)
        return done

    def has_disk(self, name: str) -> bool:
        """Whether this folder lies on a disk of its own."""
        return (self.folder / name).is_mount()

    def pid(self, name: str) -> int:
        """The process that runs under this name of the Procfile (or `postgres`, `redis`) now; 0: none."""
        try:
            pid = int(json.loads((self.folder / "run" / f"{name}.json").read_text())["pid"])
        except (OSError, ValueError, KeyError):
            return 0
        return pid if Path(f"/proc/{pid}").exists() else 0

    def below(self, name: str) -> list[int]:
        """A process and everything that it started, itself first; empty when it does not run."""
        pid = self.pid(name)
        return [pid, *descendants(pid)] if pid else []

    def pilots(self) -> dict[str, int]:
        """Pids of the real pilots that run, by pilot id."""
        found = {}
        for file in sorted((self.folder / "pilots").glob("*.json")):
            with suppress(OSError, ValueError, KeyError):  # gone meanwhile, or half written
                pid = int(json.loads(file.read_text())["pid"])
                if Path(f"/proc/{pid}").exists():
                    found[file.stem] = pid
        return found

    def everyone(self) -> list[int]:
        """Every process of the installation, the supervisor aside."""
        names = [file.stem for file in (self.folder / "run").glob("*.json") if file.stem != "supervisor"]
        return [pid for name in names for pid in self.below(name)] + list(self.pilots().values())

    def query(self, sql: str, **values: Any) -> list[Any]:
        """Rows of any question, on a connection of its own: the database may have been killed since the last one.

        Raises psycopg.Error."""
        with psycopg.connect(self.database_url, row_factory=namedtuple_row, connect_timeout=5, autocommit=True) as own:
            asked = own.execute(sql, values)
            return asked.fetchall() if asked.description else []

    def findings(self) -> list[audit.Finding]:
        """Invariants that do not hold, over every job."""
        engine = make_engine(self.database_url, pool_size=1)
        try:
            with begin_of(engine)() as connection:
                return audit.audit(connection, everything=True)
        finally:
            engine.dispose()


def local(*words: str, environ: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    """`panda up`, `panda down`."""
    return subprocess.run(
        [sys.executable, "-m", "panda.local", *words], capture_output=True, text=True, env=environ, timeout=240,
        check=False,
    )  # fmt: skip


def descendants(pid: int) -> list[int]:
    """Pids of all processes below `pid`."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*"):
        with suppress(OSError):
            for child in (task / "children").read_text().split():
                found += [int(child), *descendants(int(child))]
    return found


def _mount(place: Path, size_mb: int) -> None:
    """A disk that can be filled without harm to anybody. Without the right to mount, or the memory, there is none."""
    if os.geteuid() or shutil.which("mount") is None or _free_mb() < size_mb + SPARE_MB:
        return
    place.mkdir(parents=True, exist_ok=True)
    words = ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m,mode=0700", "tmpfs", str(place)]
    subprocess.run(words, capture_output=True, check=False)


def _free_mb() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) // 1024
    return 0


def _unmount_all(folder: Path) -> None:
    for place in folder.iterdir():
        if place.is_mount():
            subprocess.run(["umount", str(place)], capture_output=True, check=False)
