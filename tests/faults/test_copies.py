"""Two of everything at once is normal: each copy does whatever is due, and nothing is done twice."""

import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator

import pytest
from livesystem import System, await_that

from panda.client import Client
from panda.local import procfile
from panda.local.shipped import shipped


def free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


@pytest.fixture
def copies(system: System) -> Iterator[str]:
    """A second API, relay, beat and worker of each kind beside those of the installation; the API's address."""
    port = free_port()
    environ = dict(os.environ) | system.environ | {
        "PANDA_DATABASE_URL": system.database_url, "PANDA_REDIS_URL": system.redis_url,
        "PANDA_DATA_DIR": str(system.folder), "PANDA_API_PORT": str(port), "PANDA_API_HOST": "127.0.0.1",
        "PANDA_API_WORKERS": "1", "PANDA_API_THREADS": "4", "PANDA_API_BLOCKING_THREADS": "54",
    }  # fmt: skip
    lines = procfile.read(shipped("Procfile"))
    running = []
    try:
        for name in ("api", "relay", "beat", "stages", "data"):
            words = [os.path.expandvars(w) if "$" not in w else environ[w.lstrip("$")] for w in lines[name].split()]
            words = [word.replace("@%h", "@second") for word in words]
            command = [sys.executable, *([] if words[0] == "python" else ["-m", words[0]]), *words[1:]]
            log = (system.folder / "log" / f"second-{name}.log").open("ab")
            running.append(subprocess.Popen(command, env=environ, stdout=log, stderr=log))
        url = f"http://127.0.0.1:{port}"
        await_that(lambda: is_ready(url), 60)
        yield url
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(30)


def is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def test_two_of_everything_do_each_thing_once(system, load, copies):
    second = Client(copies, system.token)

    sets = [load.submit() for _ in range(2)]
    seen = [second.jobset(accepted.jobset_id).n_jobs for accepted in sets]
    delays = [load.finishes(accepted) for accepted in sets]

    assert seen == [accepted.n_jobs for accepted in sets]
    assert len(delays) == 2
