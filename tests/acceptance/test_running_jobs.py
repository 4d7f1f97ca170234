"""Jobs that do what they should: from submission over HTTP to outputs that can be fetched."""

import zlib

from livesystem import await_that


def test_plain_jobs_finish(user):
    jobs = user.run(["true"], ["sh", "-c", "exit 0"], ["sleep", "0.1"])

    assert [job.status for job in jobs] == ["finished"] * 3
    assert user.moves(jobs[0].panda_id)[:4] == ["pending", "defined", "assigned", "activated"]
    assert user.moves(jobs[0].panda_id)[-1] == "finished"
    assert user.client.why(jobs[0].panda_id).summary.startswith("It finished at ")


def test_outputs_are_registered_and_come_back_as_they_were_written(user, tmp_path):
    accepted = user.submit(
        template={
            "command": ["sh", "-c", "seq 1 ${N} > numbers.${seq}.txt"],
            "matrix": {"N": [10, 1000]},
            "outputs": ["numbers.${seq}.txt"],
        }
    )
    user.ended(accepted)
    expected = {
        f"numbers.{seq}.txt": "".join(f"{i}\n" for i in range(1, n + 1)).encode() for seq, n in enumerate((10, 1000))
    }

    files = list(user.client.datasets.files(accepted.output_dataset))
    for file in files:
        user.client.datasets.get(accepted.output_dataset, file, tmp_path)

    assert {(f.lfn, f.size_bytes, f.adler32) for f in files} == {
        (lfn, len(content), f"{zlib.adler32(content):08x}") for lfn, content in expected.items()
    }
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == expected


def test_logs_can_be_read_while_the_job_runs_and_afterwards(user, tmp_path):
    release = tmp_path / "release"
    script = f"echo begun; echo trouble >&2; until [ -e {release} ]; do sleep 0.1; done; echo done"
    accepted = user.submit(["sh", "-c", script])
    panda_id = accepted.first_panda_id
    logs = user.client.logs(panda_id)

    await_that(lambda: {log.name for log in logs.list()} >= {"payload.stdout", "payload.stderr"}, 25, logs.list)
    during = user.log(panda_id, "payload.stdout")
    release.touch()
    user.ended(accepted)

    assert during == "begun\n"
    assert user.log(panda_id, "payload.stdout") == "begun\ndone\n"
    assert user.log(panda_id, "payload.stderr") == "trouble\n"


def test_the_sandbox_is_unpacked_first_and_the_environment_is_set(user, tmp_path):
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "greet.sh").write_text('echo "$GREETING from attempt $PANDA_ATTEMPT of $PANDA_ID"\n')
    sandbox = user.client.upload_sandbox(["code"], base=tmp_path).sha256

    [job] = user.run(["sh", "code/greet.sh"], defaults={"sandbox": sandbox, "env": {"GREETING": "hello"}})

    assert user.log(job.panda_id, "payload.stdout") == f"hello from attempt 1 of {job.panda_id}\n"


def test_inputs_come_from_the_other_site_before_the_job_is_activated(system, user, tmp_path):
    files = [tmp_path / name for name in ("first.txt", "second.txt")]
    for file in files:
        file.write_text(file.name)
        user.put("accepted:to.be.moved", file, "NORTH-DISK")

    [job] = user.run(
        jobs=[{"command": ["cat", "first.txt", "second.txt"], "inputs": ["accepted:to.be.moved"]}],
        brokerage={"sites": ["SOUTH"]},
    )

    assert (job.status, job.site) == ("finished", "SOUTH")
    assert user.log(job.panda_id, "payload.stdout") == "first.txtsecond.txt"
    [activated] = [event.at for event in user.client.events(job.panda_id) if event.now == "activated"]
    transfers = system.query(
        "SELECT t.status, t.ended_at FROM transfers t JOIN job_files f USING (file_id)"
        " WHERE f.panda_id = %(panda_id)s AND t.destination = 'SOUTH-DISK'",
        panda_id=job.panda_id,
    )
    assert [row.status for row in transfers] == ["done", "done"]
    assert max(row.ended_at for row in transfers) <= activated


def test_a_job_set_waits_for_the_one_that_it_depends_on_and_reads_its_outputs(user, tmp_path):
    release = tmp_path / "release"
    script = f"until [ -e {release} ]; do sleep 0.1; done; echo part $0 > part.$0.txt"
    parts = user.submit(
        template={"command": ["sh", "-c", script, "${seq}"], "count": 3, "outputs": ["part.${seq}.txt"]}
    )
    whole = user.submit(
        depends_on=[parts.jobset_id],
        template={
            "command": ["sh", "-c", "cat part.*.txt"],
            "inputs": {"PARTS": {"dataset": parts.output_dataset, "files_per_job": 0}},
        },
    )
    why = user.waits(whole.first_panda_id, "parent")
    release.touch()

    [job] = user.ended(whole)

    assert f"job set {parts.jobset_id}" in why.summary
    assert job.status == "finished"
    assert user.log(job.panda_id, "payload.stdout") == "part 0\npart 1\npart 2\n"


def test_outputs_are_shipped_to_the_storage_that_the_set_names(user):
    accepted = user.submit(
        jobs=[{"command": ["sh", "-c", "echo far > away.txt"], "outputs": ["away.txt"]}],
        output_storage="WEST-DISK",
    )

    [job] = user.ended(accepted)
    [file] = user.client.datasets.files(accepted.output_dataset)

    assert "transferring" in user.moves(job.panda_id)
    assert "WEST-DISK" in file.storages
