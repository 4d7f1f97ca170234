"""Jobs that cannot go well: each ends with a stable code, and `why` tells it in words.

The payloads that fail run as one job set, which every test looks at."""

import sys

import pytest

from panda.client import Job

HOG = "hog = bytearray(400_000_000)\nfor i in range(0, len(hog), 4096): hog[i] = 1\nimport time; time.sleep(20)"
#: What is submitted, `failed_stage`, `error_code`, a word of `why`.
CASES = {
    "exit code 3": ({"command": ["sh", "-c", "exit 3"]}, "dispatch", "payload:3", "exit code 3"),
    "command not found": ({"command": ["no-such-command"]}, "dispatch", "pilot:1346", "no-such-command"),
    "output not written": ({"command": ["true"], "outputs": ["never.txt"]}, "dispatch", "pilot:1165", "never.txt"),
    "too much memory": ({"command": [sys.executable, "-c", HOG]}, "dispatch", "pilot:1235", "MB"),
    "killed by a signal": ({"command": ["sh", "-c", "kill -SEGV $$"]}, "dispatch", "pilot:1328", "SIGSEGV"),
    "input that does not exist": (
        {"command": ["true"], "inputs": ["accepted:nowhere/no.txt"]}, "define", "define:no_input",
        "accepted:nowhere/no.txt",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def failed(system):
    """The jobs of CASES by name, ended."""
    jobs = [{"name": name, **spec} for name, (spec, *_) in CASES.items()]
    defaults = {"memory_mb": 100, "disk_mb": 100, "walltime_s": 60, "max_attempts": 1}
    accepted = system.client.submit({"name": "failing", "jobs": jobs, "defaults": defaults})
    system.client.wait(jobsets=[accepted.jobset_id], timeout_s=60)
    return {job.name: job for job in system.client.jobset_jobs(accepted.jobset_id)}


@pytest.mark.parametrize("name", CASES)
def test_a_job_that_fails_says_why(system, failed, name):
    _, stage, code, word = CASES[name]
    job: Job = failed[name]

    why = system.client.why(job.panda_id)

    assert (job.status, job.failed_stage, job.error_code) == ("failed", stage, code)
    assert word in why.summary
    assert f"failed in stage {stage}" in why.summary
    assert code in why.summary


def test_the_exit_code_of_the_payload_is_kept(failed):
    assert failed["exit code 3"].exit_code == 3


def test_a_set_with_failed_jobs_has_failed(system, failed):
    [jobset_id] = {job.jobset_id for job in failed.values()}

    jobset = system.client.jobset(jobset_id)

    assert (jobset.status, jobset.ledger.failed) == ("failed", len(CASES))


def test_a_replica_that_was_altered_is_never_delivered(system, user, tmp_path):
    file = tmp_path / "altered.txt"
    file.write_text("as it was registered")
    user.put("accepted:altered", file, "NORTH-DISK")
    _replica(system, "north", "altered.txt").write_text("as somebody left it!")

    [job] = user.run(
        jobs=[{"command": ["cat", "altered.txt"], "inputs": ["accepted:altered/altered.txt"]}],
        brokerage={"sites": ["SOUTH"]},
    )

    why = user.client.why(job.panda_id)
    assert (job.status, job.failed_stage, job.error_code) == ("failed", "stage_in", "stage_in:transfer_failed")
    assert "accepted:altered/altered.txt could not be brought to SOUTH-DISK" in why.summary
    assert "adler32" in why.summary
    assert list((system.folder / "storage" / "south").rglob("altered.txt")) == []


def test_another_replica_is_used_when_one_was_altered(system, user, tmp_path):
    file = tmp_path / "doubled.txt"
    file.write_text("as it was registered")
    user.put("accepted:doubled", file, "NORTH-DISK")
    job = {"command": ["cat", "doubled.txt"], "inputs": ["accepted:doubled/doubled.txt"]}
    user.run(jobs=[job], brokerage={"sites": ["SOUTH"]})  # leaves a replica there
    _replica(system, "north", "doubled.txt").write_text("as somebody left it!")

    accepted = user.submit(jobs=[job], brokerage={"sites": ["WEST"]})
    user.reaches(accepted.first_panda_id, "activated")

    assert _replica(system, "west", "doubled.txt").read_text() == "as it was registered"
    user.client.cancel(accepted.first_panda_id)


def test_a_pilot_refuses_an_input_that_was_altered_at_its_own_site(system, user, tmp_path):
    file = tmp_path / "local.txt"
    file.write_text("as it was registered")
    user.put("accepted:local", file, "NORTH-DISK")
    _replica(system, "north", "local.txt").write_text("as somebody left it!")

    [job] = user.run(
        jobs=[{"command": ["cat", "local.txt"], "inputs": ["accepted:local/local.txt"]}],
        brokerage={"sites": ["NORTH"]},
    )

    assert (job.status, job.error_code) == ("failed", "pilot:1171")
    assert "local.txt" in user.client.why(job.panda_id).summary


def test_a_job_that_fits_no_queue_waits_and_says_what_is_too_small(user):
    accepted = user.submit(["true"], defaults={"cores": 64})
    panda_id = accepted.first_panda_id

    why = user.waits(panda_id, "queue")
    user.client.cancel(panda_id)

    assert "needs 64 cores, the queue has 2" in why.summary


def _replica(system, site, lfn):
    """The one file there; a copy that was brought has the number of its transfer behind its name."""
    [found] = (system.folder / "storage" / site).rglob(f"{lfn}*")
    return found
