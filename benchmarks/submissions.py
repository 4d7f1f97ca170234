"""B5, B6: from submission until pilots may claim: the rate of many, the time of one."""

import os
import random
import time
from uuid import uuid4

import psycopg

from benchmarks import celery_chain
from benchmarks.figures import Figure, percentile
from benchmarks.load import DEFAULTS, Line
from benchmarks.system import STORAGES, Meter, System, running
from panda.api.schemas import TokenCreated
from panda.jobs.specs import JobSetRequest, JobSpec, Template

N_JOBS, PER_SET = 20_000, 1_000
DATASET = "bench:inputs"
BACKLOG = int(os.environ.get("BENCH_BACKLOG", "1000000"))
IDLE_SAMPLES, BACKLOG_SAMPLES = 100, 20
POLL_S = 0.002

#: Files that are at both sites already: nothing moves.
DATASETS = """
INSERT INTO datasets (scope, name, status, owner, created_at)
SELECT split_part(%(did)s::text, ':', 1), split_part(%(did)s::text, ':', 2), 'open', 'admin', panda_now()
RETURNING dataset_id
"""
FILES = """
WITH new AS (
    INSERT INTO files (dataset_id, lfn, guid, size_bytes, adler32, created_at)
    SELECT %(dataset_id)s, 'in.' || n, n, 1, '00000001', panda_now() FROM generate_series(0, %(n)s - 1) AS n
    RETURNING file_id, lfn)
INSERT INTO replicas (file_id, storage, path, created_at)
SELECT file_id, storage, lfn, panda_now() FROM new, unnest(%(storages)s::text[]) AS storage
"""
READY = "SELECT count(*) FROM ready"
IS_READY = "SELECT count(*) FROM ready WHERE panda_id = %(panda_id)s"
UNBROKERED = """
SELECT (SELECT sum(n_jobs - n_expanded) FROM jobsets)
    + (SELECT count(*) FROM jobs WHERE status IN ('pending', 'defined'))
"""


def claimable() -> Figure:
    """B5: bulks of 1000 jobs with an input and an output each, until all may be claimed."""
    with running() as system:
        _catalogue(system)
        line = Line(system, system.token)
        meter = Meter(system)
        for start in range(0, N_JOBS, PER_SET):
            line.submit(_with_files(start))
        answered_s, _ = meter.read()
        system.await_rows(READY, N_JOBS, every_s=0.05)
        lasted_s, spent = meter.read()
    rate, answered = N_JOBS / lasted_s, N_JOBS / answered_s
    chain = celery_chain.measured()
    return Figure(
        value=rate,
        unit="jobs/s",
        cpu_ms_per_job=1000 * sum(spent.values()) / N_JOBS,
        asked="≥ 3,000 jobs/s (answered: ≥ 8,000)",
        met=rate >= 3_000 and answered >= 8_000,
        reference=f"answered: {answered:,.0f} jobs/s; {chain.told}; {rate / chain.rate:.0f} times its rate",
        parts={name: 1000 * each / N_JOBS for name, each in spent.items()},
    )


def _catalogue(system: System) -> None:
    with system.connect() as connection:
        made = connection.execute(DATASETS, {"did": DATASET}).fetchone()
        assert made is not None
        connection.execute(FILES, {"dataset_id": made[0], "n": N_JOBS, "storages": list(STORAGES)})
        connection.execute("ANALYZE")


def _with_files(start: int) -> JobSetRequest:
    jobs = [
        JobSpec(command=["true"], inputs=[f"{DATASET}/in.{n}"], outputs=[f"out.{n}"])
        for n in range(start, start + PER_SET)
    ]
    return JobSetRequest(name="files", jobs=jobs, defaults=DEFAULTS, output_dataset="bench:outputs")


def one_job() -> Figure:
    """B6: one job of a user, on a system that is idle and on one that has a million before it."""
    with running() as system:
        line = Line(system, system.token)
        _samples(system, line, 10)
        idle = _samples(system, line, IDLE_SAMPLES)
        others = Line(system, _token_of(system, "crowd"))
        crowd = Template(command=["true"], count=BACKLOG)
        others.submit(JobSetRequest(name="crowd", template=crowd, defaults=DEFAULTS))
        time.sleep(5)  # the road is full by then
        crowded = _samples(system, line, BACKLOG_SAMPLES)
        with system.connect() as connection:
            left = connection.execute(UNBROKERED).fetchone()
    p50, p99, busy = percentile(idle, 50), percentile(idle, 99), percentile(crowded, 99)
    return Figure(
        value=p50 * 1000,
        unit="ms p50",
        asked="p50 ≤ 100 ms, p99 ≤ 500 ms; under a backlog p99 ≤ 5 s",
        met=p50 <= 0.1 and p99 <= 0.5 and busy <= 5,
        reference=f"p99 {p99 * 1000:.0f} ms; under a backlog of {BACKLOG:,} (at the end {left and left[0]:,} not "
        f"brokered): p50 {percentile(crowded, 50):.2f} s, p99 {busy:.2f} s",
    )


def _token_of(system: System, owner: str) -> str:
    """A user's token, made by the admin."""
    return Line(system, system.token).post("/v1/tokens", {"owner": owner, "roles": ["user"]}, TokenCreated).token


def _samples(system: System, line: Line, n: int) -> list[float]:
    with system.connect() as connection:
        return [_until_claimable(line, connection) for _ in range(n)]


def _until_claimable(line: Line, connection: psycopg.Connection) -> float:
    """Seconds from asking until a pilot may take the job."""
    time.sleep(random.uniform(0.1, 0.3))
    began = time.monotonic()
    request = JobSetRequest(name=f"one-{uuid4().hex[:8]}", jobs=[JobSpec(command=["true"])], defaults=DEFAULTS)
    wanted = {"panda_id": line.submit(request).first_panda_id}
    while connection.execute(IS_READY, wanted).fetchone() != (1,):
        time.sleep(POLL_S)
    return time.monotonic() - began
