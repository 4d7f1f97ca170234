"""B4: whether a claim costs the same however many jobs wait, and however many shares want them.

Databases on one server, one with a thousand jobs queued and others with a million, are asked in turn, so
that what else the machine does falls on all alike. Claims go through `panda.dispatcher` on a connection.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import LiteralString

import psycopg

from benchmarks.figures import Figure, percentile
from benchmarks.load import ask
from panda.db import migrate
from panda.db.session import Begin, begin_of, make_engine
from panda.dispatcher import dispatch
from panda.local.postgres import EmbeddedPostgres
from panda.settings import Settings

FEW, MANY, UNFIT = 1_000, int(os.environ.get("BENCH_QUEUED", "1000000")), 100_000
N_CLAIMS = 2_000
CHURN_S = float(os.environ.get("BENCH_CHURN_S", "120"))
#: Jobs that come in at once; as many are claimed before the next ones come, so the queue keeps its length.
REFILL = 100
#: Leaf shares of the database that has many of them, below four branches.
N_SHARES = 20

SITE: LiteralString = """
INSERT INTO sites (name, cloud) VALUES ('BENCH', 'LOCAL');
INSERT INTO storages (name, site, kind, root) VALUES ('BENCH-DISK', 'BENCH', 'local', '/nowhere');
INSERT INTO shapes (cores, memory_mb, disk_mb, walltime_s) VALUES (1, 1000, 100, 600), (5000, 1000, 100, 600);
"""
QUEUE = """
INSERT INTO queues (name, site, storage, cores, memory_mb, disk_mb, walltime_s)
VALUES (%(queue)s, 'BENCH', 'BENCH-DISK', 10000, 1000000, 1000000, 1000000)
"""
SHARES: LiteralString = """
INSERT INTO shares (name, parent, weight, file_weight)
SELECT 'branch' || n, NULL, n, n FROM generate_series(1, 4) AS n;
INSERT INTO shares (name, parent, weight, file_weight)
SELECT 's' || lpad(n::text, 2, '0'), 'branch' || 1 + n % 4, 1 + n % 3, 1 + n % 3 FROM generate_series(0, 19) AS n
"""
#: Rows as `dispatch` leaves them: activated, parked for a pilot, ready.
FILL = """
WITH ids AS (SELECT panda_take_ids(%(n)s) AS first),
new AS (
    INSERT INTO jobs (panda_id, jobset_id, seq, name, owner, share, priority, status, max_attempts, shape_id,
        computing_site, created_at, changed_at, spec)
    SELECT first + n, 1, n, 'bench.' || n, 'bench',
        CASE WHEN %(n_shares)s = 1 THEN 'default' ELSE 's' || lpad((n %% %(n_shares)s)::text, 2, '0') END, 0,
        'activated', 3, %(shape_id)s, %(queue)s,
        panda_now(), panda_now(), '{"command": ["true"], "env": {}, "sandbox": null}'
    FROM ids, generate_series(0, %(n)s - 1) AS n
    RETURNING panda_id, share),
due AS (
    INSERT INTO job_due (panda_id, stage, waits_for, due_at)
    SELECT panda_id, 'dispatch', 'pilot', panda_now() + interval '6 hours' FROM new)
