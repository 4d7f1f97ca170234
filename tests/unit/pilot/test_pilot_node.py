"""The node: checked before work, told to the server; limits that the kernel keeps; samples; the pilot's own log."""

import json
import os
import sys
import threading
import time
from pathlib import Path

import pytest
from pilot_processes import await_true, wait_for_file
from pilot_stub_server import make_job, wait_until

from pilot import cgroups, checks
from pilot.usage import Usage


def test_the_server_hears_what_the_node_is_and_how_the_pilot_ended(run, book):
    run(make_job(1, "echo", "hello"))

    told = book.said["environment"]
    assert told["facts"]["cores"] >= 1
    assert abs(told["facts"].get("clock_skew_s", 0)) < 60
    assert told["problems"] == []
    end = book.said["end"]
    assert (end["exit_code"], end["why"]) == (0, "no job for 0 s")
    assert "asks http://127.0.0.1" in end["log"]


def test_a_node_without_a_needed_tool_takes_no_work_and_says_so(start, book):
    book.waiting.append(make_job(1))
    pilot = start("--need", "sh,no-such-tool")

    assert pilot.wait() == 8
    assert book.acquires == []
    assert "no-such-tool" in book.said["environment"]["problems"][0]
    assert book.said["end"]["exit_code"] == 8
    assert list(pilot.work.iterdir()) == []


def test_a_clock_that_is_off_is_told(start, book):
    book.clock_skew_s = 3600
    pilot = start()

    assert pilot.wait() == 0
    assert "clock is +3600 s off" in book.said["environment"]["warnings"][0]


def test_a_full_or_noexec_disk_is_a_problem(tmp_path, monkeypatch):
    monkeypatch.setattr(checks.node, "disk_mb", lambda _: 10)
    found = checks.check(str(tmp_path), 1000, [], "watchdog")
    assert found.problems == [f"{tmp_path} has 10 MB free, at least 50 are needed"]

    class NoExec:
        f_flag = os.ST_NOEXEC

    monkeypatch.setattr(checks.node, "disk_mb", lambda _: 10_000)
    monkeypatch.setattr(checks.os, "statvfs", lambda _: NoExec)
    found = checks.check(str(tmp_path), 1000, [], "watchdog")
    assert "noexec" in found.problems[0]


def test_heartbeats_carry_samples_of_what_runs(start, book, tmp_path):
    book.heartbeat_s = 0.2
    script = (
        f"import os, time; x = bytearray(50_000_000); open({str(tmp_path / 'up')!r}, 'w').write('1'); time.sleep(30)"
    )
    book.waiting.append(make_job(1, sys.executable, "-c", script))
    start()
    wait_for_file(tmp_path / "up")

    def full():
        return [b for beats in book.beats for b in beats if b.get("rss_mb", 0) > 50 and b.get("n_processes") == 1]

    wait_until(book, full)
    assert full()[0]["wall_s"] > 0
    assert {"read_mb", "written_mb"} <= set(full()[0])


def test_a_file_that_outgrows_the_disk_is_stopped_at_once(run):
    finals = run(make_job(1, "sh", "-c", "head -c 9000000 /dev/zero > big; echo kept going", disk_mb=5))

    assert finals[1]["error_code"] in (1104, 1305)
    assert finals[1]["wall_s"] < 5


def test_a_silent_payload_is_ended_where_silence_is_forbidden(run):
    finals = run(make_job(1, "sleep", "60"), args=("--silence-s", "1"))

    assert finals[1]["error_code"] == 1150


def test_a_job_may_ask_for_its_own_silence_and_a_busy_one_is_not_silent(run):
    busy = "import time\nuntil = time.time() + 3\nwhile time.time() < until: pass"
    finals = run(
        make_job(1, "sleep", "60", env={"PANDA_SILENCE_S": "1"}),
        make_job(2, sys.executable, "-c", busy, env={"PANDA_SILENCE_S": "1.5"}),
    )

    assert (finals[1]["error_code"], finals[2]["status"]) == (1150, "finished")


HOG = "x = bytearray(100_000_000); import time; time.sleep(2.5)"


def test_a_margin_lets_a_payload_use_more(run):
    finals = run(make_job(1, sys.executable, "-c", HOG, memory_mb=90), args=("--margin-percent", "100"))

    assert finals[1]["status"] == "finished"


@pytest.mark.parametrize(
    ("said", "own", "status"),
    [
        (["--margin-percent", "100", "--cores", "64", "--nonsense"], (), "finished"),  # others pass over what they lack
        (["--margin-percent", "100"], ("--margin-percent", "0"), "failed"),
        (["--margin-percent", "a lot"], (), "failed"),
    ],
)
def test_what_the_queue_says_holds_for_a_pilot_that_somebody_started_by_hand(run, book, said, own, status):
    book.queue_options = said

    finals = run(make_job(1, sys.executable, "-c", HOG, memory_mb=90), args=own)

    assert finals[1]["status"] == status
    assert book.acquires[0]["cores"] < 64


def test_a_log_that_is_read_along_is_sent_every_second(start, book, tmp_path):
    book.watched = True
    book.heartbeat_s = 0.2
    tick = f"for i in $(seq 40); do echo $i; sleep 0.25; test -e {tmp_path}/on && exit; done"
    book.waiting.append(make_job(1, "sh", "-c", tick))
    pilot = start()

    wait_until(book, lambda: sum(name == "payload.stdout" for name, _, _ in book.puts) >= 3, timeout_s=12)
    (tmp_path / "on").touch()

    assert pilot.wait() == 0
    offsets = [offset for name, offset, _ in book.puts if name == "payload.stdout"]
    assert offsets == sorted(offsets)


