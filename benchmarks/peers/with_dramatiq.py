"""Dramatiq with Redis: a message per job, worker processes that start `/bin/true`."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dramatiq
from dramatiq.brokers.redis import RedisBroker

SOCKET = "redis.socket"
broker = RedisBroker(url=f"unix://{Path(SOCKET).absolute()}")
dramatiq.set_broker(broker)


@dramatiq.actor(max_retries=0)
def start_true() -> None:
    os.waitpid(os.posix_spawn("/bin/true", ["/bin/true"], {}), 0)
    broker.client.incr("done")


@contextmanager
def ready(n_slots: int, redis_server: str) -> Iterator[Callable[[int], None]]:
    """Redis and the workers are up."""
    redis = subprocess.Popen(
        [redis_server, "--port", "0", "--unixsocket", SOCKET, "--save", "", "--appendonly", "no"],
        stdout=subprocess.DEVNULL,
    )
    while not os.path.exists(SOCKET):
        time.sleep(0.02)
    here = os.path.dirname(os.path.abspath(__file__))
    workers = subprocess.Popen(
        [sys.executable, "-m", "dramatiq", "with_dramatiq", "--processes", str(n_slots), "--threads", "1",
         "--path", here],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield _run
    finally:
        workers.terminate()
        workers.wait()
        redis.terminate()
        redis.wait()


def _run(n_jobs: int) -> None:
    broker.client.set("done", 0)
    for _ in range(n_jobs):
        start_true.send()
    while int(broker.client.get("done")) < n_jobs:
        time.sleep(0.01)
