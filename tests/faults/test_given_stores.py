"""Stores that somebody gives to the lab: it takes only empty ones, and leaves them so."""

import psycopg
import pytest
from redis import Redis

from panda.chaos.given import EMBEDDED, Given
from panda.errors import Conflict, Unavailable
from panda.local.redis import EmbeddedRedis


@pytest.fixture
def redis(tmp_path):
    server = EmbeddedRedis(tmp_path / "redis").start()
    yield server
    server.stop()


@pytest.fixture
def empty_database_url(postgres):
    yield postgres.create_database("given")
    postgres.drop_database("given")


def test_a_database_that_holds_anything_is_refused(database_url):
    with pytest.raises(Conflict, match="database given to the lab is not empty"):
        Given(database_url).check()


def test_a_redis_that_holds_anything_is_refused(redis):
    with Redis.from_url(redis.client_url) as client:
        client.set("somebody", "else")

        with pytest.raises(Conflict, match="Redis given to the lab holds keys"):
            Given(redis_url=redis.url).check()
        assert client.get("somebody") == b"else"


def test_a_store_that_does_not_answer_is_named():
    with pytest.raises(Unavailable, match="does not answer"):
        Given("postgresql://nobody@127.0.0.1:1/none").check()
    with pytest.raises(Unavailable, match="does not answer"):
        Given(redis_url="redis://127.0.0.1:1/0").check()


def test_empty_stores_are_taken_and_empty_again_afterwards(empty_database_url, redis):
    given = Given(empty_database_url, redis.url)
    given.check()
    with psycopg.connect(empty_database_url, autocommit=True) as database, Redis.from_url(redis.client_url) as client:
        database.execute("CREATE TABLE mine ()")
        client.set("mine", "1")

    given.clear()

    given.check()


def test_a_given_store_needs_no_disk_of_the_lab_and_no_embedded_one_starts():
    given = Given("postgresql://db/empty")

    assert given.environ() == {"PANDA_DATABASE_URL": "postgresql://db/empty"}
    assert given.disks({"spool": 1, "redis": 2, "postgres": 3}) == {"spool": 1, "redis": 2}
    assert not EMBEDDED.environ()
