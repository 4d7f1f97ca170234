"""What Celery tells the monitor: the app that Flower listens with, and what Flower has heard so far.

The monitor talks to no worker of its own accord; it is a bare Celery app made from settings, and its
profile must agree with the workers' (`global_keyprefix` above all, or it hears nothing).
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from celery import Celery

from panda.errors import ConfigError
from panda.settings import REDIS_KEY_PREFIX, Settings

#: PandaIDs of a task's arguments that are looked at.
SOME = 20


def bare_app(settings: Settings) -> Celery:
    """A Celery app without tasks, on the same broker as the workers.

    Raises:
        ConfigError: no Redis is named.
    """
    if not settings.store.redis_url:
        raise ConfigError("no Redis: set PANDA_REDIS_URL, or start everything with `panda up`")
    app = Celery("panda", broker=settings.store.redis_url)
    app.conf.update(
        accept_content=["json"],
        task_ignore_result=True,
        task_create_missing_queues=False,
        broker_connection_retry_on_startup=True,
        broker_connection_timeout=2,
        broker_transport_options={
            "visibility_timeout": settings.engine.visibility_s,
            "global_keyprefix": REDIS_KEY_PREFIX,
            "socket_timeout": 30,
            "socket_connect_timeout": 2,
            "socket_keepalive": True,
            "health_check_interval": 25,
        },
    )
    return app


def flower_url(redis_url: str) -> str:
    """A kombu URL as Flower's broker page reads it: of a socket it wants the bare path."""
    parts = urlsplit(redis_url)
    if parts.scheme != "redis+socket":
        return redis_url
    password = f":{parts.password}@" if parts.password else ""
    return f"redis+socket://{password}{unquote(parts.path)}"


def shown_url(redis_url: str) -> str:
    """The same without its password."""
    parts = urlsplit(redis_url)
    if parts.password is None:
        return redis_url
    return redis_url.replace(f":{parts.password}@", ":**@", 1)


@dataclass(frozen=True)
class WorkerSeen:
    """A Celery worker that sent events."""

    name: str
    is_alive: bool
    n_active: int
    heard_at: datetime | None = None
    """Its last heartbeat, by its own clock; None: it said goodbye, or never beat."""
    pid: int | None = None


def _heard_at(worker: Any) -> datetime | None:
    beats = list(worker.heartbeats or ())
    return datetime.fromtimestamp(beats[-1], UTC) if beats else None


@dataclass(frozen=True)
class Chain:
    """The chain that a task is of, by the id that events of jobs have; `panda_ids`: some that its task was given."""

    chain_id: str
    panda_ids: list[int]


class CeleryView(Protocol):
    """What pages may ask about Celery."""

    def workers(self) -> list[WorkerSeen]: ...
    def remembers(self, task_id: str) -> bool: ...
    def chain_of(self, task_id: str) -> "Chain": ...


class Heard:
    """Flower's memory, read from other threads than the one that writes it."""

    def __init__(self) -> None:
        self._state: Any = None

    def listen_to(self, state: Any) -> None:
        """`state`: celery.events.state.State."""
        self._state = state

    def workers(self) -> list[WorkerSeen]:
        """Every worker that was heard of since this process started."""
        found = [] if self._state is None else list(dict(self._state.workers.data).values())
        return sorted(
            (
                WorkerSeen(each.hostname, bool(each.alive), int(each.active or 0), _heard_at(each), each.pid)
                for each in found
            ),
            key=lambda worker: worker.name,
        )

    def chain_of(self, task_id: str) -> Chain:
        """Of a task that was not heard of: it begins a chain, as far as anybody knows."""
        task = None if self._state is None else self._state.tasks.data.get(task_id)
        if task is None:
            return Chain(task_id, [])
        # Its arguments come as text, cut off where they are long.
        numbers = [int(word) for word in re.findall(r"\b[0-9]{1,18}\b(?!\.\.)", str(task.args or ""))]
        return Chain(task.root_id or task_id, numbers[:SOME])

    def remembers(self, task_id: str) -> bool:
        """Whether `/flower/task/{task_id}` would show something."""
        return self._state is not None and task_id in self._state.tasks.data
