"""The embedded stores keep what they were given, whatever happens to them."""

import os
import signal
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from panda.errors import ConfigError, Unavailable
from panda.local import postgres
from panda.local import redis as local_redis
from panda.local.postgres import EmbeddedPostgres
from panda.local.processes import Known, group_members, wait_until
from panda.local.redis import EmbeddedRedis


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(tmp_path / "postgres").start()
    yield server
    server.stop()


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    cache = EmbeddedRedis(tmp_path / "redis").start()
    yield cache
    cache.stop()


def note(server: EmbeddedPostgres, word: str) -> None:
    with psycopg.connect(server.url) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS notes (word text)")
        connection.execute("INSERT INTO notes VALUES (%s)", [word])


def notes(server: EmbeddedPostgres) -> list[str]:
    with psycopg.connect(server.url) as connection:
        return [word for (word,) in connection.execute("SELECT word FROM notes")]


def pid_of(server: EmbeddedPostgres) -> int:
    return int((server.folder / "data" / "postmaster.pid").read_text().splitlines()[0])


def test_a_restart_keeps_what_was_committed(server):
    note(server, "kept")

    server.stop()
    server.start()

    assert notes(server) == ["kept"]


def test_postgres_is_set_up_for_our_load(server):
    with psycopg.connect(server.url) as connection:
        shown = {name: connection.execute(f"SHOW {name}").fetchone()[0] for name in (
            "fsync", "synchronous_commit", "jit", "autovacuum_naptime", "listen_addresses", "server_encoding",
            "max_connections", "statement_timeout")}  # fmt: skip

    assert shown == {
        "fsync": "on", "synchronous_commit": "on", "jit": "off", "autovacuum_naptime": "5s",
        "listen_addresses": "", "server_encoding": "UTF8", "max_connections": "100", "statement_timeout": "0",
    }  # fmt: skip


def test_a_killed_postgres_recovers_what_was_committed(server):
    note(server, "kept")

    known = Known.of(pid_of(server))
    assert known is not None
    os.kill(known.pid, signal.SIGKILL)
    wait_until(lambda: not known.is_alive(), 5)
    server.start()

    assert notes(server) == ["kept"]


def test_a_postgres_that_nobody_watches_is_ended_before_a_new_one_starts(server):
    note(server, "kept")
    first = Known.of(pid_of(server))

    second = EmbeddedPostgres(server.folder).start()

    assert first is not None
    assert not first.is_alive()
    assert notes(second) == ["kept"]
    second.stop()


def test_a_pid_file_with_a_recycled_pid_is_no_obstacle(server):
    server.stop()
    stale = [str(os.getpid()), str(server.folder / "data"), "1", "5432", "", "", "", "ready"]
    (server.folder / "data" / "postmaster.pid").write_text("\n".join(stale) + "\n")

    server.start()

    assert pid_of(server) != os.getpid()


def test_a_half_made_cluster_is_thrown_away(tmp_path):
    half = tmp_path / "postgres" / "new-abc"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("16")

    server = EmbeddedPostgres(tmp_path / "postgres", fsync=False).start()

    assert not half.exists()
    server.stop()


def test_only_we_may_enter_the_folder_of_the_socket(server):
    folders = [server.folder, server.folder / "data", server.folder / "sockets"]

    assert {stat.S_IMODE(folder.stat().st_mode) for folder in folders} == {0o700}


def test_a_long_path_gets_a_short_socket(tmp_path):
    folder = tmp_path / ("long" * 40)

    server = EmbeddedPostgres(folder / "postgres", fsync=False).start()
    cache = EmbeddedRedis(folder / "redis").start()

    note(server, "kept")
    assert redis.Redis.from_url(cache.client_url).ping()
    assert len(str(cache.socket)) < 60
    away = cache.socket.parent
    cache.stop()
    assert not away.exists()
    server.stop()
    assert notes(server.start()) == ["kept"]
    server.stop()


