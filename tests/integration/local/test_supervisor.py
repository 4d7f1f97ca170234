"""`panda up` and `panda down`, with the real stores and small processes of the test's own."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from panda.local.installation import Installation
from panda.local.processes import Known, start_ticks, wait_until
from panda.local.up import answer, run_down

TINY = Path(__file__).with_name("tiny.py")


class System:
    """A system of which the test knows everything."""

    def __init__(self, folder: Path) -> None:
        self.installation = Installation(folder / "data")
        self.procfile = folder / "Procfile"
        self.procfile.write_text(
            f"api: python {TINY} http $PANDA_API_PORT\nstages: python {TINY} idle\nrelay: python {TINY} idle\n"
        )

    def add(self, line: str) -> None:
        with self.procfile.open("a") as file:
            file.write(line + "\n")

    def command(self, *words: str) -> list[str]:
        given = ["--data", str(self.installation.folder), "--procfile", str(self.procfile), "--bare", "--port", "0"]
        return [sys.executable, "-m", "panda.local", "up", *given, *words]

    def up(self, *words: str, **environ: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            self.command("--detach", *words), capture_output=True, text=True, env=os.environ | environ, timeout=120
        )

    def facts(self) -> dict[str, Any]:
        return self.installation.facts()

    def known(self, name: str) -> Known:
        known = Known.read(self.installation.record(name))
        assert known is not None, name
        return known

    def everybody(self) -> list[Known]:
        return [known for file in self.installation.run.glob("*.json") if (known := Known.read(file))]


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[System]:
    for name in [name for name in os.environ if name.startswith("PANDA_")]:
        monkeypatch.delenv(name)
    system = System(tmp_path)
    yield system
    run_down(system.installation.folder)


def wait_for(system: System, name: str, other_than: Known) -> Known:
    """The process `name` once it was started again."""
    assert wait_until(lambda: system.known(name) != other_than and system.known(name).is_alive(), 20)
    return system.known(name)


def test_up_says_in_one_line_where_everything_is(system):
    done = system.up()

    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1
    told = json.loads(done.stdout)
    assert answer(told["api"] + "/readyz") == "200"
    assert told["flower"] == told["monitor"] + "/flower/"
    assert told["token_file"] == str(system.installation.token_file)
    assert told["pid"] == system.known("supervisor").pid
    assert set(system.installation.running()) == {"postgres", "redis", "api", "stages", "relay"}


def test_down_leaves_nobody_and_may_be_said_twice(system, capfd):
    system.up()
    everybody = system.everybody()

    assert run_down(system.installation.folder) == 0
    assert run_down(system.installation.folder) == 0

    assert len(everybody) == 6
    assert not [known for known in everybody if known.is_alive()]
    assert "nothing runs in" in capfd.readouterr().err


def test_down_makes_no_folder(tmp_path):
    assert run_down(tmp_path / "nowhere") == 0
    assert not (tmp_path / "nowhere").exists()


def test_a_restart_keeps_the_data(system):
    system.up()
    with psycopg.connect(system.facts()["database_url"]) as connection:
        connection.execute("CREATE TABLE notes AS SELECT 'kept' AS word")

    run_down(system.installation.folder)
    system.up()

    with psycopg.connect(system.facts()["database_url"]) as connection:
        assert connection.execute("SELECT word FROM notes").fetchall() == [("kept",)]


@pytest.mark.parametrize("name", ["api", "relay", "postgres", "redis"])
def test_a_process_that_is_killed_is_started_again(system, name):
    system.up()
    first = system.known(name)

    os.kill(first.pid, signal.SIGKILL)

    second = wait_for(system, name, other_than=first)
    assert second.pid != first.pid
    if name == "postgres":
        assert wait_until(lambda: can_connect(system.facts()["database_url"]), 20)
    if name == "api":
        assert wait_until(lambda: answer(system.facts()["api"] + "/readyz") == "200", 20)


def can_connect(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


def test_children_of_a_process_that_died_do_not_outlive_it(system):
    system.add(f"family: python {TINY} child")
    system.up()
    first = system.known("family")
    assert wait_until(lambda: len(children_of(first.pid)) == 1, 5)
    (child,) = children_of(first.pid)

    os.kill(first.pid, signal.SIGKILL)

    wait_for(system, "family", other_than=first)
    assert start_ticks(child) is None


def children_of(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_when_the_supervisor_is_killed_its_processes_end(system):
    system.up()
    everybody = system.everybody()

    os.kill(system.known("supervisor").pid, signal.SIGKILL)

    assert wait_until(lambda: not [known for known in everybody if known.is_alive()], 20)


def test_what_a_killed_supervisor_left_behind_is_ended_by_the_next_one(system):
    system.add(f"deaf: python {TINY} deaf")
    system.add(f"family: python {TINY} child")
    system.up()
    supervisor, deaf = system.known("supervisor"), system.known("deaf")
    (orphan,) = children_of(system.known("family").pid)
    os.kill(supervisor.pid, signal.SIGKILL)
    assert wait_until(lambda: not system.known("family").is_alive(), 10)
    assert deaf.is_alive()
    assert start_ticks(orphan) is not None

    done = system.up()

    assert done.returncode == 0, done.stderr
    assert not deaf.is_alive()
    assert start_ticks(orphan) is None


def test_down_ends_what_a_killed_supervisor_left_behind(system):
    system.add(f"deaf: python {TINY} deaf")
    system.up()
    deaf = system.known("deaf")
    os.kill(system.known("supervisor").pid, signal.SIGKILL)

    run_down(system.installation.folder)

    assert not deaf.is_alive()


def test_a_recycled_pid_is_left_alone(system):
    system.installation.make()
    us = Known.of(os.getpid())
    assert us is not None
    Known(us.pid, us.started - 1, us.boot).write(system.installation.record("api"))

    assert run_down(system.installation.folder) == 0


def test_a_process_that_does_not_hear_is_killed(system):
    system.add(f"deaf: python {TINY} deaf")
    system.up()
    deaf = system.known("deaf")

    begun = time.monotonic()
    run_down(system.installation.folder)

    assert not deaf.is_alive()
    assert time.monotonic() - begun < 30


def test_a_second_up_in_the_same_folder_is_refused_and_names_the_first(system):
    system.up()
    first = system.known("supervisor")

    done = system.up()

    assert done.returncode == 1
    assert f"process {first.pid}" in done.stderr
    assert first.is_alive()


def test_a_port_that_is_taken_is_named_before_anything_starts(system):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        done = system.up("--port", str(port))

    assert done.returncode == 1
    assert f"port {port}" in done.stderr
    assert not (system.installation.folder / "postgres").exists()


def test_a_process_that_never_starts_is_shown_with_its_log(system):
    system.add(f"crash: python {TINY} crash")

    done = system.up()

    assert done.returncode == 1
    assert "crash ended 5 times, last with code 3" in done.stderr
    assert "the sky is falling" in done.stderr
    assert system.installation.running() == {}
    assert system.everybody() == []


def test_in_the_foreground_an_interrupt_ends_everything(system):
    with subprocess.Popen(system.command(), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as up:
        assert up.stdout is not None
        told = json.loads(up.stdout.readline())
        everybody = system.everybody()

        up.send_signal(signal.SIGINT)
        code = up.wait(timeout=60)

    assert code == 0
    assert told["pid"] == up.pid
    assert not [known for known in everybody if known.is_alive()]


def test_some_processes_may_be_left_out(system):
    done = system.up("--without", "relay")

    assert done.returncode == 0, done.stderr
    assert "relay" not in system.installation.running()


def test_a_process_that_is_not_in_the_list_is_refused(system):
    done = system.up("--only", "stage")

    assert "did you mean 'stages'?" in done.stderr
    assert done.returncode == 1


def test_stores_that_are_named_are_not_started(system):
    done = system.up(PANDA_DATABASE_URL="postgresql://elsewhere/panda", PANDA_REDIS_URL="redis://elsewhere/0")

    assert done.returncode == 0, done.stderr
    assert set(system.installation.running()) == {"api", "stages", "relay"}
    assert system.facts()["database_url"] == "postgresql://elsewhere/panda"


def test_a_long_path_is_no_obstacle(tmp_path, system):
    system.installation = Installation(tmp_path / ("long" * 40))

    done = system.up()

    assert done.returncode == 0, done.stderr
    assert can_connect(system.facts()["database_url"])


def test_the_doctor_finds_a_running_system_well_and_a_dead_process(system):
    system.add(f"monitor: python {TINY} http $PANDA_MONITOR_PORT")
    environ = {"PANDA_MONITOR_PORT": str(free_port())}
    system.up(**environ)
    words = [sys.executable, "-m", "panda.local", "doctor", "--data", str(system.installation.folder), "--json"]

    told = subprocess.run(words, capture_output=True, text=True, env=os.environ | environ)
    verdicts = {each["check"]: each["verdict"] for each in json.loads(told.stdout)}

    assert {verdicts[name] for name in ("python", "postgres", "redis server", "redis", "api", "monitor")} == {"ok"}
    assert verdicts["database"] == "fail"  # `--bare`: it was not migrated
    assert told.returncode == 1


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])
