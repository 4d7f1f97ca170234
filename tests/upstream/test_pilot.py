"""Job sets of ours, run by the released panda-pilot."""

import pytest
from livesystem import System, await_that

#: Starting, staging out and asking again take a pilot half a minute; the end of a failed job takes it two more.
SOON_S, LATE_S = 180, 400
ONE_TRY = {"memory_mb": 100, "disk_mb": 100, "walltime_s": 600, "max_attempts": 1}


def submit(system, queue, *jobs, **document):
    document = {"name": "upstream", "jobs": list(jobs), "defaults": ONE_TRY, "brokerage": {"sites": [queue]}} | document
    accepted = system.client.submit(document)
    return accepted.jobset_id, list(range(accepted.first_panda_id, accepted.last_panda_id + 1))


def await_end(system, jobset_id, within_s):
    system.client.wait(jobsets=[jobset_id], timeout_s=within_s)
    return sorted(system.client.jobset_jobs(jobset_id), key=lambda job: job.panda_id)


@pytest.fixture(scope="module")
def under_way(system: System, start_pilot, tmp_path_factory):
    """Three stories at once: a pilot spends most of its time waiting."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "words.txt").write_text("pear\napple\n")
    (folder / "sort.sh").write_text('#!/bin/sh\nsort "$1" > sorted.txt\n')
    (folder / "sort.sh").chmod(0o755)
    system.client.datasets.create("user.admin:fruit")
    system.client.datasets.put("user.admin:fruit", folder / "words.txt", storage="FARM-DISK")
    sandbox = system.client.upload_sandbox([folder / "sort.sh"], base=folder)
    good = submit(
        system, "GOOD-Q",
        {"command": ["/bin/sh", "-c", "echo it says $WORD; echo hi > out.txt"], "env": {"WORD": "hello"},
         "outputs": ["out.txt"]},
        {"command": ["./sort.sh", "words.txt"], "inputs": ["user.admin:fruit/words.txt"], "outputs": ["sorted.txt"],
         "sandbox": sandbox.sha256},
        {"command": ["printenv", "PANDA_ID"]},
    )  # fmt: skip
    bad = submit(system, "FAIL-Q", {"command": ["/bin/sh", "-c", "echo oh no >&2; exit 3"]})
    endless = submit(system, "KILL-Q", {"command": ["sleep", "3000"]})
    started = {"good": good, "bad": bad, "endless": endless}
    for queue, (_, panda_ids) in zip(("GOOD-Q", "FAIL-Q", "KILL-Q"), started.values(), strict=True):
        start_pilot(queue, panda_ids)
    return started


def test_one_pilot_runs_several_jobs_with_inputs_outputs_and_a_sandbox(system, under_way, pilots):
    jobset_id, panda_ids = under_way["good"]

    jobs = await_end(system, jobset_id, SOON_S)

    assert [job.status for job in jobs] == ["finished"] * 3, [job.error_message for job in jobs]
    outputs = {file.lfn: file for file in system.client.datasets.files(system.client.jobset(jobset_id).output_dataset)}
    assert set(outputs) == {"out.txt", "sorted.txt"}
    logs = system.client.logs(panda_ids[0])
    printed = {log.name: b"".join(logs.blocks(log)) for log in logs.list()}
    assert b"it says hello" in printed["stdout"]
    assert {job.pilot_id for job in jobs} == {jobs[0].pilot_id}
    assert "error" not in printed.get("stderr", b"").decode()


def test_outputs_lie_where_the_catalogue_says(system, under_way):
    jobset_id, _ = under_way["good"]
    await_end(system, jobset_id, SOON_S)
    sql = """SELECT s.root || '/' || r.path AS path, f.size_bytes FROM replicas r JOIN storages s ON s.name = r.storage
        JOIN files f USING (file_id) WHERE f.lfn = 'sorted.txt'"""

    [replica] = system.query(sql)

    with open(replica.path) as file:
        assert file.read() == "apple\npear\n"


def test_a_payload_that_fails_fails_with_its_exit_code(system, under_way):
    jobset_id, [panda_id] = under_way["bad"]

    [job] = await_end(system, jobset_id, LATE_S)

    assert (job.status, job.error_code, job.exit_code) == ("failed", "payload:3", 3)
    logs = system.client.logs(panda_id)
    printed = {log.name: b"".join(logs.blocks(log)) for log in logs.list()}
    assert b"oh no" in printed["stderr"]


def test_a_kill_reaches_the_payload_with_a_heartbeat(system, under_way):
    jobset_id, [panda_id] = under_way["endless"]
    await_that(lambda: system.client.job(panda_id).status == "running", SOON_S)

    system.client.cancel(panda_id, reason="it is endless")

    [job] = await_end(system, jobset_id, LATE_S)
    assert job.status == "cancelled"


def test_the_leases_of_these_pilots_are_long(system, under_way):
    _, [panda_id] = under_way["endless"]
    sql = """SELECT max(extract(epoch FROM due_at - panda_now()))::int AS left_s, count(*) AS n FROM job_due
        WHERE panda_id = %(id)s AND waits_for = 'lease'"""

    [row] = system.query(sql, id=panda_id)

    assert row.n == 0 or row.left_s > 3_600
