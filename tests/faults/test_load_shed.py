"""Too much at once, or too little to work with: a clear answer and a slow one, never half a deed, and no restart."""

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from uuid import uuid4

import psycopg
import pytest
from livesystem import await_that

from panda.chaos.ask import Line
from panda.client.errors import Conflict

N_PILOTS = 200


def ask_for_work(line, nr, **words):
    """One claim of a pilot of WEST-Q."""
    request = {"pilot_id": f"crowd-{nr}", "queue": "WEST-Q", "request_id": uuid4().hex, "n": 1, "cores": 2,
               "memory_mb": 4000, "disk_mb": 10000, "walltime_s": 86400}  # fmt: skip
    return line.json("POST", "/v1/pilots/acquire", request | words)


def west(system, n):
    """Jobs that only the pilots of these tests take."""
    return system.client.submit(
        {
            "name": "crowd",
            "defaults": {"memory_mb": 100, "disk_mb": 100, "walltime_s": 60, "max_attempts": 1},
            "brokerage": {"sites": ["WEST"]},
            "template": {"command": ["true", "${seq}"], "count": n},
        }
    )


def n_ready(system):
    return system.query("SELECT count(*)::int AS n FROM ready WHERE queue = 'WEST-Q'")[0].n


@pytest.fixture
def no_crowd_left(system):
    yield
    for jobset in system.client.jobsets(limit=20):
        if jobset.name == "crowd" and jobset.status == "running":
            with suppress(Conflict):  # it ended meanwhile
                system.client.cancel_jobset(jobset.jobset_id)


def test_200_pilots_at_once_get_one_job_each_or_are_told_when_to_come_back(system, no_crowd_left):
    accepted = west(system, N_PILOTS)
    await_that(lambda: n_ready(system) == N_PILOTS, 30)
    line, barrier = Line(system.api, system.pilot_token, timeout_s=60), threading.Barrier(N_PILOTS)

    def come(nr):
        barrier.wait()
        answers = [ask_for_work(line, nr)]
        while not answers[-1].is_ok:
            assert (answers[-1].status, answers[-1].retry_after_s > 0) == (503, True), answers[-1]
            threading.Event().wait(answers[-1].retry_after_s)
            answers.append(ask_for_work(line, nr))
        job = answers[-1].body["jobs"][0]
        report = {name: job[name] for name in ("panda_id", "attempt_nr", "token")} | {"status": "finished"}
        await_that(
            lambda: line.json("POST", "/v1/pilots/update", {"pilot_id": f"crowd-{nr}", "reports": [report]}).is_ok, 60
        )
        return job["panda_id"]

    with ThreadPoolExecutor(N_PILOTS) as threads:
        given = list(threads.map(come, range(N_PILOTS)))

    assert sorted(given) == list(range(accepted.first_panda_id, accepted.last_panda_id + 1))
    waited = system.client.wait(jobsets=[accepted.jobset_id], timeout_s=60)
    assert waited.by_status == {"finished": N_PILOTS}
    assert system.findings() == []


def test_a_database_that_answers_nobody_is_a_503_and_nothing_is_half_done(system, no_crowd_left):
    """Somebody holds what every submission writes; then lets go, and nothing is started anew."""
    line, key = Line(system.api, system.token, timeout_s=60), uuid4().hex
    document = {"name": "crowd", "brokerage": {"sites": ["WEST"]}, "jobs": [{"command": ["true"]}] * 3}
    started = system.pid("api")

    with psycopg.connect(system.database_url) as holder:
        holder.execute("LOCK TABLE jobsets IN ACCESS EXCLUSIVE MODE")
        with ThreadPoolExecutor(30) as threads:
            asked = [threads.submit(line.json, "POST", "/v1/jobsets", document, Idempotency_Key=key) for _ in range(30)]
            answers = [each.result() for each in asked]

    assert {answer.status for answer in answers} == {503}
    assert all(answer.retry_after_s > 0 for answer in answers)
    assert system.query("SELECT 1 FROM jobsets WHERE idempotency_key = %(key)s", key=key) == []
    answer = line.json("POST", "/v1/jobsets", document, Idempotency_Key=key)
    assert (answer.status, system.pid("api")) == (201, started)
    assert len(system.query("SELECT 1 FROM jobsets WHERE idempotency_key = %(key)s", key=key)) == 1
    system.client.cancel_jobset(answer.body["jobset_id"])


