"""Reports as a pilot should never send them: the lease is the fence, over HTTP as well.

The pilot of WEST-Q is played here."""

import zlib
from pathlib import Path
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import pytest
from livesystem import await_that

from panda.client import Client


class FakePilot:
    """One pilot at WEST-Q that says whatever it is told to."""

    def __init__(self, system):
        self._client = Client(system.api, system.pilot_token)
        self.pilot_id = f"fake-{uuid4().hex}"

    def take(self, n=1):
        """`n` jobs, as soon as they are there."""
        return await_that(lambda: self._acquire(n), 20)

    def say(self, job, status, **more):
        """The outcome of one report."""
        report = {**{key: job[key] for key in ("panda_id", "attempt_nr", "token")}, "status": status, **more}
        answer = self._client.request(
            "POST", "/v1/pilots/update", {"pilot_id": self.pilot_id, "reports": [report]}
        )  # fmt: skip
        return answer["results"][0]["outcome"]

    def beat(self, job):
        beat = {key: job[key] for key in ("panda_id", "attempt_nr", "token")}
        answer = self._client.request("POST", "/v1/pilots/heartbeat", {"pilot_id": self.pilot_id, "beats": [beat]})
        return answer["results"][0]["outcome"]

    def _acquire(self, n):
        document = {
            "pilot_id": self.pilot_id, "queue": "WEST-Q", "request_id": uuid4().hex, "n": n, "cores": 2,
            "memory_mb": 4000, "disk_mb": 10_000, "walltime_s": 3600,
        }  # fmt: skip
        return self._client.request("POST", "/v1/pilots/acquire", document)["jobs"]


@pytest.fixture
def pilot(system):
    return FakePilot(system)


@pytest.fixture
def at_west(user):
    """Submit one job for the fake pilot."""
    return lambda **job: user.submit(jobs=[{"command": ["true"], **job}], brokerage={"sites": ["WEST"]})


def test_reports_out_of_order_and_twice_settle_a_job_once(user, pilot, at_west):
    accepted = at_west()
    [job] = pilot.take()

    outcomes = [pilot.say(job, word) for word in ("finished", "running", "finished", "failed", "starting")]
    user.ended(accepted)

    assert outcomes == ["ok", "already_done", "already_done", "already_done", "already_done"]
    assert user.client.job(job["panda_id"]).status == "finished"
    assert user.moves(job["panda_id"]).count("finished") == 1


def test_a_superseded_attempt_can_say_nothing(user, pilot, at_west):
    accepted = at_west(max_attempts=2, outputs=["out.txt"])
    [first] = pilot.take()
    pilot.say(first, "failed", error_code=1201, error_message="the node was taken away")
    [second] = pilot.take()
    lie = {"lfn": "out.txt", "size_bytes": 3, "adler32": "00000001"}

    outcomes = [
        pilot.say(first, "running"),
        pilot.say(first, "finished", outputs=[lie]),
        pilot.beat(first),
        pilot.say({**second, "token": first["token"]}, "finished", outputs=[lie]),
    ]
    written = _write(second)
    honest = pilot.say(second, "finished", outputs=written)
    [job] = user.ended(accepted)

    assert first["panda_id"] == second["panda_id"]
    assert (first["attempt_nr"], second["attempt_nr"]) == (1, 2)
    assert outcomes == ["stale_lease"] * 4
    assert (honest, job.status, job.attempt_nr) == ("ok", "finished", 2)
    [file] = user.client.datasets.files(accepted.output_dataset)
    assert file.size_bytes == written[0]["size_bytes"]


def test_a_job_that_does_not_exist_is_not_found(pilot):
    assert pilot.beat({"panda_id": 10**12, "attempt_nr": 1, "token": "x"}) == "not_found"


def test_an_output_that_is_not_there_fails_and_is_fetched_by_a_retry_from_stage_out(user, pilot, at_west):
    accepted = at_west(outputs=["late.txt"])
    [job] = pilot.take()
    content = b"it came late"
    promised = {"lfn": "late.txt", "size_bytes": len(content), "adler32": f"{zlib.adler32(content):08x}"}
    pilot.say(job, "finished", outputs=[promised])
    [failed] = user.ended(accepted)
    why = user.client.why(failed.panda_id)

    _write(job, content)
    user.client.retry(failed.panda_id, stage="stage_out")
    [retried] = user.ended(accepted)

    assert (failed.status, failed.failed_stage, failed.error_code) == ("failed", "stage_out", "stage_out:bad_output")
    assert "output late.txt is not on storage WEST-DISK" in why.summary
    assert (retried.status, retried.attempt_nr) == ("finished", 2)
    assert user.moves(retried.panda_id).count("activated") == 1
    [file] = user.client.datasets.files(accepted.output_dataset)
    assert file.size_bytes == len(content)


def test_an_output_with_another_content_than_was_reported_is_not_published(user, pilot, at_west):
    accepted = at_west(outputs=["other.txt"])
    [job] = pilot.take()
    written = _write(job, b"what is there")

    pilot.say(job, "finished", outputs=[{**written[0], "adler32": "00000001"}])
    [failed] = user.ended(accepted)

    assert (failed.status, failed.error_code) == ("failed", "stage_out:bad_output")
    assert "the pilot reported" in user.client.why(failed.panda_id).summary
    assert list(user.client.datasets.files(accepted.output_dataset)) == []


def _write(job, content=b"something"):
    """What a pilot does with outputs: puts them where it was told. Returns its report of them."""
    reports = []
    for output in job["outputs"]:
        path = Path(unquote(urlsplit(output["url"]).path))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        reports.append({"lfn": output["lfn"], "size_bytes": len(content), "adler32": f"{zlib.adler32(content):08x}"})
    return reports
