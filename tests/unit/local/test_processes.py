"""A process is known by more than its number."""

import os
import signal
import stat
import subprocess
import sys

from panda.local import ports
from panda.local.processes import Known, command_line, end_group, group_members, spawn, tail, wait_until
from panda.settings import client_url


def test_a_process_is_known_until_it_ends(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    known = Known.of(child.pid)

    assert known is not None
    assert known.is_alive()
    assert not Known(known.pid, known.started + 1, known.boot).is_alive()
    assert not Known(known.pid, known.started, "another boot").is_alive()
    child.communicate(b"\n")
    assert not known.is_alive()


def test_a_record_is_read_back_and_is_ours_alone(tmp_path):
    known = Known.of(os.getpid())
    assert known is not None
    file = tmp_path / "us.json"

    known.write(file, api="http://here")

    assert Known.read(file) == known
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_torn_record_is_no_process(tmp_path):
    (tmp_path / "torn.json").write_text('{"pid": 1')

    assert Known.read(tmp_path / "torn.json") is None
    assert Known.read(tmp_path / "nowhere.json") is None


def test_a_child_leads_a_group_and_ends_with_it(tmp_path):
    child = spawn(["/bin/sh", "-c", "sleep 60 & echo here; wait"], tmp_path / "log")
    try:
        assert wait_until(lambda: tail(tmp_path / "log").strip() == "here", 5)
        assert len(group_members(child.pid)) == 2
        assert command_line(child.pid)[0] == "/bin/sh"
    finally:
        end_group(child.pid, ((signal.SIGKILL, 5.0),))
        child.wait()

    assert group_members(child.pid) == []


def test_a_child_ends_when_its_parent_is_killed(tmp_path):
    parent = (
        "import os, signal, sys; from pathlib import Path; from panda.local.processes import spawn; "
        "print(spawn(['/bin/sleep', '60'], Path(sys.argv[1])).pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )

    told = subprocess.run([sys.executable, "-c", parent, str(tmp_path / "log")], capture_output=True, text=True)

    assert wait_until(lambda: Known.of(int(told.stdout)) is None, 5)


def test_a_large_log_is_set_aside(tmp_path):
    log = tmp_path / "a.log"
    log.write_bytes(b"x" * 10_000_001)

    spawn(["/bin/true"], log).wait()

    assert log.read_bytes() == b""
    assert (tmp_path / "a.log.1").stat().st_size == 10_000_001


def test_a_pair_of_ports_is_free():
    port = ports.free_pair("127.0.0.1")

    assert ports.is_free("127.0.0.1", port)
    assert ports.is_free("127.0.0.1", port + 1)


def test_everywhere_is_found_at_home():
    assert ports.url("0.0.0.0", 1) == "http://127.0.0.1:1"
    assert ports.url("::", 1) == "http://[::1]:1"
    assert ports.url("fe80::1", 1) == "http://[fe80::1]:1"


def test_the_url_of_a_socket_is_told_to_redis_py_in_its_words():
    assert client_url("redis+socket:///run/a%20b/redis.sock?virtual_host=3") == "unix:///run/a%20b/redis.sock?db=3"
    assert client_url("redis://here:6379/0") == "redis://here:6379/0"
