"""The job side of the released panda-client: against this server, its jobs run by either pilot."""

import gzip
import os
import tarfile
from urllib.parse import quote

import pytest
from livesystem import await_that

TRF = "http://pandaserver-doma.cern.ch:25080/trf/user/runGen-00-00-02"
#: As users of its API write it.
SUBMIT = """
jobs = []
for number, parameters in enumerate(wanted):
    job = JobSpec()
    job.jobDefinitionID, job.jobName, job.transformation = 1, f"job{number}", trf
    job.computingSite, job.destinationDBlock, job.prodSourceLabel = queue, dataset, "user"
    job.currentPriority, job.jobParameters, job.minRamCount, job.maxAttempt = 1000, parameters, 100, 1
    for lfn, kind in ((f"{queue}.out.{number}.txt", "output"), (f"{queue}.log.{number}.tgz", "log")):
        file = FileSpec()
        file.lfn, file.type, file.dataset, file.destinationDBlock = lfn, kind, dataset, dataset
        job.addFile(file)
    jobs.append(job)
Client.submitJobs(jobs)
"""


def runs(queue, number, command, archive=""):
    """Parameters of runGen: the command, which writes out.txt, and the name under which that is kept."""
    outputs = quote(str({"out.txt": f"{queue}.out.{number}.txt"}))
    return f'-j "" {archive} -r . -o "{outputs}" -p "{quote(command)}"'


def described(client, panda_id, how="getFullJobStatus"):
    code, [job] = client(f"status, jobs = Client.{how}([panda_id])\n[status, jobs]", panda_id=panda_id)
    assert code == 0
    return job


def test_the_server_is_alive(client):
    assert client("Client.hello()") == [0, "alive=yes"]


def test_the_server_says_who_is_asking(client, system):
    code, found = client("Client.get_cert_attributes()")

    assert code == 0
    assert isinstance(found, dict)


def test_sandboxes_are_uploaded_once_and_fetched_by_name(client, workshop, system):
    (workshop / "user" / "hello.txt").write_text("hello\n")
    name = "sources.0d5b8b2e.tar.gz"
    with tarfile.open(workshop / "user" / name, "w:gz") as archive:
        archive.add(workshop / "user" / "hello.txt", "hello.txt")

    assert client("Client.putFile(name, reuseSandbox=True)", name=name) == [0, "True"]
    assert client("Client.putFile(name, reuseSandbox=True)", name=name) == [0, f"NewFileName:{name}"]
    assert client("Client.getFile(name, 'again.tar.gz')", name=name)[0] == 0
    with gzip.open(workshop / "user" / "again.tar.gz") as again:
        assert b"hello" in again.read()


def test_a_file_that_is_too_large_is_refused(client, workshop):
    (workshop / "user" / "jobO.large.tar.gz").write_bytes(os.urandom(10_000_001))

    code = "http = Client._HttpClient()\nhttp.put(Client.server_base_path_ssl + '/file_server/upload_cache_file', {'file': name}, json_out=True)"
    _, answer = client(code, name="jobO.large.tar.gz")

    assert answer["success"] is False
    assert "10000000 bytes" in answer["message"]


def test_secrets_are_kept_and_forgotten(client):
    assert client("Client.set_user_secret('key', 'value')")[0] == 0
    assert client("Client.get_user_secrets()")[1][1] == {"key": "value"}
    assert client("Client.set_user_secret(None, None)")[0] == 0
    assert client("Client.get_user_secrets()")[1][1] == {}


def test_unknown_jobs_are_null(client):
    assert client("Client.getJobStatus([987654321])") == [0, [None]]
    assert client("Client.killJobs([987654321])") == [0, [False]]


def test_calls_about_tasks_are_answered_and_refused(client):
    code, (done, message) = client("Client.killTask(51)")

    assert (code, done) == (0, False)
    assert "no tasks" in message


@pytest.fixture(scope="module")
def submitted(client, system, start_pilot, workshop):
    """The same jobs at two queues: upstream's pilot serves the one, ours the other."""
    name = "jobO.7a1f.tar.gz"
    (workshop / "user" / "greeting").write_text("good day\n")
    with tarfile.open(workshop / "user" / name, "w:gz") as archive:
        archive.add(workshop / "user" / "greeting", "greeting")
    assert client("Client.putFile(name)", name=name)[0] == 0
    found = {}
    for queue in ("CLIENT-Q", "OURS-Q"):
        wanted = [
            runs(queue, 0, "cat greeting > out.txt; echo done 100%", f"--sourceURL {system.api} -a {name}"),
            runs(queue, 1, "exit 7"),
        ]
        code, answer = client(SUBMIT, wanted=wanted, queue=queue, dataset=f"user.anonymous.{queue.lower()}", trf=TRF)
        assert code == 0
        assert [len(each) for each in answer] == [3, 3]
        found[queue] = [each[0] for each in answer]
    start_pilot("CLIENT-Q", found["CLIENT-Q"])
    return found


@pytest.mark.parametrize("queue", ["OURS-Q", "CLIENT-Q"])
def test_a_job_of_its_api_is_run_by_either_pilot(client, system, submitted, queue):
    good, bad = submitted[queue]
    ended = ("finished", "failed")
    await_that(lambda: system.client.job(good).status in ended and system.client.job(bad).status in ended, 400)

    job = described(client, good)
    assert (job["jobStatus"], job["computingSite"], job["jobDefinitionID"]) == ("finished", queue, 1), job
    output = next(file for file in job["Files"] if file["type"] == "output")
    assert (output["lfn"], output["status"], output["fsize"]) == (f"{queue}.out.0.txt", "ready", 9)
    job = described(client, bad)
    assert (job["jobStatus"], job["transExitCode"]) == ("failed", "7")


def test_a_job_that_waits_can_be_killed_and_debugged(client, system):
    [[panda_id, _, _]] = client(
        f"{SUBMIT.strip()}[1]",
        wanted=["-p true"],
        queue="FAIL-Q",  # where no pilot comes meanwhile
        dataset="user.anonymous.nowhere",
        trf=TRF,
    )
    await_that(lambda: system.query("SELECT 1 FROM jobs WHERE panda_id = %(id)s", id=panda_id), 30)

    assert client("Client.setDebugMode(panda_id, True, False)", panda_id=panda_id)[0] == 0
    assert client("Client.killJobs([panda_id])", panda_id=panda_id) == [0, [True]]
    assert described(client, panda_id)["jobStatus"] == "cancelled"


def test_a_token_of_ours_says_who_is_asking(client, system):
    token = system.client.create_token("maria", ["user"], label="upstream")["token"]

    assert client("Client.set_user_secret('mine', 'x')", token=token)[0] == 0
    assert client("Client.get_user_secrets()", token=token)[1][1] == {"mine": "x"}
    assert client("Client.get_user_secrets()")[1][1] == {}
    assert client("Client.get_user_secrets()", token="panda_wrong")[0] != 0
