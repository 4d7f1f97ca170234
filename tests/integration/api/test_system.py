"""The service when parts of it are down: what it says, and that it comes back by itself."""

from dataclasses import replace
from threading import Barrier, Thread

import pytest
from falcon.testing import TestClient

from panda.api.app import create_app
from panda.db import lists
from panda.db.session import begin_of, make_engine, rows, run


def ready_of(begin, settings, redis_url=""):
    settings = replace(settings, store=replace(settings.store, redis_url=redis_url))
    return TestClient(create_app(begin, settings)).simulate_get("/readyz")


def test_the_root_shows_where_to_go(client):
    answer = client.simulate_get("/")

    assert answer.json["links"]["jobs"] == "/v1/jobs"


def test_a_living_process_is_alive_whatever_else_is_down(settings):
    away = begin_of(make_engine("postgresql://panda@/none?host=/nonexistent"))

    assert TestClient(create_app(away, settings)).simulate_get("/healthz").status_code == 200


BEAT = "INSERT INTO tick_leases VALUES ('sweep', panda_now(), 'h', panda_now())"
WORKERS = "INSERT INTO engine_state VALUES ('canary.final', panda_now()::text)"


def test_ready_names_every_part(begin, settings):
    with begin() as connection:
        for statement in (BEAT, WORKERS):
            run(connection, statement)

    answer = ready_of(begin, settings)

    assert answer.status_code == 200
    assert answer.json == {
        "status": "ok",
        "parts": {"database": "ok", "migrations": "ok", "redis": "not configured", "relay": "ok",
                  "beat": "ok", "workers": "ok"},
    }  # fmt: skip


@pytest.mark.parametrize(("statement", "part"), [(BEAT, "workers"), (WORKERS, "beat")])
def test_what_was_not_seen_yet_is_not_well(begin, settings, statement, part):
    with begin() as connection:
        run(connection, statement)

    answer = ready_of(begin, settings)

    assert (answer.status_code, answer.json["status"], answer.json["parts"][part]) == (200, "degraded", "not seen")


@pytest.mark.parametrize(("statement", "part", "told"), [
    ("INSERT INTO tick_leases VALUES ('sweep', panda_now(), 'h', panda_now() - interval '1 minute')", "beat", "silent"),
    ("INSERT INTO engine_state VALUES ('canary.final', (panda_now() - interval '1 hour')::text)", "workers", "silent"),
    ("INSERT INTO job_due (panda_id, stage, due_at) VALUES (1, 'define', panda_now() - interval '1 hour')", "relay", "late"),
])  # fmt: skip
def test_ready_names_the_part_that_jobs_wait_for(begin, settings, statement, part, told):
    with begin() as connection:
        run(connection, statement)

    answer = ready_of(begin, settings)

    assert (answer.status_code, answer.json["status"], answer.json["parts"][part]) == (200, "degraded", told)


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "redis+socket:///nonexistent.sock"])
def test_without_redis_the_service_is_degraded_and_takes_jobs(begin, settings, anna, url):
    answer = ready_of(begin, settings, url)

    assert (answer.status_code, answer.json["status"], answer.json["parts"]["redis"]) == (200, "degraded", "down")
    assert anna.submit().status_code == 201


def test_without_the_database_the_service_is_down(settings):
    answer = ready_of(begin_of(make_engine("postgresql://panda@/none?host=/nonexistent")), settings)

    assert (answer.status_code, answer.json["status"]) == (503, "down")
    assert answer.json["parts"]["database"] == "down"


def test_a_database_that_was_not_migrated_is_told(postgres, settings):
    engine = make_engine(postgres.create_database("not_migrated"))

    answer = ready_of(begin_of(engine), settings)

    engine.dispose()
    postgres.drop_database("not_migrated")
    assert (answer.status_code, answer.json["parts"]["migrations"]) == (503, "behind")


def test_a_request_that_finds_no_database_may_be_sent_again(settings):
    away = begin_of(make_engine("postgresql://panda@/none?host=/nonexistent"))
    client = TestClient(create_app(away, settings))

    answer = client.simulate_get("/v1/jobs", headers={"Authorization": "Bearer x"})

    assert (answer.status_code, answer.json["code"]) == (503, "unavailable")
    assert answer.headers["Retry-After"] == "2"
    assert "nonexistent" not in answer.text


def test_a_submission_that_finds_no_free_connection_stores_nothing_and_may_be_sent_again(
    database_url, settings, anna, monkeypatch
):
    engine = make_engine(database_url, pool_size=1)
    monkeypatch.setattr(engine.pool, "_timeout", 0.1)
    client = TestClient(create_app(begin_of(engine), settings))
    headers = {"Authorization": f"Bearer {anna.token}", "Idempotency-Key": "k"}
    document = {"name": "x", "jobs": [{"command": ["x"]}]}

    with engine.connect():
        busy = client.simulate_post("/v1/jobsets", headers=headers, json=document)
    free = client.simulate_post("/v1/jobsets", headers=headers, json=document)

    assert (busy.status_code, busy.json["code"]) == (503, "unavailable")
    assert free.status_code == 201
    engine.dispose()


def test_after_the_database_cut_its_connections_the_service_comes_back(begin, anna, database_url):
    anna.get("/v1/whoami")
    with begin() as first, begin() as second:
        others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
        for connection in (first, second):
            rows(connection, "SELECT 1")
    other = make_engine(database_url, pool_size=1)
    with begin_of(other)() as connection:
        rows(connection, f"{others} AND pid <> pg_backend_pid()")
    other.dispose()

    answers = [anna.get("/v1/jobs").status_code for _ in range(3)]

    assert set(answers[:-1]) <= {200, 503}
    assert answers[-1] == 200


def test_an_unforeseen_error_tells_nothing_of_its_inside(anna, monkeypatch, caplog):
    def broken(*_, **__):
        raise KeyError("secret detail")

    monkeypatch.setattr(lists, "page", broken)

    answer = anna.get("/v1/jobs", headers={"X-Request-Id": "r-77"})

    assert (answer.status_code, answer.json["code"], answer.json["request_id"]) == (500, "internal", "r-77")
    assert "secret" not in answer.text
    assert "secret detail" in caplog.text
    assert caplog.records[-1].facts["request_id"] == "r-77"


def test_a_repeat_after_a_rolled_back_submission_is_a_first_one(anna, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("panda.jobs.submission.SET_OUTPUT", "SELECT 1/0")
        assert anna.submit().status_code == 500

    answer = anna.submit()

    assert (answer.status_code, answer.json["replayed"]) == (201, False)


def test_the_same_submission_from_several_at_once_is_stored_once(anna):
    barrier, answers = Barrier(4), []

    def submit():
        barrier.wait()
        answers.append(anna.submit(key="same"))

    threads = [Thread(target=submit) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 201]
    assert len({answer.json["jobset_id"] for answer in answers}) == 1
