"""What cannot be meant is refused with a stable code, and nothing of it is stored."""

import http.client
import json
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from panda.client import Client, ClientError, Forbidden, Invalid, TooLarge, Unauthenticated

JOB = {"command": ["true"]}
REFUSED = {
    "an unknown field": ({"name": "x", "jobs": [{"comand": ["true"]}]}, "invalid", "did you mean 'command'"),
    "a field in the wrong place": ({"name": "x", "jobs": [JOB], "defaults": {"sites": ["A"]}}, "invalid", "belongs in 'brokerage'"),
    "a field of the outermost": ({"name": "x", "jobs": [JOB | {"working_group": "g"}]}, "invalid", "the outermost object"),
    "a wrong type": ({"name": "x", "jobs": [{"command": "true"}]}, "invalid", "jobs[0].command"),
    "a NUL": ({"name": "x", "jobs": [{"command": ["echo", "a\0b"]}]}, "invalid", "NUL"),
    "a huge number": ({"name": "x", "jobs": [JOB | {"cores": 10**30}]}, "invalid", "jobs[0].cores"),
    "more memory than a number holds": ({"name": "x", "jobs": [JOB | {"memory_mb": 2**31}]}, "invalid", "memory_mb"),
    "less than nothing": ({"name": "x", "jobs": [JOB | {"walltime_s": -1}]}, "invalid", "walltime_s"),
    "no jobs": ({"name": "x", "jobs": []}, "no_jobs", "job"),
    "jobs and a template": ({"name": "x", "jobs": [JOB], "template": JOB}, "jobs_or_template", "template"),
    "a parent that does not exist": ({"name": "x", "jobs": [JOB], "depends_on": [10**12]}, "not_found", "1000000000000"),
    "a storage that does not exist": ({"name": "x", "jobs": [JOB], "output_storage": "EAST"}, "not_found", "EAST"),
    "a sandbox that nobody uploaded": ({"name": "x", "jobs": [JOB | {"sandbox": "0" * 64}]}, "not_found", "sandbox"),
    "a variable that does not exist": ({"name": "x", "template": {"command": ["echo", "${SEED}"]}}, "unknown_placeholder", "SEED"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_submission_that_cannot_be_meant_is_refused(system, case):
    document, code, word = REFUSED[case]
    before = _newest(system)

    with pytest.raises(ClientError) as refusal:
        system.client.submit(document)

    assert refusal.value.code == code
    assert 400 <= refusal.value.status < 500
    told = refusal.value.message + str(refusal.value.problem)
    assert word in told
    assert _newest(system) == before


def test_a_body_of_20_mb_is_refused(system):
    with pytest.raises(TooLarge) as refusal:
        system.client.submit({"name": "x", "jobs": [{"command": ["echo", "x" * 100_000]}] * 200})

    assert (refusal.value.code, refusal.value.status) == ("too_large", 413)


def test_a_template_of_a_million_and_one_jobs_is_refused(system):
    before = _newest(system)

    with pytest.raises(Invalid) as refusal:
        system.client.submit({"name": "x", "template": {"command": ["true"], "count": 1_000_001}})

    assert refusal.value.code == "too_large"
    assert "1000000" in refusal.value.message.replace(",", "")
    assert _newest(system) == before


def test_the_same_submission_sent_twice_is_one_job_set(system):
    document = {"name": "twice", "jobs": [JOB, JOB]}

    first = system.client.submit(document, idempotency_key=(key := uuid4().hex))
    second = system.client.submit(document, idempotency_key=key)

    assert (first.replayed, second.replayed) == (False, True)
    assert (second.jobset_id, second.first_panda_id) == (first.jobset_id, first.first_panda_id)
    with pytest.raises(ClientError) as refusal:
        system.client.submit({"name": "another", "jobs": [JOB]}, idempotency_key=key)
    assert refusal.value.code == "idempotency_key_reused"


def test_what_is_no_json_is_refused(system):
    connection = http.client.HTTPConnection(urlsplit(system.api).netloc)
    headers = {"Authorization": f"Bearer {system.token}", "Idempotency-Key": "k", "Content-Type": "application/json"}
    connection.request("POST", "/v1/jobsets", b'{"name": "x", "jobs": [', headers)
    answer = connection.getresponse()
    problem = json.loads(answer.read())
    connection.close()

    assert (answer.status, problem["code"]) == (400, "invalid")


def test_a_token_that_is_wrong_or_expired_opens_nothing(system):
    short = system.client.create_token("ann", ["user"], ttl_s=1)["token"]
    system.query("SELECT pg_sleep(1.1)")

    for token in ("", "wrong", short):
        with pytest.raises(Unauthenticated) as refusal:
            Client(system.api, token).submit({"name": "x", "jobs": [JOB]})
        assert (refusal.value.code, refusal.value.status) == ("unauthenticated", 401)


def test_a_pilot_may_not_submit_and_a_user_may_not_play_a_pilot(system):
    ann = Client(system.api, system.client.create_token("ann", ["user"])["token"])

    with pytest.raises(Forbidden):
        Client(system.api, system.pilot_token).submit({"name": "x", "jobs": [JOB]})
    with pytest.raises(Forbidden):
        ann.request("POST", "/v1/pilots/heartbeat", {"pilot_id": "p", "beats": []})


def _newest(system):
    return system.query("SELECT last_value AS newest FROM panda_id_seq")[0].newest
