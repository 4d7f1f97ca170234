"""Upstream's released clients, unmodified, against a real installation.

They are installed from PyPI into environments of their own, in a folder that goes with the tests. Upstream's pilot
ends processes of its user that it never started: it runs only behind both of its guards (see `guarded`).
"""

import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from livesystem import System, await_that, clean_environ

#: These take minutes and install from PyPI: `make test-upstream` asks for them.
collect_ignore_glob = [] if os.environ.get("UPSTREAM_LIVE") else ["test_*.py"]

CLIENT, PILOT = "2.2.0", "3.7.0.36"
PROGRAMS = ("unshare", "curl", "ps", "lscpu", "df", "tar", "bash")
#: Queues whose pilot brings a token; the others come as guests.
WITH_TOKEN = ("GOOD-Q", "KILL-Q")
#: One queue for each story, so that pilots can run at the same time.
QUEUES = ("GOOD-Q", "FAIL-Q", "KILL-Q", "CLIENT-Q", "OURS-Q")
SITES = """
[sites.FARM]
[storages.FARM-DISK]
site = "FARM"
kind = "local"
root = "storage/farm"
""" + "".join(
    f"""
[queues.{name}]
site = "FARM"
storage = "FARM-DISK"
cores = 1
memory_mb = 2000
disk_mb = 10000
walltime_s = 86400
submitter = "{"local" if name == "OURS-Q" else "none"}"
max_pilots = 1
"""
    for name in QUEUES
)


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for everything; skips where upstream's pilot could not be run safely."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        pytest.skip(f"not on this machine: {', '.join(missing)}")
    probe = subprocess.run([*guarded(), "true"], capture_output=True, text=True)
    if probe.returncode:
        pytest.skip(f"no PID namespace of our own can be had: {probe.stderr.strip()}")
    return tmp_path_factory.mktemp("upstream")


@pytest.fixture(scope="session")
def system(workshop: Path) -> Iterator[System]:
    """An installation that lets upstream's clients in, without a token."""
    system = System.started(
        workshop / "panda", sites=SITES, upstream_enabled=True, upstream_anonymous=True, upstream_timefloor_min=60,
        engine_sweep_s=0.5,
    )  # fmt: skip
    try:
        yield system
        assert system.findings() == []
    finally:
        system.stop()


@pytest.fixture(scope="session")
def client_python(workshop: Path) -> Path:
    """A Python that has the released panda-client, and nothing of ours."""
    venv = workshop / "client"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    python = venv / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "--quiet", f"panda-client=={CLIENT}"]
    subprocess.run(install, check=True, env=clean_environ())
    return python