def test_what_was_sent_of_a_log_survives_the_pilot(start, book, tmp_path):
    book.watched = True
    book.waiting.append(make_job(1, "sh", "-c", "echo first; sleep 60"))
    pilot = start()
    wait_until(book, lambda: book.logs.get((1, "payload.stdout")) == b"first\n")

    pilot.process.kill()
    pilot.process.wait()

    assert book.logs[1, "payload.stdout"] == b"first\n"


def test_sigterm_lets_payloads_run_on_for_the_drain_time(start, book, tmp_path):
    book.waiting += [make_job(1, "sh", "-c", f"touch {tmp_path}/on; sleep 1"), make_job(2, cores=2)]
    pilot = start("--drain-s", "20")
    await_true((tmp_path / "on").exists, 10, "not started")
    pilot.terminate()

    assert pilot.wait() == 6
    assert book.finals[1]["status"] == "finished"
    assert len(book.acquires) <= 2


def test_the_end_of_the_slot_ends_payloads_so_that_they_run_elsewhere(start, book):
    book.waiting.append(make_job(1, "sleep", "60"))
    pilot = start("--walltime-s", "36", "--grace-s", "1", "--max-jobs", "1", "--drain-s", "9")

    assert pilot.wait(45) == 6
    assert book.finals[1]["error_code"] == 1201
    assert "end of the slot" in book.finals[1]["error_message"]


def test_a_pilot_may_pause_and_ask_again_instead_of_leaving(start, book):
    pilot = start("--pause-s", "0.5")
    wait_until(book, lambda: len(book.acquires) >= 3)
    with book.changed:
        book.waiting.append(make_job(1))
    wait_until(book, lambda: 1 in book.finals)

    pilot.terminate()
    assert pilot.wait() == 6


def test_payloads_see_what_the_site_passes_on(run, book):
    run(
        make_job(1, "sh", "-c", "echo $SITE_THING-$SITE_SECRET"),
        args=("--pass-env", "SITE_THING"),
        SITE_THING="a",
        SITE_SECRET="b",
    )

    assert book.logs[1, "payload.stdout"] == b"a-\n"


def test_usage_counts_silence_from_the_last_sign_of_life():
    usage = Usage()
    usage.lively_at = 100.0
    usage.seen([1], 0.05, 10**6)
    assert usage.silent_s(103.0, 0) == 3.0
    usage.seen([1], 0.5, 10**6)
    assert usage.silent_s(104.0, 0) == 0.0
    assert usage.silent_s(106.0, 10) == 0.0


class FakeTree:
    """A cgroup subtree of plain files, as far as it can be played."""

    def __init__(self, folder):
        self.root = folder / "cg"
        self.own = self.root / "batch" / "slot"
        self.own.mkdir(parents=True)
        (self.own / "cgroup.controllers").write_text("cpu memory pids\n")
        (self.own / "cgroup.subtree_control").write_text("")
        (self.own / "cgroup.procs").write_text(f"{os.getpid()}\n")
        self.mounts = folder / "mountinfo"
        self.mounts.write_text(f"30 20 0:26 / {self.root} rw - cgroup2 cgroup2 rw\n")
        self.named = folder / "cgroup"
        self.named.write_text("0::/batch/slot\n")

    def find(self):
        return cgroups.find(str(self.mounts), str(self.named))


def test_a_delegated_subtree_gets_a_group_per_job(tmp_path):
    tree = FakeTree(tmp_path)

    found = tree.find()
    assert found is not None
    group = found.make("job-1.1", memory_bytes=10**9, cores=2, n_processes=50)

    assert found.controllers == ["memory", "pids", "cpu"]
    assert (tree.own / "pilot" / "cgroup.procs").read_text() == str(os.getpid())
    assert (tree.own / "cgroup.subtree_control").read_text() == "+memory +pids +cpu"
    limits = {name: (tree.own / "job-1.1" / name).read_text() for name in ("memory.max", "pids.max", "cpu.max")}
    assert limits == {"memory.max": "1000000000", "pids.max": "50", "cpu.max": "400000 100000"}
    (tree.own / "job-1.1" / "memory.events").write_text("low 0\noom 1\noom_kill 1\n")
    assert group.was_out_of_memory()


def test_a_subtree_with_others_in_it_is_left_alone(tmp_path):
    tree = FakeTree(tmp_path)
    (tree.own / "cgroup.procs").write_text(f"{os.getpid()}\n1\n")

    assert tree.find() is None
    assert not (tree.own / "pilot").exists()


@pytest.mark.parametrize("missing", ["mounts", "named"])
def test_without_version_2_there_are_no_groups(tmp_path, missing):
    tree = FakeTree(tmp_path)
    getattr(tree, missing).write_text("")

    assert tree.find() is None


def test_the_kernels_own_group_ends_what_is_in_it(tmp_path):
    """On a real tree of version 2, without controllers."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines() if line.split()[2] == "cgroup2"]
    if not mounts or not os.access(mounts[0][1], os.W_OK) or os.geteuid() != 0:
        pytest.skip("no cgroup tree of version 2 that may be written")
    path = f"{mounts[0][1]}/panda-test-{os.getpid()}"
    os.mkdir(path)
    group = cgroups.Group(path)
    child = os.posix_spawn("/bin/sleep", ["sleep", "60"], {})
    group.add(child)

    assert group.pids() == [child]
    killer = threading.Thread(target=lambda: os.waitpid(child, 0))
    killer.start()
    if os.path.exists(f"{path}/cgroup.kill"):
        group.remove()
    else:
        os.kill(child, 9)
        time.sleep(0.1)
        group.remove()
    killer.join(5)

    assert not os.path.exists(path)


def test_a_facts_document_is_json(tmp_path):
    json.dumps(checks.check(str(tmp_path), 1, ["sh"], "watchdog").facts)
