"""What brokerage costs: CPU per job, and decisions, of passes over jobs of a few kinds.

    python -m benchmarks.brokering --jobs 5000 --queues 50 --kinds 4 --inputs 0 --room 0

With `--room N` each queue takes N jobs and the others wait; then it is told what a look at those that wait costs, while
all queues are full, and when all have room again.
Jobs are brokered as the stage does it, up to 1,000 in a transaction. CPU is that of this process and of its
PostgreSQL backend together; time that other programs of the machine take is not in it.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import psycopg

from benchmarks.costs import cpu_s
from panda.brokerage import broker, waking
from panda.db import migrate
from panda.db.session import Begin, begin_of, make_engine, rows, run
from panda.local.postgres import EmbeddedPostgres
from panda.settings import Settings

GROUP = 1_000
QUEUES = """
WITH s AS (INSERT INTO sites (name, cloud) SELECT 'SITE' || n, 'CLOUD' || n %% 5
    FROM generate_series(1, %(n)s) AS n RETURNING name),
d AS (INSERT INTO storages (name, site, kind, root) SELECT 'DISK' || n, 'SITE' || n, 'local', '/nowhere'
    FROM generate_series(1, %(n)s) AS n RETURNING name)
INSERT INTO queues (name, site, storage, cores, memory_mb, disk_mb, walltime_s, tags)
SELECT 'QUEUE' || n, 'SITE' || n, 'DISK' || n, 8, 4000 + 1000 * (n %% 8), 100000, 172800, '{linux,x86_64}'
FROM generate_series(1, %(n)s) AS n
"""
SHAPES = """
INSERT INTO shapes (cores, memory_mb, disk_mb, walltime_s, tags)
SELECT 1, 2000 + 1000 * k, 1000, 3600, '{linux}' FROM generate_series(1, %(kinds)s) AS k RETURNING shape_id
"""
SET = """
INSERT INTO jobsets (name, owner, share, idempotency_key, document_hash, document, bindings, first_panda_id, n_jobs,
    n_expanded, n_open, created_at)
VALUES ('bench', 'bench', 'default', 'bench', 'hash', '{"brokerage": {"exclude": ["SITE7"]}}', '{}', 1, %(n)s, %(n)s,
    %(n)s, panda_now()) RETURNING jobset_id
"""
JOBS = """
INSERT INTO jobs (panda_id, jobset_id, seq, name, owner, share, priority, status, max_attempts, shape_id, n_inputs,
    created_at, changed_at, spec)
SELECT i, %(jobset_id)s, i, 'bench', 'bench', 'default', 0, 'defined', 3, (%(shapes)s::int[])[1 + i %% %(kinds)s],
    %(inputs)s, panda_now(), panda_now(), '{"command": ["true"], "env": {}, "sandbox": null}'
FROM generate_series(1, %(n)s) AS i
"""
DUE = """
INSERT INTO job_due (panda_id, stage, due_at) SELECT i, 'broker', panda_now() FROM generate_series(1, %(n)s) AS i
"""
#: A file of 1 GB for each input of each job, each at three storages.
FILES = """
WITH d AS (INSERT INTO datasets (scope, name, owner, created_at) VALUES ('s', 'd', 'bench', panda_now())
    RETURNING dataset_id)
INSERT INTO files (dataset_id, lfn, guid, size_bytes, adler32, created_at)
SELECT dataset_id, 'f' || i, 'g', 1000000000, '00000001', panda_now()
FROM d, generate_series(1, %(n)s * %(inputs)s) AS i
"""
REPLICAS = """
INSERT INTO replicas (file_id, storage, path, created_at)
SELECT f.file_id, 'DISK' || k, 'p', panda_now() FROM files f, generate_series(1, 3) AS k
"""
INPUTS = """
INSERT INTO job_files (panda_id, kind, lfn, did, file_id, status, size_bytes)
SELECT 1 + (file_id - 1) / %(inputs)s, 'input', lfn, 's:d', file_id, 'missing', size_bytes FROM files
"""


def fill(begin: Begin, n: int, n_queues: int, kinds: int, inputs: int) -> None:
    """Queues, and jobs that are due for brokerage."""
    with begin() as connection:
        run(connection, "SET LOCAL statement_timeout = '120s'")
        run(connection, QUEUES, {"n": n_queues})
        shapes = [row.shape_id for row in rows(connection, SHAPES, {"kinds": kinds})]
        [jobset] = rows(connection, SET, {"n": n})
        values = {"n": n, "kinds": kinds, "inputs": inputs, "shapes": shapes, "jobset_id": jobset.jobset_id}
        run(connection, JOBS, values)
        run(connection, DUE, values)
        if inputs:
            run(connection, FILES, values)
            run(connection, REPLICAS, values)
            run(connection, INPUTS, values)


def measure(begin: Begin, n: int, settings: Settings, room: int = 0) -> dict[str, float]:
    """Broker all jobs; the first two groups warm up and do not count."""
    ours = backend = wall = 0.0
    n_counted = 0
    for first in range(1, n + 1, GROUP):
        panda_ids = list(range(first, min(first + GROUP, n + 1)))
        with begin() as connection:
            pid = rows(connection, "SELECT pg_backend_pid() AS pid")[0].pid
        was = time.process_time(), cpu_s([pid]), time.monotonic()
        with begin() as connection:
            placed = broker.place(connection, panda_ids, by="broker", settings=settings)
        assert placed == panda_ids or room
        if first > 2 * GROUP:
            ours += time.process_time() - was[0]
            backend += cpu_s([pid]) - was[1]
            wall += time.monotonic() - was[2]
            n_counted += len(panda_ids)
    with begin() as connection:
        n_decisions = rows(connection, "SELECT count(*) AS n FROM brokerage_decisions")[0].n
    return {
        "n_jobs": n,
        "n_decisions": n_decisions,
        "python_us_per_job": round(ours / n_counted * 1e6, 1),
        "postgres_us_per_job": round(backend / n_counted * 1e6, 1),
        "wall_us_per_job": round(wall / n_counted * 1e6, 1),
    }


def look(begin: Begin, settings: Settings) -> dict[str, float]:
    """Milliseconds of a look at the jobs that wait for room: while there is none, and when there is."""
    told: dict[str, float] = {}
    for what in ("full", "free"):
        if what == "free":
            with begin() as connection:
                run(connection, "DELETE FROM job_count_deltas")
        was = time.monotonic()
        with begin() as connection:
            told[f"n_woken_{what}"] = waking.wake(connection, settings)
        told[f"look_{what}_ms"] = round((time.monotonic() - was) * 1e3, 1)
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("jobs", 5_000), ("queues", 50), ("kinds", 4), ("inputs", 0), ("room", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = EmbeddedPostgres(Path(folder), fsync=False)
        server.start()
        try:
            url = server.create_database("bench")
            migrate.upgrade(url)
            engine = make_engine(url, pool_size=1)
            begin = begin_of(engine)
            fill(begin, asked.jobs, asked.queues, asked.kinds, asked.inputs)
            with begin() as connection:
                run(connection, "UPDATE queues SET max_ready = %(room)s", {"room": asked.room})
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute("VACUUM ANALYZE")
            told = measure(begin, asked.jobs, Settings(), asked.room)
            print(json.dumps(vars(asked) | told | (look(begin, Settings()) if asked.room else {})))
            engine.dispose()
        finally:
            server.stop()


if __name__ == "__main__":
    main()
