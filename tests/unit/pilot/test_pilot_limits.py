"""Limits, kills and what payloads leave behind: the pilot survives them all."""

import os
import signal
import sys

import pytest
from pilot_processes import is_alive, wait_for_file
from pilot_stub_server import make_job, wait_until

NAP = "import time; time.sleep(60)"


@pytest.fixture
def pid_file(tmp_path):
    """Where a payload writes the pid of a process; should the pilot fail, the test ends it."""
    path = tmp_path / "pid"
    yield path
    if path.exists() and is_alive(int(path.read_text())):
        os.kill(int(path.read_text()), signal.SIGKILL)


def test_a_memory_hog_is_killed(run):
    hog = "import os, time\nx = bytearray(200_000_000)\ntime.sleep(30)"
    finals = run(make_job(1, sys.executable, "-c", hog, memory_mb=80))

    assert finals[1]["status"] == "failed"
    assert finals[1]["error_code"] == 1235
    assert finals[1]["max_rss_mb"] > 80


def test_memory_counts_over_all_processes(run):
    hog = "x = bytearray(40_000_000); import time; time.sleep(30)"
    many = f"for i in 1 2 3 4; do {sys.executable} -c '{hog}' & done; wait"
    finals = run(make_job(1, "sh", "-c", many, memory_mb=120))

    assert finals[1]["error_code"] == 1235


def test_wall_time_ends_a_payload_that_ignores_sigterm(run, book):
    finals = run(make_job(1, "sh", "-c", "trap '' TERM; while :; do sleep 0.1; done", walltime_s=1))

    assert finals[1]["status"] == "failed"
    assert finals[1]["error_code"] == 1213
    assert finals[1]["exit_code"] == -signal.SIGKILL
    assert b"SIGKILL" in book.logs[1, "pilot.log"]


def test_a_payload_may_clean_up_on_sigterm(run, book):
    job = make_job(1, "sh", "-c", "trap 'echo bye; exit 0' TERM; while :; do sleep 0.05; done", walltime_s=1)
    finals = run(job, args=("--grace-s", "5"))

    assert finals[1]["error_code"] == 1213
    assert finals[1]["exit_code"] == 0
    assert book.logs[1, "payload.stdout"] == b"bye\n"


def test_a_daemon_is_gone_after_its_job(run, pid_file):
    daemon = (
        "import os, time\n"
        "if os.fork(): os._exit(0)\n"
        "os.setsid()\n"
        "if os.fork(): os._exit(0)\n"
        f"open({str(pid_file)!r}, 'w').write(str(os.getpid()))\n"
        "time.sleep(60)"
    )
    wait_for_it = f'{sys.executable} -c "{daemon}" & until test -s {pid_file}; do sleep 0.02; done'
    finals = run(make_job(1, "sh", "-c", wait_for_it))

    assert finals[1]["status"] == "finished"
    assert not is_alive(int(pid_file.read_text()))


def test_a_daemon_of_one_job_leaves_the_other_job_alone(run, pid_file):
    sleeper = f"setsid sleep 60 & echo $! > {pid_file}"
    other = f"until test -s {pid_file}; do sleep 0.02; done; setsid sleep 1.3 & wait"
    finals = run(make_job(1, "sh", "-c", sleeper), make_job(2, "sh", "-c", other))

    assert [finals[n]["status"] for n in (1, 2)] == ["finished"] * 2
    assert finals[2]["wall_s"] > 1
    assert not is_alive(int(pid_file.read_text()))


def test_background_processes_of_the_group_are_gone_too(run, pid_file):
    run(make_job(1, "sh", "-c", f"sleep 60 & echo $! > {pid_file}"))

    assert not is_alive(int(pid_file.read_text()))


def test_a_fork_bomb_of_sessions_is_survived(run):
    bomb = "import os, time\nfor depth in range(5):\n    if os.fork() == 0:\n        os.setsid()\ntime.sleep(30)"
    finals = run(make_job(1, sys.executable, "-c", bomb, walltime_s=1), make_job(2, "true"))

    assert finals[1]["error_code"] == 1213
    assert finals[2]["status"] == "finished"


def test_output_without_end_is_cut_and_then_failed(run, book):
    finals = run(make_job(1, "sh", "-c", "yes | head -c 40000000; sleep 60", disk_mb=1000), args=("--log-cap-mb", "1"))

    assert finals[1]["error_code"] == 1106
    assert len(book.logs[1, "payload.stdout"]) < 1_000_200
    assert b"cut here at 1000000 bytes" in book.logs[1, "payload.stdout"]


def test_a_work_folder_that_outgrew_the_job_is_refused(run):
    finals = run(make_job(1, "dd", "if=/dev/zero", "of=big", "bs=1M", "count=3", "status=none", disk_mb=2))

    assert finals[1]["error_code"] == 1104


def test_a_kill_command_ends_the_payload(start, book, pid_file):
    book.heartbeat_s = 0.1
    book.waiting.append(make_job(1, "sh", "-c", f"echo $$ > {pid_file}; exec sleep 60"))
    start()
    pid = int(wait_for_file(pid_file))

    book.commands[1] = "kill"
    wait_until(book, lambda: 1 in book.finals)

    assert book.finals[1]["status"] == "cancelled"
    assert book.finals[1]["error_code"] == 1144
    assert not is_alive(pid)


def test_a_stale_lease_ends_the_payload_and_nothing_is_reported(start, book, pid_file):
    book.heartbeat_s = 0.1
    book.waiting.append(make_job(1, "sh", "-c", f"echo $$ > {pid_file}; exec sleep 60"))
    pilot = start()
    pid = int(wait_for_file(pid_file))
    wait_until(book, lambda: "running" in book.statuses.get(1, []))

    book.outcomes[1] = "stale_lease"

    assert pilot.wait() == 0
    assert not is_alive(pid)
    assert 1 not in book.finals
    assert (1, "pilot.log") not in book.logs


def test_sigterm_drains_the_pilot(start, book, pid_file):
    running = [make_job(n, "sh", "-c", f"echo $$ > {pid_file}; sleep 60", cores=2) for n in (1, 2)]
    book.waiting += running
    pilot = start()
    pid = int(wait_for_file(pid_file))

    pilot.terminate()

    assert pilot.wait() == 6
    assert {n: (r["status"], r["error_code"]) for n, r in book.finals.items()} == {
        1: ("failed", 1201),
        2: ("failed", 1201),
    }
    assert "wall_s" in book.finals[1]
    assert "wall_s" not in book.finals[2]
    assert not is_alive(pid)
