"""Commands against a server that does as it is told: exit codes, asking, waiting, logs."""

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cli_scripted import Panda, Reply, Scripted

LEDGER = {"accepted": 3, "unexpanded": 0, "waiting": 0, "running": 0, "finished": 2, "failed": 1, "cancelled": 0}
SET = {
    "jobset_id": 9,
    "name": "skim",
    "status": "failed",
    "n_jobs": 3,
    "ledger": LEDGER,
    "created_at": "2026-01-01T00:00:00Z",
}
ME = {"subject": "ann", "roles": ["user"], "queue": None}


def jobset(status: str, **ledger: int) -> dict[str, Any]:
    return {**SET, "status": status, "ledger": {**dict.fromkeys(LEDGER, 0), "accepted": 3, **ledger}, "by_status": {}}


def job(panda_id: int = 7, status: str = "running", **facts: Any) -> dict[str, Any]:
    return {"panda_id": panda_id, "status": status, "attempt_nr": 1, **facts}


def page(*items: Any) -> dict[str, Any]:
    return {"data": list(items), "page": {"next": None}}


def problem(status: int, code: str) -> Reply:
    return Reply(status, {"code": code, "detail": "a sentence", "request_id": "r1"})


@pytest.mark.parametrize(
    ("reply", "code", "word"),
    [
        (job(), 0, None),
        (problem(500, "internal"), 1, "internal"),
        (problem(404, "not_found"), 3, "not_found"),
        (problem(401, "unauthenticated"), 4, "unauthenticated"),
        (problem(403, "forbidden"), 4, "forbidden"),
        (problem(409, "conflict"), 5, "conflict"),
        (problem(422, "invalid"), 6, "invalid"),
        (problem(413, "too_large"), 6, "too_large"),
        (problem(507, "storage_full"), 7, "storage_full"),
    ],
)
def test_each_answer_has_its_exit_code_and_its_json(
    at_script: Scripted, panda: Panda, reply: Any, code: int, word: str | None
) -> None:
    at_script.on("GET", "/v1/jobs/7", reply)

    ended = panda("status", "7", "-o", "json")

    assert ended.code == code
    if word is None:
        assert ended.json["panda_id"] == 7
        assert ended.err == ""
    else:
        error = json.loads(ended.err)["error"]
        assert (error["code"], error["message"], error["request_id"]) == (word, "a sentence", "r1")
        assert set(error) == {"code", "message", "hint", "request_id"}
        assert ended.out == ""


