"""The page about backups does what it says: its own commands, on a system that goes on after the backup."""

import os
import re
import socket
import subprocess
import sys
import zlib
from pathlib import Path
from uuid import uuid4

import pytest
from livesystem import System, await_that, clean_environ

from panda.chaos.ask import Line

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "backup-and-restore.md"
LEASE_S = 6


@pytest.fixture
def own_system(tmp_path):
    """A system of this test's own: it ends and starts as the page says."""
    folder = tmp_path / "panda"
    system = System.started(folder, dispatcher_lease_s=LEASE_S, dispatcher_heartbeat_s=2)
    yield system
    system.client.close()
    subprocess.run([sys.executable, "-m", "panda.local", "down", "--data", str(folder)], check=False, timeout=90)


def commands_of_the_page():
    """The page's blocks of commands: back up, restore, look."""
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 3
    return blocks


def as_written(system, block):
    """Run a block with /srv/panda being the system's folder; returns what it said."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        port = trial.getsockname()[1]
    script = "set -e\n" + block.replace("/srv/panda", str(system.folder))
    environ = clean_environ() | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PANDA_API_PORT": str(port),
        "PANDA_DISPATCHER_LEASE_S": str(LEASE_S), "PANDA_DISPATCHER_HEARTBEAT_S": "2",
    }  # fmt: skip
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, env=environ, timeout=150)
    assert done.returncode == 0, done.stderr
    if " up " in block:
        system.client.close()
        system.__init__(system.folder, environ, {"api": f"http://127.0.0.1:{port}", "monitor": ""})
    return done.stdout


class Pilot:
    """A pilot of WEST-Q that writes what its jobs shall write."""

    def __init__(self, system, name):
        self.system, self.name = system, name

    def ask(self, path, document):
        answer = Line(self.system.api, self.system.pilot_token).json("POST", path, document)
        assert answer.is_ok, answer
        return answer.body

    def acquire(self, n):
        request = {"pilot_id": self.name, "queue": "WEST-Q", "request_id": uuid4().hex, "n": n, "cores": 2,
                   "memory_mb": 4000, "disk_mb": 10000, "walltime_s": 86400}  # fmt: skip
        jobs = []

        def more():
            asked = request | {"request_id": uuid4().hex, "n": n - len(jobs)}
            jobs.extend(self.ask("/v1/pilots/acquire", asked)["jobs"])
            return len(jobs) == n

        await_that(more, 20)
        return jobs

    def finish(self, job, words):
        """Write the outputs and report; returns what the server says."""
        outputs = []
        for output in job["outputs"]:
            place = Path(output["url"].removeprefix("file://"))
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(words)
            outputs.append({"lfn": output["lfn"], "size_bytes": len(words), "adler32": f"{zlib.adler32(words):08x}"})
        report = {name: job[name] for name in ("panda_id", "attempt_nr", "token")}
        report |= {"status": "finished", "outputs": outputs}
        return self.ask("/v1/pilots/update", {"pilot_id": self.name, "reports": [report]})["results"][0]["outcome"]


def submit(system, name, n=1):
    return system.client.submit(
        {
            "name": name,
            "defaults": {"memory_mb": 100, "disk_mb": 100, "walltime_s": 600, "max_attempts": 5},
            "brokerage": {"sites": ["WEST"]},
            "template": {"command": ["true", "${seq}"], "count": n, "outputs": [name + "${seq}.txt"]},
        }
    )


@pytest.mark.timeout(400)
def test_a_system_restored_from_a_backup_runs_on_and_fences_what_came_after_it(own_system):
    back_up, restore, look = commands_of_the_page()
    system = own_system
    before = submit(system, "before", 3)
    [early] = Pilot(system, "early").acquire(1)
    as_written(system, back_up)

    late = Pilot(system, "late")
    unknown = submit(system, "unknown")  # accepted after the backup
    taken = late.acquire(3)
    while taken[-1]["panda_id"] < unknown.first_panda_id:  # a slow machine: the early one's job came back meanwhile
        taken += late.acquire(1)
    assert late.finish(taken[0], b"of a time that never was") == "ok"
    await_that(lambda: system.client.job(taken[0]["panda_id"]).status == "finished", 20)

    as_written(system, restore)

    assert {late.finish(job, b"late") for job in taken} == {"stale_lease", "not_found"}
    listed = as_written(system, look)
    assert {int(line.split("\t")[0]) for line in listed.splitlines()} >= {job["panda_id"] for job in taken}
    anew = submit(system, "anew")
    assert anew.first_panda_id > unknown.last_panda_id
    assert early["panda_id"] == before.first_panda_id
    again = Pilot(system, "again")
    for _ in range(4):  # the early pilot is silent: its job is given to another one when its lease ends
        [job] = again.acquire(1)
        assert job["outputs"][0]["url"] not in {out["url"] for old in taken for out in old["outputs"]}
        assert again.finish(job, b"once more") == "ok"
    for accepted in (before, anew):
        waited = system.client.wait(jobsets=[accepted.jobset_id], timeout_s=30)
        assert waited.by_status == {"finished": accepted.n_jobs}
    assert system.findings() == []