@pytest.fixture(scope="session")
def pilot_source(workshop: Path) -> Path:
    """The folder of the released panda-pilot; its entry script is only in the source distribution."""
    download = ["download", "--quiet", "--no-deps", "--no-binary", ":all:", "--dest", str(workshop)]
    subprocess.run([sys.executable, "-m", "pip", *download, f"panda-pilot=={PILOT}"], check=True)
    [archive] = workshop.glob("panda*pilot-*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(workshop, filter="data")
    return workshop / archive.name.removesuffix(".tar.gz")


class UpstreamClient:
    """Calls of `pandaclient.Client`, each in a process of its own."""

    def __init__(self, python: Path, api: str, folder: Path) -> None:
        self._python = python
        self._folder = folder
        url = f"{api}/server/panda"
        self._environ = clean_environ() | {
            "PANDA_URL": url, "PANDA_URL_SSL": url, "PANDACACHE_URL": url, "PANDA_BEHIND_REAL_LB": "1",
            "PANDA_CONFIG_ROOT": str(folder / ".pathena"), "HOME": str(folder), "PYTHONPATH": "",
        }  # fmt: skip

    def __call__(self, code: str, *, token: str = "", **values: Any) -> Any:
        """The value of the last line of `code`, which knows `Client`, `JobSpec`, `FileSpec` and `values`."""
        script = (
            "import json, sys\nfrom pandaclient import Client\nfrom pandaclient.JobSpec import JobSpec\n"
            "from pandaclient.FileSpec import FileSpec\n"
            "def shown(each):\n"
            "    if not hasattr(each, '_attributes'): return str(each)\n"
            "    names = [name for name in (*each._attributes, 'Files') if hasattr(each, name)]\n"
            "    return {name: getattr(each, name) for name in names}\nvalues = json.load(sys.stdin)\nglobals().update(values)\n"
            f"{code}\n"
        )
        *lines, last = script.strip().split("\n")
        script = "\n".join([*lines, f"print('ANSWER ' + json.dumps({last}, default=shown))"])
        environ = self._environ
        if token:
            environ = environ | {"PANDA_AUTH": "oidc", "PANDA_AUTH_VO": "test_vo", "PANDA_AUTH_ID_TOKEN": token}
        done = subprocess.run(
            [str(self._python), "-c", script], input=json.dumps(values), capture_output=True, text=True, env=environ,
            cwd=self._folder, timeout=120,
        )  # fmt: skip
        answers = [line for line in done.stdout.splitlines() if line.startswith("ANSWER ")]
        assert answers, done.stdout + done.stderr
        return json.loads(answers[-1].removeprefix("ANSWER "))


@pytest.fixture(scope="session")
def client(workshop: Path, client_python: Path, system: System) -> UpstreamClient:
    """The released client, which knows nothing but the server's address."""
    folder = workshop / "user"
    folder.mkdir()
    return UpstreamClient(client_python, system.api, folder)


def guarded() -> list[str]:
    """What stands before the pilot: a PID namespace of its own, whose processes end with it."""
    as_root = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return ["unshare", *as_root, "--pid", "--fork", "--mount-proc", "--kill-child"]


class UpstreamPilot:
    """One released pilot at a queue, behind both guards."""

    def __init__(self, source: Path, system: System, folder: Path, queue: str) -> None:
        folder.mkdir()
        self.queue = queue
        self.output = folder / "pilot.out"
        config = (source / "pilot" / "util" / "default.cfg").read_text()
        (folder / "pilot.cfg").write_text(config.replace("heartbeat: 1800", "heartbeat: 10"))
        host, _, port = system.api.rpartition(":")
        cache = f"{system.api}/cache"
        environ = clean_environ() | {
            "PILOT_NOKILL": "1", "HARVESTER_PILOT_CONFIG": str(folder / "pilot.cfg"), "LOCAL_AGIS_SCHEDCONF": f"{cache}/schedconfig/pandaqueues.json",
            "http_proxy": system.api, "no_proxy": "localhost,127.0.0.1", "HOME": str(folder), "PYTHONPATH": "",
        }  # fmt: skip
        if queue in WITH_TOKEN:
            (folder / "token").write_text(system.pilot_token)
            environ |= {
                "PANDA_AUTH_TOKEN": "token", "PANDA_AUTH_ORIGIN": "test_vo.pilot", "PANDA_AUTH_DIR": f"{folder}/",
            }  # fmt: skip
        assert environ["PILOT_NOKILL"]
        words = [
            *guarded(), sys.executable, str(source / "pilot.py"), "--pilot-user", "generic", "-w", "generic", "-q", queue,
            "-r", queue, "-s", queue, "-j", "user", "-i", "PR", "-t", "-u", "--url", host, "-p", port,
            "--queuedata-url", f"{cache}/schedconfig/{{pandaqueue}}.all.json",
            "--storagedata-url", f"{cache}/ddmendpoints.json", "--use-rucio-traces", "False", "--cleanup", "False",
            "-v", "1", "-x", "1", "-a", str(folder / "work"), "-d",
        ]  # fmt: skip
        with self.output.open("wb") as output:
            self._process = subprocess.Popen(
                words, cwd=folder, env=environ, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )

    def said(self) -> str:
        """Everything that it logged so far."""
        return self.output.read_text(errors="replace")

    def stop(self) -> None:
        """End it, and with it everything in its namespace."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)


@pytest.fixture(scope="session")
def pilots(workshop: Path, pilot_source: Path, system: System) -> Iterator[dict[str, UpstreamPilot]]:
    """Where started pilots are kept, by queue, until the tests end."""
    running: dict[str, UpstreamPilot] = {}
    yield running
    for pilot in running.values():
        pilot.stop()


@pytest.fixture(scope="session")
def start_pilot(workshop: Path, pilot_source: Path, system: System, pilots: dict[str, UpstreamPilot]) -> Any:
    """Start a pilot at a queue, once its jobs are ready for it: it does not wait for them."""

    def start(queue: str, panda_ids: list[int]) -> UpstreamPilot:
        sql = "SELECT panda_id FROM ready WHERE panda_id = ANY(%(ids)s)"
        await_that(lambda: len(system.query(sql, ids=panda_ids)) == len(panda_ids), 60)
        pilots[queue] = UpstreamPilot(pilot_source, system, workshop / queue, queue)
        return pilots[queue]

    return start
