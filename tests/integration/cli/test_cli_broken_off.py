"""Ctrl-C, and a full disk, in the middle of long commands."""

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from cli_scripted import Panda, Reply, Scripted

from panda.db.session import Begin, rows, run
from panda.settings import Settings

DATASET = {"dataset": "user.ann:in", "status": "open", "size_bytes": 3_000_000}
RUNNING = {"accepted": 1, "running": 1}
SET = {"jobset_id": 9, "status": "running", "ledger": RUNNING, "n_jobs": 1, "first_panda_id": 7, "last_panda_id": 7}
JOB = {"panda_id": 7, "status": "running", "attempt_nr": 1}
ACTION = {"action_id": 5, "n": 2, "status": "running", "n_previewed": 2, "token": "t"}
BYTES = b"x" * 3_000_000
QUEUE = {"name": "Q", "site": "S", "status": "online", "cores": 1, "memory_mb": 2000, "disk_mb": 2000, "walltime_s": 9999,
         "gpus": 0, "tags": []}  # fmt: skip
FILE = {"lfn": "big.root", "size_bytes": len(BYTES), "adler32": "00000000"}
STREAM = {"Content-Type": "text/event-stream"}
CTRL_C = Reply(200, {}, interrupts=True)


def page(*items: Any) -> dict[str, Any]:
    return {"data": list(items), "page": {"next": None}}


#: words, answers, what is said about how to go on.
LONG: list[tuple[str, dict[tuple[str, str], Any], str]] = [
    ("wait set:9", {("GET", "/v1/jobsets/9"): CTRL_C}, "panda wait set:9"),
    (
        "submit --wait -- run",
        {("POST", "/v1/jobsets"): Reply(201, SET), ("GET", "/v1/jobsets/9"): CTRL_C},
        "panda wait set:9",
    ),
    (
        "watch set:9",
        {("GET", "/v1/jobsets/9"): SET, ("GET", "/v1/events"): Reply(200, b": here\n\n", STREAM, 8, interrupts=True)},
        "panda watch set:9",
    ),
    (
        "logs 7 -f",
        {
            ("GET", "/v1/jobs/7"): JOB,
            ("GET", "/v1/jobs/7/logs"): page({"name": "payload.stdout", "size_bytes": 1}),
            ("GET", "/v1/jobs/7/logs/payload.stdout"): CTRL_C,
        },
        "panda logs 7 payload.stdout -f",
    ),
    ("actions 5 --wait", {("GET", "/v1/actions/5"): CTRL_C}, "panda actions 5 --wait"),
    (
        "retry set:9 --yes",
        {("POST", "/v1/jobs/actions"): ACTION, ("GET", "/v1/actions/5"): CTRL_C},
        "panda actions 5 --wait",
    ),
    (
        "get user.ann:in --dest got",
        {
            ("GET", "/v1/datasets/user.ann:in"): DATASET,
            ("GET", "/v1/datasets/user.ann:in/files"): page(FILE),
            ("GET", "/v1/datasets/user.ann:in/files/big.root"): Reply(200, BYTES, n_bytes=100_000, interrupts=True),
        },
        "the same command goes on",
    ),
    (
        "get user.ann:in --wait --dest got",
        {
            ("GET", "/v1/datasets/user.ann:in"): [DATASET, DATASET, DATASET, CTRL_C],
            ("GET", "/v1/datasets/user.ann:in/files"): page(),
        },
        "the same command goes on",
    ),
    (
        "simulate fleet fleet.toml --pilots-only --pilot-token-file token --drain 0",
        {
            ("GET", "/v1/queues"): Reply(200, page(QUEUE), {"Content-Type": "application/json"}),
            ("POST", "/v1/pilots/acquire"): CTRL_C,
        },
        "its pilots are gone",
    ),
    (
        "put big.root --dataset user.ann:in",
        {
            ("GET", "/v1/storages"): page({"name": "D"}),
            ("POST", "/v1/datasets"): DATASET,
            ("GET", "/v1/datasets/user.ann:in/files"): page(),
            ("PUT", "/v1/datasets/user.ann:in/files/big.root"): CTRL_C,
        },
        "the same command goes on",
    ),
]