def test_a_database_is_copied_from_a_template_quickly(server):
    note(server, "kept")

    begun = time.monotonic()
    url = server.create_database("copy", template="panda")
    took_s = time.monotonic() - begun
    with psycopg.connect(url) as connection:
        copied = connection.execute("SELECT word FROM notes").fetchall()
    server.drop_database("copy")

    assert copied == [("kept",)]
    assert took_s < 5
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(url)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs another identity")
@pytest.mark.parametrize("identity", ["namespace", "nobody"])
def test_root_reaches_a_folder_that_is_closed_to_others(tmp_path, monkeypatch, identity):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    if not postgres._may_run_as(identity, str(closed)):
        pytest.skip(f"this machine does not allow `{identity}`")
    monkeypatch.setattr(postgres, "identity_for", lambda folder: identity)

    server = EmbeddedPostgres(closed / "postgres", fsync=False).start()

    note(server, "kept")
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    server.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs another identity")
def test_the_identity_may_change_between_two_starts(tmp_path, monkeypatch):
    for identity in ("nobody", "namespace"):
        if not postgres._may_run_as(identity, str(tmp_path)):
            pytest.skip(f"this machine does not allow `{identity}`")
    server = EmbeddedPostgres(tmp_path / "postgres", fsync=False)

    for identity in ("nobody", "namespace", "nobody"):
        monkeypatch.setattr(postgres, "identity_for", lambda folder, identity=identity: identity)
        server.start()
        note(server, identity)
        server.stop()
    server.start()

    assert notes(server) == ["nobody", "namespace", "nobody"]
    server.stop()


def test_a_postgres_that_cannot_start_says_why(server):
    server.stop()
    (server.folder / "data" / "PG_VERSION").write_text("9.6\n")

    with pytest.raises(Unavailable, match="incompatible"):
        server.start()


def test_without_the_wheel_two_ways_out_are_named(monkeypatch):
    monkeypatch.setattr(postgres, "find_spec", lambda name: None)

    with pytest.raises(ConfigError, match=r"PANDA_DATABASE_URL.*pip install"):
        postgres.binary("postgres")


def test_redis_keeps_its_messages_over_a_restart(cache):
    redis.Redis.from_url(cache.client_url).lpush("lane", "message")

    cache.stop()
    cache.start()

    client = redis.Redis.from_url(cache.client_url)
    assert client.lrange("lane", 0, -1) == [b"message"]
    assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


def test_redis_listens_on_no_port(cache):
    assert redis.Redis.from_url(cache.client_url).config_get("port") == {"port": "0"}


def test_a_redis_without_its_file_starts_empty(cache):
    redis.Redis.from_url(cache.client_url).lpush("lane", "message")
    cache.stop()
    for file in (cache.folder / "data").iterdir():
        file.unlink()

    cache.start()

    assert redis.Redis.from_url(cache.client_url).dbsize() == 0


def test_a_redis_with_a_torn_file_starts_with_what_is_whole(cache):
    client = redis.Redis.from_url(cache.client_url)
    client.set("whole", 1)
    client.set("torn", 1)
    cache.stop()
    file = next((cache.folder / "data").rglob("*.aof"))
    file.write_bytes(file.read_bytes()[:-5])

    cache.start()

    assert redis.Redis.from_url(cache.client_url).keys() == [b"whole"]


def test_a_redis_with_an_unreadable_file_starts_empty_and_keeps_the_file(cache):
    redis.Redis.from_url(cache.client_url).set("key", 1)
    cache.stop()
    file = next((cache.folder / "data").rglob("*.aof"))
    file.write_bytes(b"nonsense\r\n" * 10)

    cache.start()

    assert redis.Redis.from_url(cache.client_url).dbsize() == 0
    assert any((cache.folder / "data.unreadable").iterdir())


def test_a_redis_that_nobody_watches_is_ended_before_a_new_one_starts(cache):
    pid = int((cache.folder / "redis.pid").read_text())

    second = EmbeddedRedis(cache.folder).start()

    assert wait_until(lambda: not group_members(pid), 5)
    assert redis.Redis.from_url(second.client_url).ping()
    second.stop()


def test_without_any_redis_two_ways_out_are_named(monkeypatch):
    monkeypatch.setattr(local_redis, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", "")

    with pytest.raises(ConfigError, match=r"install redis-server.*PANDA_REDIS_URL"):
        local_redis.binary()


def test_an_old_redis_of_the_machine_is_passed_over(tmp_path, monkeypatch):
    old = tmp_path / "redis-server"
    old.write_text("#!/bin/sh\necho Redis server v=5.0.14\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert local_redis.binary() != old
