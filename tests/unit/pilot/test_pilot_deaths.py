"""Pilots that are killed (-9): their payloads end, what they had done is delivered, nothing stays behind."""

import json
import os
import signal
import threading
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from pilot_processes import await_true, is_alive, wait_for_file
from pilot_stub_server import make_job, wait_until


@pytest.fixture
def hanging():
    """A storage that begins to answer and then hangs: copies from and to it never end."""
    asked = threading.Event()
    release = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "10")
            self.end_headers()
            asked.set()
            release.wait(30)

        def do_PUT(self):
            asked.set()
            release.wait(30)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    server.asked = asked
    server.url = f"http://127.0.0.1:{server.server_address[1]}/file"
    yield server
    release.set()
    server.shutdown()
    server.server_close()


def _homes(pilot):
    return sorted(path.name for path in pilot.work.iterdir())


def test_a_payload_does_not_outlive_its_killed_pilot(start, book, tmp_path):
    job = make_job(1, "sh", "-c", f"echo $$ > {tmp_path}/pid; sleep 60 & echo $! > {tmp_path}/below; wait")
    book.waiting.append(job)
    pilot = start()
    pids = [int(wait_for_file(tmp_path / name)) for name in ("pid", "below")]

    pilot.process.kill()

    for pid in pids:
        await_true(lambda pid=pid: not is_alive(pid), 5, "a process of the payload lives on")


def test_neither_does_a_daemon_of_it_that_hides(start, book, tmp_path):
    # It leaves the session, its parent and its environment behind; the watchdog has seen it before.
    hide = f"setsid env -i sh -c 'echo $$ > {tmp_path}/pid; exec sleep 60' & sleep 60"
    book.waiting.append(make_job(1, "sh", "-c", hide))
    pilot = start()
    pid = int(wait_for_file(tmp_path / "pid"))
    threading.Event().wait(1.5)  # one look of the watchdog

    pilot.process.kill()

    await_true(lambda: not is_alive(pid), 5, "the daemon lives on")


def test_a_guard_that_was_killed_is_replaced(start, book, tmp_path):
    book.waiting.append(make_job(1, "sh", "-c", f"echo $$ > {tmp_path}/pid; exec sleep 60"))
    pilot = start()
    pid = int(wait_for_file(tmp_path / "pid"))
    guard = _guard_of(pilot)

    os.kill(guard, signal.SIGKILL)
    await_true(lambda: _guard_of(pilot) not in (None, guard), 5, "no new guard")
    pilot.process.kill()

    await_true(lambda: not is_alive(pid), 5, "the payload lives on")


def test_a_stopped_pilot_keeps_its_payloads(start, book, tmp_path):
    book.waiting.append(make_job(1, "sh", "-c", f"echo $$ > {tmp_path}/pid; exec sleep 60"))
    pilot = start()
    pid = int(wait_for_file(tmp_path / "pid"))

    pilot.process.send_signal(signal.SIGSTOP)
    threading.Event().wait(0.3)
    alive = is_alive(pid)
    pilot.process.send_signal(signal.SIGCONT)

    assert alive


def test_a_pilot_killed_in_stage_in_leaves_nothing_that_the_next_one_does_not_remove(start, book, hanging):
    wanted = {"lfn": "in", "size_bytes": 10, "adler32": "00000001", "url": hanging.url}
    book.waiting.append(make_job(1, "true", inputs=[wanted]))
    pilot = start()
    assert hanging.asked.wait(10)
    pilot.process.kill()
    pilot.process.wait()
    assert len(_homes(pilot)) == 1

    assert start().wait() == 0

    assert _homes(pilot) == []
    assert 1 not in book.finals


def test_a_pilot_killed_in_stage_out_reports_nothing_finished(start, book, hanging):
    book.waiting.append(make_job(1, "sh", "-c", "echo 1 > out", outputs=[{"lfn": "out", "url": hanging.url}]))
    pilot = start()
    assert hanging.asked.wait(10)
    pilot.process.kill()
    pilot.process.wait()

    assert start().wait() == 0

    assert _homes(pilot) == []
    assert 1 not in book.finals