@pytest.mark.parametrize(("words", "answers", "told"), LONG, ids=[words for words, _, _ in LONG])
def test_ctrl_c_ends_a_command_and_how_to_go_on_is_said(
    words: str, answers: dict[tuple[str, str], Any], told: str, at_script: Scripted, panda: Panda,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "big.root").write_bytes(BYTES)
    (tmp_path / "fleet.toml").write_text('groups = [{queues = ["Q"], pilots = 1}]\n')
    (tmp_path / "token").write_text("t")
    for (method, path), reply in answers.items():
        at_script.on(method, path, *(reply if isinstance(reply, list) else [reply]))

    ended = panda(*words.split())

    assert ended.code == 130, ended.err
    assert told in ended.err
    assert not (tmp_path / "got" / "big.root").exists()
    assert [part.name for part in tmp_path.rglob("*.part")] == (
        [".big.root.00000000.part"] if words == "get user.ann:in --dest got" else []
    )


def test_ctrl_c_ends_a_scan_of_a_storage(
    real: Begin, settings: Settings, panda: Panda, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PANDA_DATABASE_URL", settings.store.database_url)
    is_waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"

    def press() -> None:
        while True:
            with real() as connection:
                if rows(connection, is_waiting):
                    break
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    somebody = threading.Thread(target=press, daemon=True)
    with real() as connection:
        run(connection, "LOCK TABLE storages IN ACCESS EXCLUSIVE MODE")  # the scan cannot end before the key is pressed
        somebody.start()
        ended = panda("storage", "scan", "HOLLAND-DISK")
    somebody.join(60)

    assert ended.code == 130
    assert "nothing was changed" in ended.err


def test_a_full_disk_under_get_leaves_nothing_half_and_says_so(script: Scripted, tmp_path: Path) -> None:
    script.on("GET", "/v1/datasets/user.ann:in", DATASET)
    script.on("GET", "/v1/datasets/user.ann:in/files", page(FILE))
    script.on("GET", "/v1/datasets/user.ann:in/files/big.root", Reply(200, BYTES))

    def small_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    ended = subprocess.run(
        [sys.executable, "-m", "panda.cli.main", "get", "user.ann:in", "--dest", str(tmp_path / "got")],
        env={**os.environ, "PANDA_URL": script.url, "PANDA_TOKEN": "t", "PYTHONDONTWRITEBYTECODE": "1"},
        preexec_fn=small_disk, capture_output=True, text=True, timeout=60,
    )  # fmt: skip

    assert ended.returncode == 1
    assert "File too large" in ended.stderr
    assert f"{tmp_path / 'got' / 'big.root'}: " in ended.stderr
    assert "it has 3000000 bytes, " in ended.stderr
    assert "with more room the same command goes on" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert list((tmp_path / "got").iterdir()) == []


def test_a_folder_that_cannot_be_is_named_and_no_way_on_is_promised(at_script: Scripted, panda: Panda) -> None:
    at_script.on("GET", "/v1/datasets/user.ann:in", DATASET)
    at_script.on("GET", "/v1/datasets/user.ann:in/files", page(FILE))
    at_script.on("GET", "/v1/datasets/user.ann:in/files/big.root", Reply(200, BYTES))

    ended = panda("get", "user.ann:in", "--dest", "/proc/x")

    assert ended.code == 1
    assert "/proc/x: No such file or directory" in ended.err
    assert "goes on" not in ended.err


def test_files_that_are_there_are_not_sent_again(at_script: Scripted, panda: Panda, tmp_path: Path) -> None:
    for name in ("old.txt", "new.txt", "changed.txt"):
        (tmp_path / name).write_text("abc")
    there = {"size_bytes": 3, "adler32": "024d0127"}
    at_script.on("GET", "/v1/storages", page({"name": "D"}))
    at_script.on("POST", "/v1/datasets", DATASET)
    at_script.on(
        "GET", "/v1/datasets/user.ann:in/files", page({"lfn": "old.txt", **there}, {"lfn": "changed.txt", **there, "size_bytes": 4})
    )  # fmt: skip
    for name in ("new.txt", "changed.txt"):
        at_script.on("PUT", f"/v1/datasets/user.ann:in/files/{name}", Reply(201, {"lfn": name, **there}))

    ended = panda("put", *sorted(tmp_path.iterdir()), "--dataset", "user.ann:in", "-q")

    assert (ended.code, ended.out.split()) == (0, ["changed.txt", "new.txt", "old.txt"])
    sent = [target.rpartition("/")[2] for target in at_script.targets("PUT")]
    assert sent == ["changed.txt?storage=D", "new.txt?storage=D"]