def test_a_server_that_is_not_there_is_seven(panda: Panda, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("panda.client.calls.FIRST_WAIT_S", 0.001)

    ended = panda("--url", "http://127.0.0.1:1", "jobs")

    assert ended.code == 7
    assert ended.err.splitlines()[0] == "panda: no server at 127.0.0.1:1: Connection refused"


@pytest.mark.parametrize(
    "words",
    [
        ("jbos",), ("jobs", "x"), ("jobs", "--nothing"), ("status", "20-10"), ("submit",), ("submit", "--"), ("wait",),
        ("wait", "7-8", "--job-code"), ("api", "GET", "v1"), ("logs", "7", "--grep", "("), ("put", "/nowhere", "--dataset", "a:b"),
        ("wait", "7", "--timeout", "2"), ("site", "set", "X", "open", "--reason", "r"), ("logs", "1-3", "-f"),
        ("status", "7", "set:9", "--events"),
    ],
)  # fmt: skip
def test_a_command_line_that_cannot_be_meant_is_two(at_script: Scripted, panda: Panda, words: tuple[str, ...]) -> None:
    ended = panda(*words)

    assert ended.code == 2
    assert ended.out == ""
    assert ended.err.startswith("panda: ")
    assert [each for each in at_script.received if each.method == "POST"] == []


def test_a_file_that_does_not_validate_is_six_and_nothing_is_sent(
    at_script: Scripted, panda: Panda, tmp_path: Path
) -> None:
    (tmp_path / "good.yaml").write_text("name: a\ncommand: [x]")
    (tmp_path / "bad.yaml").write_text("name: a\ncommand: [x]\ndefaults: {memory: 16}")

    ended = panda("submit", tmp_path / "good.yaml", tmp_path / "bad.yaml")

    assert ended.code == 6
    assert "defaults.memory: 16 is no size with a unit" in ended.err
    assert at_script.received == []


def test_help_is_zero_and_an_unknown_verb_suggests(panda: Panda) -> None:
    assert panda("--help").code == 0
    assert panda("jobs", "--help").out.startswith("Examples:\n")
    assert "did you mean 'submit'?" in panda("sumbit").err


def test_a_submission_prints_what_the_next_command_takes(at_script: Scripted, panda: Panda) -> None:
    at_script.on(
        "POST", "/v1/jobsets", Reply(201, {"jobset_id": 9, "first_panda_id": 1, "last_panda_id": 3, "n_jobs": 3})
    )

    ended = panda("submit", "-q", "--count", "3", "--memory", "2GB", "--", "/usr/bin/fit.sh", "--all", "%SEQ")

    sent = json.loads(at_script.received[0].body)
    assert ended.out == "set:9\n"
    assert sent == {
        "name": "fit.sh",
        "defaults": {"memory_mb": 2000},
        "template": {"command": ["/usr/bin/fit.sh", "--all", "${seq}"], "count": 3},
    }


def test_a_submission_uploads_its_files_first(at_script: Scripted, panda: Panda, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("1")
    (tmp_path / "jobs.yaml").write_text(
        "command: [python, a.py]\nupload: [a.py]\noutputs: {O: {dataset: 'user.${user}:x'}}"
    )
    at_script.on("GET", "/v1/whoami", ME)
    at_script.on(
        "POST", "/v1/jobsets", Reply(201, {"jobset_id": 9, "first_panda_id": 1, "last_panda_id": 1, "n_jobs": 1})
    )
    dry = panda("submit", tmp_path / "jobs.yaml", "--dry-run", "-o", "json")
    at_script.on("HEAD", f"/v1/sandboxes/{dry.json['defaults']['sandbox']}", Reply(200))

    ended = panda("submit", tmp_path / "jobs.yaml")

    assert ended.code == 0
    sent = json.loads(next(each.body for each in at_script.received if each.method == "POST"))
    assert sent == {**dry.json, "output_dataset": "user.ann:x"}
    assert sent["name"] == "jobs"
    assert at_script.targets("PUT") == []


def test_a_dry_run_and_a_printed_file_send_nothing(at_script: Scripted, panda: Panda, tmp_path: Path) -> None:
    words = ("--input", "mc:x", "--output", "user.ann:y", "--after", "set:4", "--", "run", "%IN", "%OUT")
    dry = panda("submit", "--dry-run", *words)
    printed = panda("submit", "--print-yaml", *words)
    (tmp_path / "again.yaml").write_text(printed.out)
    again = panda("submit", "--dry-run", tmp_path / "again.yaml")

    assert (dry.code, printed.code, again.code) == (0, 0, 0)
    assert again.out == dry.out
    assert "only the server can tell: 1 for each group of files of mc:x" in dry.err
    assert "job 0: run '(a file of IN)' out_000000" in dry.err
    assert {(each.method, each.target.partition("?")[0]) for each in at_script.received} == {("GET", "/v1/queues")}


def test_a_dry_run_tells_the_first_jobs_and_the_queues_that_would_take_them(at_script: Scripted, panda: Panda) -> None:
    facts = {"site": "NORTH", "cores": 8, "memory_mb": 4000, "disk_mb": 9000, "walltime_s": 86400, "tags": ["x"]}
    queues = [
        {"name": "A", "status": "online", **facts},
        {"name": "B", "status": "offline", **facts},
        {"name": "C", "status": "online", **facts, "cores": 1},
        {"name": "D", "status": "test", **facts, "site": "SOUTH"},
    ]
    at_script.on("GET", "/v1/queues", page(*queues))
    words = ("--count", "5", "--cores", "2", "--walltime", "1h", "--tag", "x", "--", "run", "%SEQ")

    dry = panda("submit", "--dry-run", *words)
    only = panda("submit", "--dry-run", "--site", "SOUTH", *words)

    assert dry.err.splitlines() == [
        "run: valid, 5 jobs",
        "  at most 10 core hours",
        *(f"  job {seq}: run {seq}" for seq in range(3)),
        "  not B (NORTH): the queue is offline",
        "  not C (NORTH): needs 2 cores, the queue has 1",
        "  not D (SOUTH): the queue is test",
        "  queues that would take them: A (NORTH)",
    ]
    assert only.err.endswith("queues that would take them: D (SOUTH)\n")


def test_last_is_my_newest_job_set(at_script: Scripted, panda: Panda) -> None:
    at_script.on("GET", "/v1/whoami", ME)
    at_script.on("GET", "/v1/jobsets?owner=ann&limit=1", page(SET))
    at_script.on("GET", "/v1/jobsets/9", SET)

    ended = panda("status", "last", "-o", "table")

    assert "accepted 3 = waiting 0 + running 0 + final 3 (finished 2, failed 1, cancelled 0)" in ended.out


def test_without_a_job_set_last_is_not_found(at_script: Scripted, panda: Panda) -> None:
    at_script.on("GET", "/v1/whoami", ME)
    at_script.on("GET", "/v1/jobsets", page())

    ended = panda("status", "last")

    assert (ended.code, ended.err.splitlines()[0]) == (3, "panda: ann has no job set yet")


def preview(n: int, **untouched: int) -> dict[str, Any]:
    first = [job(panda_id, "failed") for panda_id in range(9, 9 - min(n, 3), -1)]
    return {"action_id": 5, "n": n, "status": "previewed", "token": "t5", "first": first, "untouched": untouched}


def action(status: str = "done", n: int = 2, **facts: Any) -> dict[str, Any]:
    return {"action_id": 5, "n": n, "status": status, "n_previewed": n, "n_done": n, "refused": {}, **facts}


def asked(script: Scripted) -> list[Any]:
    return [json.loads(each.body) for each in script.received if each.method == "POST"]


def test_more_than_one_job_is_not_touched_without_leave(at_script: Scripted, panda: Panda) -> None:
    at_script.on("POST", "/v1/jobs/actions", preview(2))

    refused = panda("cancel", "7-8")

    assert refused.code == 2
    assert "cancel would reach 2 jobs (7…8); say --yes if that is meant" in refused.err
    assert asked(at_script) == [{"action": "cancel", "filter": "panda_id:7,8", "reason": "", "dry_run": True}]


def test_one_job_is_touched_without_asking(at_script: Scripted, panda: Panda) -> None:
    at_script.on("POST", "/v1/jobs/7/cancel", Reply(202, {"n": 1, "refused": {}}))

    ended = panda("cancel", "7", "--reason", "wrong input")

    assert (ended.code, ended.out) == (0, "7\t1\t\n")
    assert json.loads(at_script.received[0].body) == {"reason": "wrong input"}


def test_a_retry_of_a_set_is_previewed_confirmed_and_watched_to_its_end(at_script: Scripted, panda: Panda) -> None:
    at_script.on("POST", "/v1/jobs/actions", preview(5017), Reply(202, action("running", 5017)))
    at_script.on("GET", "/v1/actions/5", action("running", 5017, n_done=500), action("done", 5017))

    ended = panda("retry", "set:9", "--yes", "--stage", "broker")

    assert (ended.code, ended.out) == (0, "set:9\t5017\t\n")
    words = {"action": "retry", "filter": "jobset:9", "reason": "", "stage": "broker"}
    assert asked(at_script) == [{**words, "dry_run": True}, {**words, "token": "t5", "count": 5017}]
    assert ended.err.splitlines() == ["action 5: 500/5017", "action 5: 5017/5017"]


def test_a_filter_reaches_jobs_without_naming_them(at_script: Scripted, panda: Panda) -> None:
    at_script.on("POST", "/v1/jobs/actions", preview(2), Reply(202, action("running")))

    ended = panda("priority", "owner:ann status:activated", "--to", "500", "--yes", "--no-wait", "-o", "json")

    assert (ended.code, ended.json[0]["n"], ended.json[0]["action_id"]) == (0, 2, 5)
    assert asked(at_script)[0]["filter"] == "owner:ann status:activated"
    assert asked(at_script)[0]["priority"] == 500
    assert at_script.targets("GET") == []


def test_an_action_that_reaches_nothing_is_not_begun(at_script: Scripted, panda: Panda) -> None:
    at_script.on("POST", "/v1/jobs/actions", preview(0, **{"it is running; only a failed job can be retried": 4}))

    ended = panda("retry", "set:9")

    assert (ended.code, len(asked(at_script))) == (5, 1)
    assert ended.err == "not 4 jobs: it is running; only a failed job can be retried\n"


def test_a_dry_run_of_an_action_changes_nothing(at_script: Scripted, panda: Panda) -> None:
    at_script.on("GET", "/v1/jobsets/9", jobset("running", running=2, finished=1))
    at_script.on("POST", "/v1/jobs/actions", preview(1))

    ended = panda("cancel", "set:9", "7", "--dry-run", "-q")

    assert (ended.code, ended.out) == (0, "9\n")
    assert "cancel would reach 3 jobs: set:9, 7" in ended.err
    assert [each["dry_run"] for each in asked(at_script)] == [True]


def test_one_job_in_the_wrong_state_does_not_keep_the_others(at_script: Scripted, panda: Panda) -> None:
    at_script.on("POST", "/v1/jobs/7/retry", problem(409, "cannot_retry"))
    why = "it is running; only a failed job can be retried"
    at_script.on("POST", "/v1/jobs/actions", preview(1, **{why: 1}), Reply(202, action("running", 1)))
    at_script.on("GET", "/v1/actions/5", action("done", 1))

    both = panda("retry", "7-8", "--yes")
    alone = panda("retry", "7")

    assert (both.code, alone.code) == (0, 5)
    assert f"not 1 jobs: {why}" in both.err


def test_selectors_come_from_stdin(at_script: Scripted, panda: Panda) -> None:
    for panda_id in (7, 8):
        at_script.on("GET", f"/v1/jobs/{panda_id}", job(panda_id, "finished"))

    ended = panda("wait", "-", "-q", stdin="7\n8\n")

    assert (ended.code, ended.out, ended.err) == (0, "7\n8\n", "")


@pytest.mark.parametrize(
    ("last", "words", "code"),
    [
        (jobset("finished", finished=3), (), 0),
        (jobset("failed", finished=2, failed=1), (), 9),
        (jobset("cancelled", finished=2, cancelled=1), (), 9),
        (jobset("running", running=3), ("--timeout", "0s"), 8),
        (jobset("running", running=3), ("--for", "running"), 0),
        (jobset("running", running=2, failed=1), ("--for", "any-failed"), 9),
    ],
)
def test_the_end_of_a_wait_is_its_exit_code(
    at_script: Scripted, panda: Panda, last: Any, words: tuple[str, ...], code: int
) -> None:
    at_script.on("GET", "/v1/jobsets/9", jobset("running", waiting=3), last)
    at_script.on("GET", "/v1/jobsets/9", last) if "--timeout" in words else None

    assert panda("wait", "set:9", *words).code == code


def test_a_wait_tells_each_change_once(at_script: Scripted, panda: Panda) -> None:
    at_script.on(
        "GET",
        "/v1/jobsets/9",
        jobset("running", waiting=3),
        jobset("running", waiting=3),
        jobset("finished", finished=3),
    )

    ended = panda("wait", "set:9", "--fields", "jobset_id,status")

    assert ended.err.splitlines() == ["0/3 ended: 3 waiting", "3/3 ended: 3 finished"]
    assert ended.out == "9\tfinished\n"


def test_jobs_that_are_not_made_yet_count_in_the_progress(at_script: Scripted, panda: Panda) -> None:
    at_script.on("GET", "/v1/jobsets/9", jobset("running", unexpanded=2, waiting=1), jobset("finished", finished=3))

    assert panda("wait", "set:9").err.splitlines()[0] == "0/3 ended: 2 accepted, 1 waiting"


def on_a_terminal(url: str, *words: str, **environ: str) -> str:
    """What a command shows on a terminal of 100 columns."""
    given = {**os.environ, "PANDA_URL": url, "PANDA_TOKEN": "t", "COLUMNS": "100", "TERM": "xterm", **environ}
    screen, terminal = pty.openpty()
    program = [sys.executable, "-m", "panda.cli.main", *words]
    with subprocess.Popen(program, env=given, stdin=terminal, stdout=terminal, stderr=terminal):
        os.close(terminal)
        shown = b""
        with contextlib.suppress(OSError), os.fdopen(screen, "rb", buffering=0) as seen:
            while block := seen.read(65536):
                shown += block
    return shown.decode()


def test_a_terminal_gets_a_table_with_bars_and_colours_unless_it_wants_none(script: Scripted) -> None:
    script.on("GET", "/v1/whoami", ME)
    script.on("GET", "/v1/jobsets", page(jobset("running", running=1, finished=2)))

    coloured = on_a_terminal(script.url, "status")
    plain = on_a_terminal(script.url, "status", NO_COLOR="1")

    assert "\x1b[34m" in coloured
    assert "\x1b[3" not in plain
    assert "█" * 13 + "▒" * 7 in plain
    assert "▶ running" in plain


@pytest.mark.parametrize(
    ("facts", "code"),
    [
        ({"status": "finished", "exit_code": 0}, 0),
        ({"status": "failed", "exit_code": 3}, 3),
        ({"status": "failed", "exit_code": None}, 9),
        ({"status": "failed", "exit_code": -9}, 247),
        ({"status": "cancelled"}, 9),
    ],
)
def test_a_wait_can_end_with_the_payloads_code(at_script: Scripted, panda: Panda, facts: Any, code: int) -> None:
    at_script.on("GET", "/v1/jobs/7", {**job(), **facts})

    assert panda("wait", "7", "--job-code").code == code


def test_ctrl_c_ends_the_watching_and_says_how_to_come_back(script: Scripted) -> None:
    script.on("GET", "/v1/jobsets/9", jobset("running", running=3))
    environ = {**os.environ, "PANDA_URL": script.url, "PANDA_TOKEN": "t"}
    program = [sys.executable, "-m", "panda.cli.main", "wait", "set:9"]
    with subprocess.Popen(program, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watching:
        assert watching.stderr is not None
        assert watching.stderr.readline() == "0/3 ended: 3 running\n"
        watching.send_signal(signal.SIGINT)
        out, err = watching.communicate(timeout=20)

    assert (watching.returncode, out) == (130, "")
    assert err.strip() == "no longer watching; the jobs go on. Come back with: panda wait set:9"
    assert script.targets("POST") == []


LOG_LIST = page(
    {"name": "pilot.log", "attempt_nr": 1, "size_bytes": 4},
    {"name": "payload.stdout", "attempt_nr": 1, "size_bytes": 4},
    {"name": "payload.stdout", "attempt_nr": 2, "size_bytes": 12},
)


def log_at(script: Scripted, name: str, attempt_nr: int, offset: int, *replies: Reply) -> None:
    script.on("GET", f"/v1/jobs/7/logs/{name}?attempt={attempt_nr}&offset={offset}&limit=1048576", *replies)


def test_the_newest_output_of_the_payload_is_shown(at_script: Scripted, panda: Panda) -> None:
    at_script.on("GET", "/v1/jobs/7/logs", LOG_LIST)
    log_at(at_script, "payload.stdout", 2, 0, Reply(document=b"one\ntw"))
    log_at(at_script, "payload.stdout", 2, 6, Reply(document=b"o\nten"))
    log_at(at_script, "payload.stdout", 2, 11, Reply(document=b""))

    assert panda("logs", "7").out == "one\ntwo\nten"
    assert panda("logs", "7", "--grep", "^t").out == "two\nten\n"
    assert panda("logs", "7", "--list", "--fields", "name,attempt_nr").out.splitlines()[2] == "payload.stdout\t2"


@pytest.mark.parametrize(("n", "expected"), [(0, ""), (1, "ten"), (2, "two\nten"), (9, "one\ntwo\nten")])
def test_the_tail_is_the_last_lines(at_script: Scripted, panda: Panda, n: int, expected: str) -> None:
    at_script.on("GET", "/v1/jobs/7/logs", LOG_LIST)
    log_at(at_script, "payload.stdout", 2, 0, Reply(document=b"one\ntwo\nten"))
    log_at(at_script, "payload.stdout", 2, 11, Reply(document=b""))

    assert panda("logs", "7", "--tail", n).out == expected


def test_another_log_and_another_attempt_can_be_named(at_script: Scripted, panda: Panda) -> None:
    at_script.on("GET", "/v1/jobs/7/logs", LOG_LIST)
    log_at(at_script, "pilot.log", 1, 0, Reply(document=b"beat"))
    log_at(at_script, "pilot.log", 1, 4, Reply(document=b""))
    log_at(at_script, "payload.stdout", 1, 0, Reply(document=b"old\n"))
    log_at(at_script, "payload.stdout", 1, 4, Reply(document=b""))

    assert panda("logs", "7", "pilot.log").out == "beat"
    assert panda("logs", "7", "--attempt", 1).out == "old\n"


def test_a_log_that_is_not_there_is_three_and_says_what_is(at_script: Scripted, panda: Panda) -> None:
    at_script.on("GET", "/v1/jobs/7/logs", LOG_LIST)
    at_script.on("GET", "/v1/jobs/7", job(status="failed"))

    ended = panda("logs", "7", "payload.trace")

    assert ended.code == 3
    assert ended.err.splitlines() == [
        "panda: job 7 (failed) has no log payload.trace", "  there is: payload.stdout, pilot.log",
    ]  # fmt: skip


def test_a_log_is_followed_from_before_it_exists_to_its_end(at_script: Scripted, panda: Panda) -> None:
    at_script.on("GET", "/v1/jobs/7/logs", page())
    at_script.on("GET", "/v1/jobs/7", job(), job(), job(), job(), job(), job(status="finished"))
    log_at(at_script, "payload.stdout", 1, 0, Reply(404, {}), Reply(document=b"one\n"))
    log_at(at_script, "payload.stdout", 1, 4, Reply(document=b""), Reply(document=b"two\n"))
    log_at(at_script, "payload.stdout", 1, 8, Reply(document=b""))

    ended = panda("logs", "7", "-f")

    assert ended.out == "one\ntwo\n"
    assert ended.err == "job 7 is running; waiting for its payload.stdout\n"


WHY = {
    "panda_id": 1, "status": "defined", "summary": "No queue fits.", "waits_for": "queue", "policy": "analysis",
    "changes": [{"who": "owner", "say": "ask for less", "queues": ["N"], "command": "panda x"},
                {"who": "time", "say": "wait", "queues": [], "command": ""}],
    "funnel": [{"criterion": "status", "left": 1, "refused": {"S": "offline"}},
               {"criterion": "resources", "left": 0, "refused": {"N": "too much"}}],
}  # fmt: skip


def test_why_of_a_set_is_told_by_what_its_jobs_wait_for(at_script: Scripted, panda: Panda) -> None:
    held = {"panda_id": 4, "status": "defined", "summary": "anna holds it.", "waits_for": "operator"}
    answer = {
        "jobset_id": 9, "n_open": 30_007, "n_not_made": 3, "n_seen": 9_000, "is_whole": False, "n_more": 1, "groups": [
            {"n": 8_990, "status": "defined", "waits_for": "queue", "panda_ids": [1, 2, 3, 5, 6], "why": WHY},
            {"n": 2, "status": "defined", "waits_for": "operator", "panda_ids": [4, 7], "why": held},
        ],
    }  # fmt: skip
    at_script.on("GET", "/v1/jobsets/9/why", answer)

    ended = panda("why", "set:9", "-o", "table")
    [*kinds] = panda("why", "set:9", "-o", "json").json

    assert "8990 jobs 1, 2, 3, 5, 6, … (defined)\n  No queue fits.\n" in ended.out
    assert "2 jobs 4, 7 (defined)\n  anna holds it.\n" in ended.out
    assert (
        ended.err
        == "set:9: 30007 jobs open, 3 not made yet; looked at 9000 of every part of it; 1 job of further kinds\n"
    )
    assert [(kind["n"], kind["jobset_id"], len(kind.get("changes", []))) for kind in kinds] == [
        (8_990, 9, 2), (2, 9, 0),
    ]  # fmt: skip


def test_why_of_a_set_that_has_ended_is_that_of_its_newest_job(at_script: Scripted, panda: Panda) -> None:
    at_script.on("GET", "/v1/jobsets/9/why", {"jobset_id": 9})
    at_script.on("GET", "/v1/jobsets/9/jobs", page(job(3, "finished")))
    at_script.on("GET", "/v1/jobs/3/why", {"panda_id": 3, "status": "finished", "summary": "It finished."})

    assert panda("why", "set:9", "-o", "table").out == "job 3 (finished)\n  It finished.\n"


def test_why_in_a_pipe_has_the_changes_and_the_funnel(at_script: Scripted, panda: Panda) -> None:
    at_script.on("GET", "/v1/jobs/1/why", WHY)

    line = panda("why", "1", "-o", "plain").out.rstrip("\n").split("\t")
    document = panda("why", "1", "-o", "json").json

    assert line[-2:] == [
        "owner: ask for less | time: wait",
        "status: 1 left, not S: offline | resources: 0 left, not N: too much",
    ]
    assert (document["changes"], document["funnel"]) == (WHY["changes"], WHY["funnel"])


def test_a_table_in_a_pipe_has_all_jobs_and_a_cut_list_says_so(at_script: Scripted, panda: Panda) -> None:
    at_script.on("GET", "/v1/jobs", page(*(job(i) for i in range(150, 0, -1))))

    assert len(panda("jobs").out.splitlines()) == 150
    table = panda("jobs", "-o", "table")
    assert len(table.out.splitlines()) == 101
    assert table.err == "these are the newest 100; --limit shows more\n"


def test_a_queue_or_a_whole_site_is_closed(at_script: Scripted, panda: Panda) -> None:
    at_script.on("GET", "/v1/queues", page({"name": "N-1", "site": "N"}, {"name": "N-2", "site": "N"}))
    for queue in ("N-1", "N-2"):
        at_script.on("POST", f"/v1/queues/{queue}/status", {"queue": queue, "status": "offline", "n_woken": 0})

    assert panda("site", "set", "N", "offline", "--reason", "cooling").out == "N-1\toffline\nN-2\toffline\n"
    assert panda("site", "set", "N-2", "offline", "--reason", "cooling").out == "N-2\toffline\n"
    assert panda("site", "set", "M", "offline", "--reason", "cooling").code == 3


def test_shares_are_shown_and_their_weights_changed(at_script: Scripted, panda: Panda) -> None:
    share = {"name": "mc", "parent": None, "weight": 60.0, "part": 0.6, "running_cores": 7, "n_ready": 3,
             "deficit_cores": -1.5, "kind": "share"}  # fmt: skip
    at_script.on("GET", "/v1/shares", page(share))
    at_script.on("PUT", "/v1/shares/mc", {"share": "mc", "weight": 70.0, "was": 60.0})

    assert panda("shares").out == "mc\t\t60.0\t0.6\t7\t3\t-1.5\n"
    assert panda("shares", "-o", "json").json == [share]
    assert panda("shares", "set", "mc", "--weight", "70", "--reason", "campaign").out == "mc\t70.0\t60.0\n"
    assert json.loads(at_script.received[-1].body) == {"weight": 70.0, "reason": "campaign"}
    for wrong in (("--weight", "0", "--reason", "r"), ("--weight", "70"), ("--weight", "x", "--reason", "r")):
        assert panda("shares", "set", "mc", *wrong).code == 2


def test_the_interface_can_be_called_directly(at_script: Scripted, panda: Panda) -> None:
    at_script.on("POST", "/v1/x", {"ok": True})

    assert panda("api", "post", "/v1/x", "-d", '{"a": 1}').json == {"ok": True}
    assert json.loads(at_script.received[0].body) == {"a": 1}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_is_printed(panda: Panda, shell: str) -> None:
    ended = panda("completion", shell)

    assert ended.code == 0
    assert "_PANDA_COMPLETE" in ended.out