def test_no_connection_is_left_and_nothing_is_started_anew_when_there_is(system, load, no_crowd_left):
    """Somebody else has every connection that the database takes: F14."""
    line, key = Line(system.api, system.token, timeout_s=60), uuid4().hex
    document = {"name": "crowd", "brokerage": {"sites": ["WEST"]}, "jobs": [{"command": ["true"]}] * 3}
    running = {name: system.pid(name) for name in ("api", "relay", "stages", "data", "beat", "monitor")}
    accepted = load.submit()

    with every_connection(system):
        answers = [line.json("POST", "/v1/jobsets", document, Idempotency_Key=key) for _ in range(3)]
        pilot = ask_for_work(Line(system.api, system.pilot_token, timeout_s=60), "unlucky")
    await_that(lambda: line.json("GET", "/v1/jobsets").is_ok, 60)

    for answer in (*answers, pilot):
        assert (answer.status, answer.retry_after_s > 0) == (503, True), answer
    assert system.query("SELECT 1 FROM jobsets WHERE idempotency_key = %(key)s", key=key) == []
    load.finishes(accepted)
    assert {name: system.pid(name) for name in running} == running


@contextmanager
def every_connection(system):
    """Whoever has a connection loses it, and gets no other one."""
    taken = []
    try:
        ours = psycopg.connect(system.database_url, autocommit=True)
        taken.append(ours)
        deadline = time.monotonic() + 60
        n_refused = 0
        while n_refused < 5:
            assert time.monotonic() < deadline, "there are always more"
            try:
                taken.append(psycopg.connect(system.database_url, autocommit=True))
            except psycopg.OperationalError:
                pids = [each.info.backend_pid for each in taken]
                ended = ours.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE backend_type = 'client backend' AND pid <> ALL(%s)", [pids],
                ).rowcount  # fmt: skip
                n_refused = n_refused + 1 if not ended else 0
        yield
    finally:
        for each in taken:
            each.close()


def test_a_submission_is_taken_while_redis_hangs_and_the_system_says_that_it_is_degraded(
    system, stopped, no_crowd_left
):
    stopped([system.pid("redis")])

    answer = Line(system.api, system.token).json(
        "POST", "/v1/jobsets", {"name": "crowd", "brokerage": {"sites": ["WEST"]}, "jobs": [{"command": ["true"]}]},
        Idempotency_Key=uuid4().hex,
    )  # fmt: skip

    assert answer.status == 201
    os.kill(system.pid("redis"), signal.SIGCONT)
    await_that(lambda: n_ready(system) == 1, 60)


def test_a_pilot_that_is_older_or_newer_than_the_server_works_with_it(system, no_crowd_left):
    accepted = west(system, 2)
    await_that(lambda: n_ready(system) == 2, 30)
    line = Line(system.api, system.pilot_token)

    older = ask_for_work(line, "older").body["jobs"][0]  # says only what the first version of the protocol says
    newer = ask_for_work(line, "newer", gpus=8, of_the_future={"a": [1]}).body["jobs"][0]
    for nr, job in (("older", older), ("newer", newer)):
        named = {name: job[name] for name in ("panda_id", "attempt_nr", "token")}
        beats = {"pilot_id": f"crowd-{nr}", "beats": [named | {"gpu_s": 1.5}], "battery": 0.7}
        reports = {"pilot_id": f"crowd-{nr}", "reports": [named | {"status": "finished", "carbon_g": 3}], "x": None}
        assert line.json("POST", "/v1/pilots/heartbeat", beats).body["results"][0]["outcome"] == "ok"
        assert line.json("POST", "/v1/pilots/update", reports).body["results"][0]["outcome"] == "ok"

    assert {"panda_id", "attempt_nr", "token", "command", "env", "sandbox", "inputs", "outputs"} <= set(older)
    assert system.client.wait(jobsets=[accepted.jobset_id], timeout_s=60).by_status == {"finished": 2}
