"""What a job's final report says, for every way a job can go."""

import json
import threading
import zlib
from pathlib import Path

import pytest
from pilot_stub_server import make_job, wait_until


def test_a_job_that_echoes_is_finished_and_its_log_arrives(run, book):
    finals = run(make_job(1, "echo", "hello"))

    assert finals[1]["status"] == "finished"
    assert finals[1]["exit_code"] == 0
    assert finals[1]["wall_s"] >= 0
    assert finals[1]["cpu_s"] >= 0
    assert finals[1]["token"] == "lease-1"
    assert book.logs[1, "payload.stdout"] == b"hello\n"
    assert {log["name"]: log["size_bytes"] for log in finals[1]["logs"]}["payload.stdout"] == 6
    assert (1, "payload.stderr") not in book.logs
    assert b"exit code 0" in book.logs[1, "pilot.log"]


def test_an_exit_code_fails_the_job(run, book):
    finals = run(make_job(1, "sh", "-c", "echo oops >&2; exit 3"))

    assert finals[1]["status"] == "failed"
    assert finals[1]["error_code"] == 1305
    assert finals[1]["exit_code"] == 3
    assert "exit code 3" in finals[1]["error_message"]
    assert book.logs[1, "payload.stderr"] == b"oops\n"


@pytest.mark.parametrize("command", ["no-such-command-anywhere", "./missing.sh", "/nowhere/at/all"])
def test_a_command_that_does_not_exist_is_named(run, command):
    finals = run(make_job(1, command))

    assert finals[1]["status"] == "failed"
    assert finals[1]["error_code"] == 1346
    assert command in finals[1]["error_message"]
    assert "exit_code" not in finals[1]


def test_a_file_that_may_not_be_executed_is_named(run):
    finals = run(make_job(1, "/etc/passwd"))

    assert finals[1]["error_code"] == 1305
    assert "/etc/passwd" in finals[1]["error_message"]


def test_a_payload_killed_by_a_stranger_says_so(run):
    finals = run(make_job(1, "sh", "-c", "kill -KILL $$"), make_job(2, "sh", "-c", "kill -SEGV $$"))

    assert (finals[1]["error_code"], finals[1]["exit_code"]) == (1212, -9)
    assert "out of memory" in finals[1]["error_message"]
    assert (finals[2]["error_code"], finals[2]["exit_code"]) == (1328, -11)


def test_a_missing_output_fails_the_job_with_its_name(run, tmp_path):
    url = (tmp_path / "storage" / "result.root").as_uri()
    finals = run(make_job(1, "true", outputs=[{"lfn": "result.root", "url": url}]))

    assert finals[1]["status"] == "failed"
    assert finals[1]["error_code"] == 1165
    assert "result.root" in finals[1]["error_message"]


def test_an_output_is_copied_with_size_and_checksum(run, tmp_path):
    content = bytes(range(256)) * 9000
    (tmp_path / "content").write_bytes(content)
    stored = tmp_path / "storage" / "a b" / "out.dat"
    outputs = [{"lfn": "out.dat", "url": stored.as_uri()}]

    finals = run(make_job(1, "cp", str(tmp_path / "content"), "out.dat", outputs=outputs))

    assert finals[1]["status"] == "finished"
    assert stored.read_bytes() == content
    adler32 = f"{zlib.adler32(content):08x}"
    assert finals[1]["outputs"] == [{"lfn": "out.dat", "size_bytes": len(content), "adler32": adler32}]
    assert [path.name for path in stored.parent.iterdir()] == ["out.dat"]


def _input(path, content, **more):
    path.write_bytes(content)
    checksum = f"{zlib.adler32(content):08x}"
    return {
        "lfn": path.name,
        "size_bytes": len(content),
        "adler32": checksum,
        "url": path.as_uri(),
        **more,
    }


def test_an_input_is_a_copy_that_the_payload_may_spoil(run, book, tmp_path):
    wanted = _input(tmp_path / "in.txt", b"precious")

    run(make_job(1, "sh", "-c", "cat in.txt; echo spoilt > in.txt", inputs=[wanted]))

    assert book.logs[1, "payload.stdout"] == b"precious"
    assert (tmp_path / "in.txt").read_bytes() == b"precious"
    assert book.statuses[1][-1] == "finished"


def test_an_input_that_is_read_in_place_is_not_copied_and_the_payload_is_told_where_it_is(run, book, tmp_path):
    direct = _input(tmp_path / "big.txt", b"precious", direct=True, adler32="00000001")
    copied = _input(tmp_path / "in.txt", b"small")

    run(make_job(1, "sh", "-c", "ls; cat $PANDA_INPUTS", inputs=[direct, copied]))

    listed, _, told = book.logs[1, "payload.stdout"].decode().partition("{")
    places = json.loads("{" + told)
    assert "big.txt" not in listed.split()
    assert places["big.txt"] == str(tmp_path / "big.txt")
    assert places["in.txt"].endswith("/1.1/in.txt")
    assert book.statuses[1][-1] == "finished"


def test_an_input_with_another_checksum_is_refused(run, tmp_path):
    wanted = _input(tmp_path / "in.txt", b"precious", adler32="00000001")
    finals = run(make_job(1, "cat", "in.txt", inputs=[wanted]))

    assert finals[1]["status"] == "failed"
    assert finals[1]["error_code"] == 1171
    assert "in.txt" in finals[1]["error_message"]


