"""The `panda` command from end to end, as a person or a script calls it."""

import json
import os

from livesystem import clean_environ, local

FLAGS = ("--memory", "100MB", "--walltime", "60s")


def test_a_job_goes_through_every_command(system, user, tmp_path):
    submitted = system.panda(
        "submit", *FLAGS, "-o", "json", "--", "sh", "-c", "echo hello; exit $((2 - $PANDA_ATTEMPT))"
    )
    assert submitted.returncode == 0, submitted.stderr
    jobset_id, panda_id = (str(json.loads(submitted.stdout)[key]) for key in ("jobset_id", "first_panda_id"))

    failed = system.panda("wait", f"set:{jobset_id}", "--timeout", "30s")
    job_code = system.panda("wait", panda_id, "--job-code")
    status = system.panda("status", panda_id, "-o", "json")
    listed = system.panda("jobs", "--set", jobset_id, "--status", "failed", "-q")
    why = system.panda("why", panda_id)
    retried = system.panda("retry", "-", "--yes", stdin=listed.stdout)
    finished = system.panda("wait", f"set:{jobset_id}", "--timeout", "30s")
    logs = system.panda("logs", panda_id)
    first_log = system.panda("logs", panda_id, "--attempt", "1")

    assert (failed.returncode, job_code.returncode, finished.returncode) == (9, 1, 0)
    assert json.loads(status.stdout)["error_code"] == "payload:1"
    assert listed.stdout.split() == [panda_id]
    assert "exit code 1" in why.stdout
    assert "payload:1" in why.stdout
    assert retried.returncode == 0, retried.stderr
    assert (logs.stdout, first_log.stdout) == ("hello\n", "hello\n")


def test_a_wait_that_takes_too_long_has_a_code_of_its_own_and_a_cancel_ends_the_job(system):
    submitted = system.panda("submit", *FLAGS, "-q", "--", "sleep", "60")
    jobset = submitted.stdout.strip()

    timed_out = system.panda("wait", jobset, "--timeout", "1s")
    cancelled = system.panda("cancel", jobset, "--yes", "--reason", "enough")
    ended = system.panda("wait", jobset, "--timeout", "30s")

    assert (timed_out.returncode, cancelled.returncode, ended.returncode) == (8, 0, 9)


def test_files_go_in_and_results_come_out(system, tmp_path):
    (tmp_path / "in.txt").write_text("abc\n")
    put = system.panda("put", "in.txt", "--dataset", "accepted:cli.in", "--storage", "NORTH-DISK", folder=tmp_path)
    assert put.returncode == 0, put.stderr
    submitted = system.panda(
        "submit", *FLAGS, "-q", "--wait", "--input", "accepted:cli.in", "--output", "out.txt", "--",
        "sh", "-c", "tr a-z A-Z < in.txt > out.txt",
    )  # fmt: skip
    assert submitted.returncode == 0, submitted.stderr

    got = system.panda("get", submitted.stdout.split()[0], folder=tmp_path)

    assert got.returncode == 0, got.stderr
    assert [path.read_text() for path in tmp_path.rglob("out*.txt")] == ["ABC\n"]


def test_errors_have_codes_of_their_own(system, tmp_path):
    (tmp_path / "bad.yaml").write_text("name: x\njobs:\n  - comand: [true]\n")

    bad_file = system.panda("submit", str(tmp_path / "bad.yaml"))
    no_job = system.panda("status", "999999999")
    no_option = system.panda("jobs", "--sate", "failed")

    assert (bad_file.returncode, no_job.returncode, no_option.returncode) == (6, 3, 2)
    assert "command" in bad_file.stderr
    assert "999999999" in no_job.stderr


def test_a_typo_in_a_config_file_is_told_by_file_and_key(tmp_path):
    config = tmp_path / "own.toml"
    config.write_text("[engine]\nresend = 200\n")

    up = local(
        "up", "--data", str(tmp_path / "data"), "--port", "0", "--detach",
        environ=clean_environ() | {"PANDA_CONFIG": str(config)},
    )  # fmt: skip

    assert up.returncode != 0
    assert str(config) in up.stderr
    assert "unknown setting 'resend'; did you mean 'resend_s'?" in up.stderr
    assert not list((tmp_path / "data" / "run").glob("*.json"))


def test_a_setting_that_does_not_exist_in_the_environment_is_refused(tmp_path):
    up = local(
        "up", "--data", str(tmp_path / "data"), "--port", "0", "--detach",
        environ=clean_environ() | {"PANDA_ENGINE_RESENDS": "1"},
    )  # fmt: skip

    assert up.returncode != 0
    assert "PANDA_ENGINE_RESENDS" in up.stderr
    assert os.listdir(tmp_path / "data" / "run") in ([], ["lock"])
