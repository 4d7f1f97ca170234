"""Parsl's high-throughput executor: a worker process per slot that starts `/bin/true`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import parsl
from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.providers import LocalProvider


@parsl.python_app
def start_true() -> None:
    import os  # noqa: PLC0415  (it runs in another process)

    os.waitpid(os.posix_spawn("/bin/true", ["/bin/true"], {}), 0)


@contextmanager
def ready(n_slots: int) -> Iterator[Callable[[int], None]]:
    """The workers are up."""
    executor = HighThroughputExecutor(
        label="slots", address="127.0.0.1", max_workers_per_node=n_slots, encrypted=False,
        provider=LocalProvider(init_blocks=1, max_blocks=1, min_blocks=1),
    )  # fmt: skip
    with parsl.load(Config(executors=[executor], initialize_logging=False)):
        yield _run
    parsl.clear()


def _run(n_jobs: int) -> None:
    for future in [start_true() for _ in range(n_jobs)]:
        future.result()