def test_an_input_that_is_not_there_is_named(run, tmp_path):
    wanted = {"lfn": "a", "size_bytes": 1, "adler32": "00000001", "url": (tmp_path / "gone").as_uri()}
    finals = run(make_job(1, "cat", "a", inputs=[wanted]))

    assert finals[1]["error_code"] == 1103
    assert "gone" in finals[1]["error_message"]


def test_a_file_name_cannot_lead_out_of_the_work_folder(run, tmp_path):
    wanted = _input(tmp_path / "in.txt", b"x", lfn="../escaped")
    finals = run(make_job(1, "true", inputs=[wanted]))

    assert finals[1]["error_code"] == 1110
    assert not list(tmp_path.rglob("escaped"))


def test_the_payload_sees_its_own_environment_and_no_token(run, book, tmp_path):
    job = make_job(7, "env", env={"MY_SEED": "42"}, cores=2)
    run(job, PANDA_TOKEN="secret-in-the-environment", SITE_SECRET="another")

    seen = dict(line.split("=", 1) for line in book.logs[7, "payload.stdout"].decode().splitlines())
    folder = seen["HOME"]
    assert Path(folder).match(str(tmp_path / "work" / "pilot-*" / "jobs" / "7.1"))
    assert set(seen) <= {
        *("PATH", "LANG", "HOME", "TMPDIR", "MY_SEED", "PANDA_ID", "PANDA_ATTEMPT", "PANDA_CORES", "PANDA_PILOT_MARK"),
        *("PWD", "SHLVL", "_"),
    }
    assert (seen["HOME"], seen["TMPDIR"]) == (folder, folder + "/tmp")
    assert (seen["PANDA_ID"], seen["PANDA_ATTEMPT"], seen["PANDA_CORES"]) == ("7", "1", "2")
    assert seen["MY_SEED"] == "42"


def test_three_hundred_tiny_jobs_go_through_in_bulk(run, book):
    finals = run(*[make_job(n) for n in range(1, 301)], args=("--bulk", "100"))

    assert sorted(finals) == list(range(1, 301))
    assert {report["status"] for report in finals.values()} == {"finished"}
    assert book.puts == []
    assert len(book.updates) < 150
    assert len(book.acquires) < 30


def test_jobs_share_the_slot_by_cores(run, book):
    meet = "touch ../here.$PANDA_ID; until test -e ../here.1 -a -e ../here.2; do sleep 0.02; done"
    pair = [make_job(n, "sh", "-c", meet, walltime_s=10) for n in (1, 2)]
    finals = run(*pair, make_job(3, "sh", "-c", "rm ../here.*", cores=2))

    assert [finals[n]["status"] for n in (1, 2, 3)] == ["finished"] * 3


def test_a_job_larger_than_the_slot_is_failed(run):
    finals = run(make_job(1, cores=64))

    assert finals[1]["error_code"] == 1344


def test_heartbeats_cover_running_and_queued_jobs(start, book):
    book.heartbeat_s = 0.1
    book.waiting += [make_job(1, "sleep", "30", cores=2), make_job(2, "sleep", "30", cores=2)]
    start()

    wait_until(book, lambda: any({b["panda_id"] for b in beats} == {1, 2} for beats in book.beats))


def test_a_running_payloads_log_can_be_followed(start, book, tmp_path):
    script = f"echo first; until test -e {tmp_path}/go; do sleep 0.05; done; echo last"
    book.waiting.append(make_job(1, "sh", "-c", script))
    pilot = start()

    wait_until(book, lambda: book.logs.get((1, "payload.stdout")) == b"first\n")
    assert 1 not in book.finals
    (tmp_path / "go").touch()

    assert pilot.wait() == 0
    assert book.logs[1, "payload.stdout"] == b"first\nlast\n"


def test_a_pilot_with_a_full_slot_sleeps(start, book):
    book.waiting.append(make_job(1, "sleep", "1", cores=2))
    pilot = start()
    wait_until(book, lambda: "running" in book.statuses.get(1, []))
    before_s = pilot.cpu_s()
    threading.Event().wait(0.5)

    assert pilot.cpu_s() - before_s < 0.15
    assert pilot.wait() == 0


@pytest.mark.parametrize(
    "deed",
    [
        "echo x > left",
        "echo x > tmp/left",
        "ln payload.stdout tmp/../hard",
        "chmod 777 tmp",
        "true",
        "mv payload.stdout away; mv away payload.stdout",
        "mkdir tmp/a",
        "rm payload.stderr; echo x > payload.stderr",
    ],
)
def test_what_a_silent_job_leaves_is_not_seen_by_the_next(run, book, deed):
    # A clean folder of a silent job becomes the next job's.
    doers = [make_job(n, "sh", "-c", deed) for n in (1, 2)]
    lookers = [make_job(n, "sh", "-c", "stat -c '%n %h %a' * . tmp/*; true") for n in (3, 4)]
    run(*doers, *lookers)

    clean = b"payload.stderr 1 600\npayload.stdout 1 600\ntmp 2 700\n. 3 700\n"
    assert {book.logs[n, "payload.stdout"] for n in (3, 4)} == {clean}
