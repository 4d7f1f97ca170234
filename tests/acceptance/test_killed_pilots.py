"""`pilot.pyz` is killed (-9) at each point of a job, before a real server: every job still ends once, and right."""

import os
import subprocess
import sys

import pytest
from livesystem import await_that, clean_environ

from pilot import build

PYTHON = os.environ.get("PILOT_PYTHON", sys.executable)


@pytest.fixture(scope="module")
def pyz(tmp_path_factory):
    file = tmp_path_factory.mktemp("pyz") / "pilot.pyz"
    build.build(file)
    return file


@pytest.fixture
def start(system, pyz, tmp_path):
    """Start a pilot of WEST-Q; all share one work folder, as on one node."""
    started = []

    def start(*more):
        words = [PYTHON, "-I", "-S", str(pyz), "--url", system.api, "--queue", "WEST-Q",
                 "--token-file", str(system.folder / "pilot-token"), "--work", str(tmp_path / "work"), "--cores", "1",
                 "--memory-mb", "2000", "--disk-mb", "2000", "--idle-s", "1", "--wait-s", "1", "--grace-s", "1", *more]  # fmt: skip
        with (tmp_path / "pilots.log").open("ab") as log:
            pilot = subprocess.Popen(words, env=clean_environ(), stderr=log)
        started.append(pilot)
        return pilot

    yield start
    for pilot in started:
        if pilot.poll() is None:
            pilot.kill()
        pilot.wait()


@pytest.fixture
def at_west(user):
    """One job for these pilots, with a second attempt, for which a second pilot is there."""
    return lambda **job: user.submit(jobs=[{"max_attempts": 2, **job}], brokerage={"sites": ["WEST"]})


def _finishes(user, start, accepted):
    """The job, after as many pilots as it takes."""
    pilot = start("--idle-s", "60")
    [job] = user.ended(accepted, within_s=90)
    pilot.terminate()
    pilot.wait(30)
    assert job.status == "finished", user.client.why(job.panda_id).summary
    return job


def test_while_the_payload_runs(user, start, at_west, tmp_path):
    first_only = f"test -e {tmp_path}/seen && exit 0; touch {tmp_path}/seen; echo first; exec sleep 300"
    accepted = at_west(command=["sh", "-c", first_only])
    user.waits(accepted.first_panda_id, "pilot")
    pilot = start()
    await_that((tmp_path / "seen").exists, 30)

    pilot.kill()
    pilot.wait()

    job = _finishes(user, start, accepted)
    assert job.attempt_nr == 2
    assert list((tmp_path / "work").glob("pilot-*")) == []


def test_while_inputs_are_copied(user, system, start, at_west, tmp_path):
    """The sandbox is a pipe that nobody feeds: stage-in hangs until the pilot dies."""
    file = tmp_path / "in.txt"
    file.write_text("x" * 100)
    user.put("user.test:deaths", file, "WEST-DISK")
    accepted = at_west(command=["cat", "in.txt"], inputs=["user.test:deaths/in.txt"])
    user.waits(accepted.first_panda_id, "pilot")
    [replica] = [path for path in (system.folder / "storage" / "west").rglob("in.txt") if path.is_file()]
    content = replica.read_bytes()
    replica.unlink()
    os.mkfifo(replica)
    pilot = start()
    user.reaches(accepted.first_panda_id, "starting")

    pilot.kill()
    pilot.wait()
    replica.unlink()
    replica.write_bytes(content)

    assert _finishes(user, start, accepted).attempt_nr == 2


def test_while_outputs_are_copied(user, system, start, at_west, tmp_path):
    """A fast job with a large output is killed as soon as its copy begins to grow."""
    accepted = at_west(command=["sh", "-c", f"test -e {tmp_path}/seen || head -c 150000000 /dev/zero > out; touch {tmp_path}/seen out"],
                       outputs=["out"], disk_mb=1000)  # fmt: skip
    user.waits(accepted.first_panda_id, "pilot")
    pilot = start()
    west = system.folder / "storage" / "west"
    await_that(lambda: list(west.rglob("out.part")) + list(west.rglob("*.part")), 60)

    pilot.kill()
    pilot.wait()

    job = _finishes(user, start, accepted)
    [file] = user.client.datasets.files(accepted.output_dataset)
    assert (job.attempt_nr, file.size_bytes) == (2, 0)


def test_between_the_upload_and_the_report(user, system, start, at_west, tmp_path):
    """The API is gone when the job ends, and so is the pilot before it comes back: the next pilot delivers the
    result of the first attempt, because an outage costs nobody a lease."""
    accepted = at_west(command=["sh", "-c", f"touch {tmp_path}/on; sleep 4; echo done; echo 1 > out"], outputs=["out"])
    user.waits(accepted.first_panda_id, "pilot")
    pilot = start("--outage-s", "300")
    await_that((tmp_path / "on").exists, 30)
    _signal_api(system, "-STOP")
    try:
        kept = await_that(lambda: list((tmp_path / "work").glob("pilot-*/results/*.json")), 60)
        pilot.kill()
        pilot.wait()
    finally:
        _signal_api(system, "-CONT")

    job = _finishes(user, start, accepted)

    assert len(kept) == 1
    assert job.attempt_nr == 1
    assert user.log(job.panda_id, "payload.stdout") == "done\n"
    assert list((tmp_path / "work").glob("pilot-*")) == []


def test_its_curves_and_its_log_stay(user, system, start, at_west, tmp_path):
    accepted = at_west(command=["sh", "-c", f"echo first words; touch {tmp_path}/on; exec sleep 300"], max_attempts=1)
    user.waits(accepted.first_panda_id, "pilot")
    pilot = start()
    panda_id = accepted.first_panda_id

    def points():
        return system.client.request("GET", f"/v1/jobs/{panda_id}/usage")["points"]

    await_that((tmp_path / "on").exists, 30)
    await_that(
        lambda: len(points()) >= 2 and user.log(panda_id, "payload.stdout") if _has_log(user, panda_id) else None, 30
    )
    pilot.kill()
    pilot.wait()
    [job] = user.ended(accepted, within_s=60)

    assert job.status == "failed"
    assert user.log(panda_id, "payload.stdout") == "first words\n"
    assert points()[-1]["n_processes"] == 1


def _has_log(user, panda_id):
    return any(log.name == "payload.stdout" for log in user.client.logs(panda_id).list())


def _signal_api(system, number):
    pids = [system.pid("api"), *system.children("api")]
    subprocess.run(["kill", number, *map(str, pids)], check=True)
