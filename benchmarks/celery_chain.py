"""The reference: what the same seven steps cost as plain Celery, one id per message.

A job is a row; a chain of seven tasks takes its id along, and each task makes one set-based UPDATE. The
same PostgreSQL and Redis, a worker with two processes, Celery's own defaults, no brokerage, no history.
"""

import time
from functools import cache
from pathlib import Path
from typing import NamedTuple

from celery import Celery, chain

from benchmarks.system import Meter, running
from panda.db.session import begin_from, rows
from panda.settings import current

N_JOBS = 1_000
STEPS = ("define", "broker", "stage_in", "activate", "dispatch", "stage_out", "archive")
PROCFILE = Path(__file__).with_name("Procfile.chain")

TABLE = "CREATE TABLE IF NOT EXISTS plain_jobs (id bigint PRIMARY KEY, step text NOT NULL)"
FILL = "INSERT INTO plain_jobs SELECT id, '' FROM generate_series(1, %(n)s) AS id"
MOVE = "UPDATE plain_jobs SET step = %(step)s WHERE id = ANY(%(ids)s) RETURNING id"
DONE = f"SELECT count(*) FROM plain_jobs WHERE step = '{STEPS[-1]}'"

app = Celery("plain", broker=current().store.redis_url or None)
app.conf.task_ignore_result = True
begin = cache(lambda: begin_from(current()))


@app.task(name="plain.step")  # type: ignore[untyped-decorator]
def step(ids: list[int], name: str) -> list[int]:
    """One step for these jobs."""
    with begin()() as connection:
        return [row.id for row in rows(connection, MOVE, {"ids": ids, "step": name})]


class Reference(NamedTuple):
    rate: float
    """Jobs per second."""
    cpu_ms: float
    """Of every process, per job."""

    @property
    def told(self) -> str:
        return f"plain Celery chain, an id per message: {self.rate:.0f} jobs/s, {self.cpu_ms:.1f} ms"


@cache
def measured() -> Reference:
    """Run it once per run of the benchmarks."""
    with running(procfile=PROCFILE) as system:
        app.conf.broker_url = system.redis_url
        with system.connect() as connection:
            connection.execute(TABLE)
            connection.execute(FILL, {"n": N_JOBS})
        meter = Meter(system)
        began = time.monotonic()
        for number in range(1, N_JOBS + 1):
            first, *rest = STEPS
            chain(step.s([number], first), *(step.s(name) for name in rest)).apply_async()
        system.await_rows(DONE, N_JOBS, every_s=0.1)
        lasted_s = time.monotonic() - began
        _, spent = meter.read()
    return Reference(N_JOBS / lasted_s, 1000 * sum(spent.values()) / N_JOBS)