INSERT INTO ready (panda_id, queue, share, shape_id, rank)
SELECT panda_id, %(queue)s, share, %(shape_id)s, %(rank)s + panda_id FROM new
"""
FITS, DOES_NOT_FIT = 1, 2


class Queued:
    """A database with jobs that wait for a pilot."""

    def __init__(self, url: str, queue: str, settings: Settings, n_shares: int = 1) -> None:
        migrate.upgrade(url)
        self._connection = psycopg.connect(url, autocommit=True)
        self._engine = make_engine(url, pool_size=2)  # one for what is looked up in the background
        self._begin: Begin = begin_of(self._engine)
        self._queue = queue
        self._settings = settings
        self._n_left = 0
        self._n_shares = n_shares
        self._connection.execute(SITE)
        if n_shares > 1:
            self._connection.execute(SHARES)
        self._connection.execute(QUEUE, {"queue": queue})

    def fill(self, n: int, *, shape_id: int = FITS, rank: int = 0) -> None:
        """`n` jobs more; a smaller `rank` stands before a larger one."""
        for start in range(0, n, 50_000):
            self._connection.execute(
                FILL,
                {"n": min(50_000, n - start), "shape_id": shape_id, "queue": self._queue, "rank": rank,
                 "n_shares": self._n_shares},
            )  # fmt: skip

    def settle(self) -> None:
        """What autovacuum does to a table that has been there for a while."""
        self._connection.execute("VACUUM ANALYZE")

    def claim(self) -> float:
        """Seconds that a pilot waits for one job."""
        if self._n_left == 0:
            self.fill(REFILL)
            self._n_left = REFILL
        self._n_left -= 1
        request = ask(f"{self._queue}-pilot", self._queue, 1)
        began = time.perf_counter()
        reply = dispatch.acquire(self._begin, request, self._settings)
        taken_s = time.perf_counter() - began
        assert len(reply.jobs) == 1
        return taken_s

    def close(self) -> None:
        self._connection.close()
        self._engine.dispose()


def flat() -> Figure:
    """p99 of a claim from a long queue over p99 of a claim from a short one; the worst of four cases."""
    ratios: dict[str, float] = {}
    with _queues() as (few, many, headed, shared):
        few.fill(FEW)
        many.fill(MANY)
        shared.fill(MANY)
        headed.fill(UNFIT, shape_id=DOES_NOT_FIT, rank=-(2**40))
        headed.fill(FEW)
        queues = [few, many, headed, shared]
        for each in queues:
            each.settle()
        _in_turn(queues, 300)
        short, long, behind, divided = _in_turn(queues, N_CLAIMS)
        ratios[f"{MANY:,} queued"] = percentile(long, 99) / percentile(short, 99)
        ratios[f"{UNFIT:,} unfit at the head"] = percentile(behind, 99) / percentile(short, 99)
        ratios[f"{MANY:,} queued, {N_SHARES} leaf shares"] = percentile(divided, 99) / percentile(short, 99)
        until = time.monotonic() + CHURN_S
        while time.monotonic() < until:
            many.claim()
        fresh, churned = _in_turn([few, many], N_CLAIMS)
        ratios[f"after {CHURN_S:.0f} s of churn"] = percentile(churned, 99) / percentile(fresh, 99)
    worst = max(ratios.values())
    return Figure(
        value=worst,
        unit="times p99 (worst case)",
        asked="≤ 1.5",
        met=worst <= 1.5,
        reference=f"{FEW:,} queued: {_shown(short)}; {MANY:,} queued: {_shown(long)}; "
        f"{N_SHARES} leaf shares: {_shown(divided)}",
        parts=ratios,
    )


def _shown(times: list[float]) -> str:
    return f"p50 {1000 * percentile(times, 50):.2f} ms, p99 {1000 * percentile(times, 99):.2f} ms"


@contextmanager
def _queues() -> Iterator[list[Queued]]:
    with tempfile.TemporaryDirectory(prefix="panda-bench-") as folder:
        server = EmbeddedPostgres(Path(folder)).start()
        try:
            names = {"few": 1, "many": 1, "headed": 1, "shared": N_SHARES}
            made = [
                Queued(server.create_database(name), f"{name.upper()}-Q", Settings(), n_shares)
                for name, n_shares in names.items()
            ]
            yield made
            for each in made:
                each.close()
        finally:
            server.stop()


def _in_turn(queues: list[Queued], n: int) -> list[list[float]]:
    """Seconds of `n` claims from each."""
    taken: list[list[float]] = [[] for _ in queues]
    for _ in range(n):
        for queue, times in zip(queues, taken, strict=True):
            times.append(queue.claim())
    return taken
