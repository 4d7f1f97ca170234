"""An installation of its own for each benchmark: the real `panda up`, its state in a folder that goes away."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, LiteralString

import psycopg

from benchmarks.costs import cpu_s, families, pss_mb
from panda.local.installation import Installation

ROOT = Path(__file__).parents[1]
QUEUES = ("NORTH-Q", "SOUTH-Q")
STORAGES = ("NORTH-DISK", "SOUTH-DISK")
#: Two sites with queues that take anything; nobody starts pilots for them: the load generator plays these.
SITES = "".join(
    f"""
[sites.{site}]
cloud = "LOCAL"
[storages.{site}-DISK]
site = "{site}"
kind = "local"
root = "storage/{site.lower()}"
[queues.{site}-Q]
site = "{site}"
storage = "{site}-DISK"
cores = 1000
memory_mb = 1000000
disk_mb = 1000000
walltime_s = 1000000
"""
    for site in ("NORTH", "SOUTH")
)


class System:
    """A system that runs."""

    def __init__(self, folder: Path, api: str, database_url: str, redis_url: str) -> None:
        self.folder = folder
        self.api = api
        self.database_url = database_url
        self.redis_url = redis_url
        self._installation = Installation(folder)

    @property
    def token(self) -> str:
        return (self.folder / "token").read_text().strip()

    @property
    def pilot_token(self) -> str:
        return (self.folder / "pilot-token").read_text().strip()

    def connect(self) -> psycopg.Connection[Any]:
        """A connection of ours, outside of what is measured but for the backend behind it."""
        return psycopg.connect(self.database_url, autocommit=True)

    def families(self) -> dict[str, list[int]]:
        """Pids by the name of the process that started them."""
        known = self._installation.running()
        supervisor = self._installation.supervisor()
        leaders = {name: each.pid for name, each in known.items()}
        if supervisor is not None:
            leaders["supervisor"] = supervisor.pid
        return families(leaders)

    def cpu_s(self) -> dict[str, float]:
        """CPU seconds so far, by process."""
        return {name: cpu_s(pids) for name, pids in self.families().items()}

    def pss_mb(self) -> dict[str, float]:
        """Memory now, by process."""
        return {name: pss_mb(pids) for name, pids in self.families().items()}

    def await_rows(self, question: LiteralString, wanted: int, *, every_s: float, within_s: float = 900) -> float:
        """Seconds until `question` (one number) is answered with `wanted`.

        Raises:
            TimeoutError: it never was.
        """
        began = time.monotonic()
        with self.connect() as connection:
            while True:
                row = connection.execute(question).fetchone()
                waited_s = time.monotonic() - began
                if row is not None and row[0] == wanted:
                    return waited_s
                if waited_s > within_s:
                    raise TimeoutError(f"{question.strip()}: {row and row[0]} instead of {wanted}")
                time.sleep(every_s)


class Meter:
    """CPU seconds between `begin` and `end`, by process; `load` is this process: the load generator."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._before = self._now()
        self._began = time.monotonic()

    def _now(self) -> dict[str, float]:
        return self._system.cpu_s() | {"load": cpu_s([os.getpid()])}

    def read(self) -> tuple[float, dict[str, float]]:
        """Seconds that passed, and CPU seconds that were used meanwhile."""
        elapsed_s = time.monotonic() - self._began
        now = self._now()
        return elapsed_s, {name: spent - self._before.get(name, 0.0) for name, spent in now.items()}


@contextmanager
def running(
    *, procfile: Path | None = None, environ: Mapping[str, str] | None = None, sites: str = SITES, shares: str = ""
) -> Iterator[System]:
    """A system that is up, with no work in it.

    Args:
        procfile: other processes on the same two stores.
        sites, shares: what stands in its `sites.toml` and `shares.toml`; "": the shipped file.
    """
    with tempfile.TemporaryDirectory(prefix="panda-bench-") as name:
        folder = Path(name)
        (folder / "sites.toml").write_text(sites)
        if shares:
            (folder / "shares.toml").write_text(shares)
        given = {key: value for key, value in os.environ.items() if not key.startswith("PANDA_")}
        given |= {"PANDA_HARVESTER_LOCAL_QUEUES": "false", "PYTHONPATH": str(ROOT), **(environ or {})}
        words = ["up", "--data", name, "--port", "0", "--detach"]
        words += ["--procfile", str(procfile), "--bare"] if procfile else []
        try:
            _panda(words, given)
            facts = Installation(folder).facts()
            yield System(folder, facts["api"], facts["database_url"], facts["redis_url"])
        finally:
            _panda(["down", "--data", name], given)


def _panda(words: list[str], environ: Mapping[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "panda.local", *words], stdout=subprocess.PIPE, text=True, check=True, env=environ
    )
    return done.stdout
