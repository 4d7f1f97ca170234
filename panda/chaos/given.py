"""Stores that somebody gives to the lab instead of the embedded ones.

The lab breaks, erases and reconfigures them, so it takes only servers that hold nothing, and leaves them so.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
from redis import Redis
from redis.exceptions import RedisError

from panda.errors import Conflict, Unavailable
from panda.settings import client_url

#: Whatever would go with the schema: relations, functions, extensions.
OBJECTS = """
SELECT (SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace)
     + (SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace)
     + (SELECT count(*) FROM pg_extension WHERE extnamespace = 'public'::regnamespace)
"""
CLEAR = "DROP SCHEMA public CASCADE; CREATE SCHEMA public"


@dataclass(frozen=True)
class Given:
    """Addresses; an empty one stands for the embedded store."""

    database_url: str = ""
    redis_url: str = ""

    def environ(self) -> Mapping[str, str]:
        """What `panda up` needs in its environment to use them."""
        told = {"PANDA_DATABASE_URL": self.database_url, "PANDA_REDIS_URL": self.redis_url}
        return {name: url for name, url in told.items() if url}

    def disks(self, disks_mb: Mapping[str, int]) -> Mapping[str, int]:
        """Of these folders, those that something is written to."""
        away = {"postgres": self.database_url, "redis": self.redis_url}
        return {name: size_mb for name, size_mb in disks_mb.items() if not away.get(name)}

    def check(self) -> None:
        """
        Raises:
            Conflict: one of them holds something (`not_empty`).
            Unavailable: one of them does not answer.
        """
        try:
            if self.database_url and self._n_objects():
                raise Conflict("the database given to the lab is not empty; it takes an empty one", code="not_empty")
            if self.redis_url and self._n_keys():
                raise Conflict("the Redis given to the lab holds keys; it takes an empty one", code="not_empty")
        except (psycopg.Error, RedisError) as problem:
            raise Unavailable(f"a store given to the lab does not answer: {problem}") from problem

    def clear(self) -> None:
        """They hold nothing again. Call it only after `check` let them pass."""
        if self.database_url:
            with self._database() as connection:
                connection.execute(CLEAR)
        if self.redis_url:
            with self._redis() as redis:
                redis.flushall()

    def _n_objects(self) -> int:
        with self._database() as connection:
            row = connection.execute(OBJECTS).fetchone()
        return int(row[0]) if row else 0

    def _n_keys(self) -> int:
        with self._redis() as redis:
            return sum(int(each["keys"]) for each in dict(redis.info("keyspace")).values())

    def _database(self) -> "psycopg.Connection[tuple[Any, ...]]":
        return psycopg.connect(self.database_url, connect_timeout=5, autocommit=True)

    def _redis(self) -> Redis:
        return Redis.from_url(client_url(self.redis_url), socket_timeout=5, socket_connect_timeout=5)


EMBEDDED = Given()