def test_a_result_that_was_not_reported_is_reported_by_the_next_pilot(start, book, tmp_path):
    """Killed between the upload and the report."""
    url = (tmp_path / "storage" / "out").as_uri()
    book.waiting.append(make_job(1, "sh", "-c", "echo said; echo 1 > out", outputs=[{"lfn": "out", "url": url}]))
    book.faults.append(lambda path: path.endswith("/update"))
    pilot = start()
    [kept] = await_true(lambda: list(pilot.work.glob("pilot-*/results/*.json")), 10, "nothing is kept")
    assert kept.stat().st_mode & 0o777 == 0o600
    pilot.process.kill()
    pilot.process.wait()
    book.faults.clear()

    assert start().wait() == 0

    report = book.finals[1]
    assert (report["status"], report["token"]) == ("finished", "lease-1")
    assert report["outputs"] == [
        {"lfn": "out", "size_bytes": 2, "adler32": f"{zlib.adler32(b'1' + chr(10).encode()):08x}"}
    ]
    assert book.logs[1, "payload.stdout"] == b"said\n"
    assert _homes(pilot) == []


def test_a_long_job_of_a_killed_pilot_is_given_back_with_the_end_of_its_log(start, book, tmp_path):
    book.waiting.append(make_job(1, "sh", "-c", f"echo begun; echo $$ > {tmp_path}/pid; exec sleep 60"))
    pilot = start()
    pid = int(wait_for_file(tmp_path / "pid"))
    await_true(lambda: list(pilot.work.glob("pilot-*/results/1.1.json")), 20, "nothing is kept")
    pilot.process.kill()
    pilot.process.wait()

    assert start().wait() == 0

    assert (book.finals[1]["status"], book.finals[1]["error_code"]) == ("failed", 1201)
    assert "the pilot died" in book.finals[1]["error_message"]
    assert book.logs[1, "payload.stdout"] == b"begun\n"
    assert not is_alive(pid)
    assert _homes(pilot) == []


def test_a_result_of_a_superseded_attempt_is_dropped(start, book, tmp_path):
    _leave_result(tmp_path / "work", book, panda_id=5)
    book.outcomes[5] = "stale_lease"

    pilot = start()

    assert pilot.wait() == 0
    assert _homes(pilot) == []


def test_a_result_that_cannot_be_read_costs_nothing_else(start, book, tmp_path):
    home = _leave_result(tmp_path / "work", book, panda_id=5)
    (home / "results" / "6.1.json").write_text("{cut sho")

    pilot = start()

    assert pilot.wait() == 0
    assert book.finals[5]["status"] == "finished"
    assert _homes(pilot) == []


def test_the_home_of_a_pilot_that_lives_is_left_alone(start, book, tmp_path):
    book.waiting.append(make_job(1, "sh", "-c", f"until test -e {tmp_path}/on; do sleep 0.05; done; echo 1 > here"))
    first = start()
    wait_until(book, lambda: "running" in book.statuses.get(1, []))

    assert start().wait() == 0
    (tmp_path / "on").touch()

    assert first.wait() == 0
    assert book.finals[1]["status"] == "finished"


def test_results_of_a_pilot_that_leaves_during_an_outage_wait_for_the_next_one(start, book, tmp_path):
    book.waiting.append(make_job(1, "sh", "-c", f"until test -e {tmp_path}/away; do sleep 0.05; done; echo done"))
    pilot = start("--outage-s", "1")
    wait_until(book, lambda: "running" in book.statuses.get(1, []))
    book.faults.append(lambda _path: True)
    (tmp_path / "away").touch()
    assert pilot.wait() == 4
    assert len(_homes(pilot)) == 1
    book.faults.clear()

    assert start().wait() == 0

    assert book.finals[1]["status"] == "finished"
    assert _homes(pilot) == []


def _leave_result(work: Path, book, panda_id: int) -> Path:
    """What a dead pilot of this node left, without a process."""
    home = work / "pilot-0123456789abcdef"
    (home / "results").mkdir(parents=True)
    (home / "lock").write_text(json.dumps({"mark": "0123456789abcdef", "node": os.uname().nodename}))
    report = {"panda_id": panda_id, "attempt_nr": 1, "token": f"lease-{panda_id}", "status": "finished"}
    content = {"url": book.url, "report": report, "folder": "", "pilot_log": ""}
    (home / "results" / f"{panda_id}.1.json").write_text(json.dumps(content))
    return home


def _guard_of(pilot):
    children = Path(f"/proc/{pilot.process.pid}/task/{pilot.process.pid}/children").read_text().split()
    for child in children:
        if b"pilot.guard" in Path(f"/proc/{child}/cmdline").read_bytes():
            return int(child)
    return None
