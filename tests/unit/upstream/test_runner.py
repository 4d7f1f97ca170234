"""The payload runner, as a node runs it."""

import base64
import gzip
import json
import subprocess
import sys
import tarfile
import zlib
from urllib.parse import quote

from panda.upstream.payloads import RUNNER_FILE, VERSIONED


def run(folder, *words):
    done = subprocess.run(
        [sys.executable, str(RUNNER_FILE), *words], cwd=folder, capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stdout, done.stderr


def described(**words):
    job = {"panda_id": 42, "attempt_nr": 1, "command": ["true"], "env": {}, "cores": 1, "sandbox": None,
           "sandbox_url": None, "inputs": []} | words  # fmt: skip
    return base64.urlsafe_b64encode(gzip.compress(json.dumps(job).encode())).decode()


def test_a_quoted_command_runs_in_a_shell_and_its_outputs_get_their_names(tmp_path):
    outputs = quote(str({"out.txt": "user.me.1.out.txt"}))

    code, printed, _ = run(tmp_path, "-j", "", "-r", ".", "--unknown", "-o", outputs, "-p", quote("echo 5% > out.txt"))

    assert code == 0
    assert (tmp_path / "user.me.1.out.txt").read_text() == "5%\n"
    assert "runs: echo 5% > out.txt" in printed


def test_its_exit_code_is_the_payloads(tmp_path):
    assert run(tmp_path, "-p", quote("exit 7"))[0] == 7
    assert run(tmp_path, "-p", quote("kill -9 $$"))[0] == 137
    assert run(tmp_path, "--job", described(command=["/bin/sh", "-c", "exit 4"]))[0] == 4
    assert run(tmp_path, "--job", described(command=["no-such-command"]))[0] == 127


def test_an_output_that_was_not_written_is_told(tmp_path):
    code, _, told = run(tmp_path, "-o", quote(str({"out.txt": "kept.txt"})), "-p", "true")

    assert (code, "wrote no out.txt" in told) == (95, True)


def test_a_described_job_gets_its_environment_and_its_inputs_checked(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "in.txt").write_text("hello")
    work = tmp_path / "work"
    work.mkdir()
    file = {"lfn": "in.txt", "url": f"file://{tmp_path}/store/in.txt", "adler32": f"{zlib.adler32(b'hello'):08x}"}
    command = ["/bin/sh", "-c", "cat in.txt; echo $WORD $PANDA_ID"]

    code, printed, _ = run(work, "--job", described(command=command, env={"WORD": "x"}, inputs=[file]))

    assert (code, printed) == (0, "hellox 42\n")
    (work / "in.txt").unlink()
    assert run(work, "--job", described(inputs=[file | {"adler32": "00000001"}]))[0] == 92
    assert run(tmp_path, "--job", described(inputs=[file | {"lfn": "b", "url": "file:///nowhere"}]))[0] == 92


def test_a_transformation_that_is_there_runs_with_its_parameters(tmp_path):
    (tmp_path / "trf.sh").write_text('#!/bin/sh\necho "$2"\n')

    assert run(tmp_path, "--trf", "http://nowhere/trf/user/trf.sh", "--pars", '-a "b c"')[:2] == (0, "b c\n")
    assert run(tmp_path, "--trf", "missing.sh", "--pars", "")[0] == 94


def test_an_archive_that_leads_out_of_its_folder_is_refused(tmp_path):
    (tmp_path / "evil").write_text("x")
    with tarfile.open(tmp_path / "evil.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "evil", "../evil2")
    work = tmp_path / "work" / "below"
    work.mkdir(parents=True)
    url = f"file://{tmp_path}/evil.tar.gz"

    code, _, told = run(work, "--job", described(sandbox_url=url))

    assert (code, "evil2" in told) == (93, True)
    assert not (tmp_path / "work" / "evil2").exists()


def test_the_names_of_the_runner_are_those_of_upstreams():
    assert VERSIONED.match("runGen-00-00-02")
    assert not VERSIONED.match("runGenX")
