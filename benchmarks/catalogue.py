"""D1, D2, D5: files in the catalogue: to enter and find them, to make jobs of a large dataset, as it grows.

CPU is that of PostgreSQL and of this process; in D2 of every process of the system. What stands beside it was measured
in the same run.
"""

import os
import random
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.costs import cpu_s, families
from benchmarks.figures import Figure
from benchmarks.load import DEFAULTS, Line
from benchmarks.pages import to_be_filled
from benchmarks.submissions import DATASETS, FILES
from benchmarks.system import STORAGES, Meter, System, running
from panda.dataservice import catalog
from panda.dataservice.catalog import NewFile
from panda.db.session import Begin, begin_of, make_engine, rows, run, unhurried
from panda.jobs.specs import InputTemplate, JobSetRequest, Template
from panda.local.postgres import EmbeddedPostgres

N_FILES, PER_CALL = 100_000, 1_000
N_SINGLE = 5_000
#: Files of the larger dataset, with which memory is compared; files of each job.
N_LARGER, PER_JOB = 300_000, 10
#: Rows of files at which single files are looked up.
SIZES = (100_000, 1_000_000, int(os.environ.get("BENCH_CATALOGUE", "10000000")))
#: Rows of one statement.
CHUNK = 1_000_000

PLACE = (
    "INSERT INTO sites (name, cloud) VALUES ('S', 'BENCH')",
    "INSERT INTO storages (name, site, kind, root) VALUES ('D', 'S', 'local', '/d')",
)
#: Tables of the same shape with the same indexes, and nothing else to do.
BARE = (
    "CREATE TABLE bare_files (LIKE files INCLUDING ALL)",
    "CREATE TABLE bare_replicas (LIKE replicas INCLUDING ALL)",
)
BARE_INSERT = """
WITH made AS (
    INSERT INTO bare_files (dataset_id, lfn, guid, size_bytes, adler32, created_at)
    SELECT 1, n.*, panda_now() FROM unnest(%(lfns)s::text[], %(guids)s::text[], %(sizes)s::bigint[],
        %(adler32s)s::text[]) AS n
    RETURNING file_id, lfn)
INSERT INTO bare_replicas (file_id, storage, path, created_at) SELECT file_id, 'D', lfn, panda_now() FROM made
"""
MANY = """
WITH made AS (
    INSERT INTO files (dataset_id, lfn, guid, size_bytes, adler32, created_at)
    SELECT %(dataset_id)s, 'in.' || n, n, 1, '00000001', panda_now()
    FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n RETURNING file_id, lfn)
INSERT INTO replicas (file_id, storage, path, created_at) SELECT file_id, 'D', lfn, panda_now() FROM made
"""
EXPANDED = "SELECT count(*) FROM ready"


def entered() -> Figure:
    """D1: 100,000 files join a dataset, 1,000 in a call, as `stage_out` registers outputs; then all are looked up."""
    with _database() as (begin, meter):
        with begin() as connection:
            dataset_id = catalog.create(connection, "bench:files", owner="bench")
            for sql in BARE:
                run(connection, sql)
        inserted = meter(lambda: _register(begin, dataset_id))
        bare = meter(lambda: _register_bare(begin))
        found = meter(lambda: _look_up(begin, dataset_id))
        single = meter(lambda: _look_up_one_by_one(begin, "bench:files", N_FILES))
    per_file, ratio = 1000 * inserted / N_FILES, inserted / bare
    return Figure(
        value=per_file,
        unit="ms CPU per file",
        cpu_ms_per_job=per_file,
        asked="to enter ≤ 0.1 ms a file, to find ≤ 0.02 ms in bulk",
        met=per_file <= 0.1 and 1000 * found / N_FILES <= 0.02,
        reference=f"{ratio:.1f} times bare INSERTs of the same rows into tables of the same shape; found in bulk "
        f"{1000 * found / N_FILES:.3f} ms, one by one {1000 * single / N_SINGLE:.2f} ms CPU a file",
        parts={"entered": per_file, "bare": 1000 * bare / N_FILES, "found": 1000 * found / N_FILES,
               "found one by one": 1000 * single / N_SINGLE},
    )  # fmt: skip


def dealt() -> Figure:
    """D2: a dataset of 100,000 files becomes 10,000 jobs in one submission, until pilots may take all of them; then
    one of 300,000."""
    with running() as system:
        line = Line(system, system.token)
        for name, n in (("large", N_FILES), ("larger", N_LARGER)):
            with system.connect() as connection:
                made = connection.execute(DATASETS, {"did": f"bench:{name}"}).fetchone()
                assert made is not None
                connection.execute(FILES, {"dataset_id": made[0], "n": n, "storages": list(STORAGES)})
                connection.execute("ANALYZE")
        meter = Meter(system)
        _submit(system, line, "large", N_FILES // PER_JOB)
        lasted_s, spent = meter.read()
        before = _peaks_mb(system)
        _submit(system, line, "larger", (N_FILES + N_LARGER) // PER_JOB)
        grown = {name: peak - before.get(name, 0.0) for name, peak in _peaks_mb(system).items()}
    per_file, worst = 1000 * sum(spent.values()) / N_FILES, max(grown, key=lambda name: grown[name])
    return Figure(
        value=per_file,
        unit="ms CPU per file",
        cpu_ms_per_job=per_file,
        asked="≤ 0.2 ms a file; three times the files: no process has more than 20 MB more at any time",
        met=per_file <= 0.2 and grown[worst] <= 20,
        reference=f"{N_FILES // PER_JOB:,} jobs with {PER_JOB} files each may be claimed after {lasted_s:.0f} s; "
        f"with {N_LARGER:,} files most memory more: {worst}, {grown[worst]:.0f} MB",
        parts={name: 1000 * each / N_FILES for name, each in spent.items()},
    )


def grown() -> Figure:
    """D5: one file is looked up by its name, with 100,000 to 10,000,000 rows of files."""
    taken: dict[str, float] = {}
    with _database() as (begin, meter):
        with begin() as connection:
            dataset_ids = [catalog.create(connection, f"bench:d{k}", owner="bench") for k in range(10)]
        n_rows = 0
        for size in SIZES:
            _fill(begin, dataset_ids, n_rows // 10, size // 10)
            n_rows = size
            _look_up_one_by_one(begin, "bench:d5", size // 10)  # warm
            spent = meter(lambda size=size: _look_up_one_by_one(begin, "bench:d5", size // 10))
            taken[f"{size:,} rows"] = 1000 * spent / N_SINGLE
    first, *_, last = taken.values()
    return Figure(
        value=last,
        unit="ms CPU per look-up",
        cpu_ms_per_job=last,
        asked="≤ 1.5 times as much as with 100,000 rows",
        met=last <= 1.5 * first,
        reference=f"with {SIZES[-1]:,} rows {last / first:.2f} times as much as with {SIZES[0]:,}",
        parts=taken,
    )


@contextmanager
def _database() -> Iterator[tuple[Begin, "_Meter"]]:
    """A catalogue of its own, and a meter of what it and this process use."""
    folder = Path(tempfile.mkdtemp(prefix="panda-catalogue-"))
    server = EmbeddedPostgres(folder, fsync=False)
    server.start()
    try:
        url = server.create_database("catalogue")
        to_be_filled(server, url)
        engine = make_engine(url)
        begin = begin_of(engine)
        with begin() as connection:
            for sql in PLACE:
                run(connection, sql)
        [pid_file] = folder.rglob("postmaster.pid")
        yield begin, _Meter(int(pid_file.read_text().split()[0]))
        engine.dispose()
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


class _Meter:
    """CPU seconds of PostgreSQL and of this process that something took."""

    def __init__(self, postmaster: int) -> None:
        self._postmaster = postmaster

    def __call__(self, work) -> float:  # type: ignore[no-untyped-def]
        before = self._now()
        work()
        return self._now() - before

    def _now(self) -> float:
        return cpu_s([os.getpid(), *families({"postgres": self._postmaster})["postgres"]])


def _names(first: int) -> list[str]:
    return [f"file.{n:08d}.root" for n in range(first, first + PER_CALL)]


def _register(begin: Begin, dataset_id: int) -> None:
    for first in range(0, N_FILES, PER_CALL):
        files = [
            NewFile(dataset_id=dataset_id, lfn=lfn, guid=lfn, size_bytes=1, adler32="00000001", storage="D", path=lfn)
            for lfn in _names(first)
        ]
        with begin() as connection:
            catalog.register(connection, files)


def _register_bare(begin: Begin) -> None:
    for first in range(0, N_FILES, PER_CALL):
        lfns = _names(first)
        values = {"lfns": lfns, "guids": lfns, "sizes": [1] * PER_CALL, "adler32s": ["00000001"] * PER_CALL}
        with begin() as connection:
            run(connection, BARE_INSERT, values)


def _look_up(begin: Begin, dataset_id: int) -> None:
    for first in range(0, N_FILES, PER_CALL):
        with begin() as connection:
            found = catalog.known_files(connection, [(dataset_id, lfn) for lfn in _names(first)])
        assert len(found) == PER_CALL


def _look_up_one_by_one(begin: Begin, did: str, n_files: int) -> None:
    """`N_SINGLE` files, at random, each with its replicas."""
    scope, _, name = did.partition(":")
    chance = random.Random(1)
    is_numbered = name != "files"
    with begin() as connection:
        for _ in range(N_SINGLE):
            n = chance.randrange(n_files)
            lfn = f"in.{n}" if is_numbered else f"file.{n:08d}.root"
            assert len(rows(connection, catalog.FILE, {"scope": scope, "name": name, "lfn": lfn})) == 1


def _fill(begin: Begin, dataset_ids: Sequence[int], first: int, end: int) -> None:
    """Each dataset gets files `first` to `end`, without what a person's files would be checked for."""
    for dataset_id in dataset_ids:
        for start in range(first, end, CHUNK):
            with begin() as connection:
                unhurried(connection)
                run(connection, "SET LOCAL statement_timeout = 0")
                run(connection, "SET LOCAL session_replication_role = replica")  # no look at foreign keys per row
                values = {"dataset_id": dataset_id, "first": start, "last": min(start + CHUNK, end) - 1}
                run(connection, MANY, values)
    with begin() as connection:
        unhurried(connection)
        run(connection, "SET LOCAL statement_timeout = 0")
        run(connection, "ANALYZE files, replicas, datasets")


def _submit(system: System, line: Line, name: str, n_ready: int) -> None:
    """One set of one dataset; until `n_ready` jobs in all may be claimed."""
    inputs = {"IN": InputTemplate(dataset=f"bench:{name}", files_per_job=PER_JOB)}
    template = Template(command=["true", "${IN.files}"], inputs=inputs)
    line.submit(JobSetRequest(name=name, template=template, defaults=DEFAULTS))
    system.await_rows(EXPANDED, n_ready, every_s=0.1)


def _peaks_mb(system: System) -> dict[str, float]:
    """The most memory (MB) that any process of each kind has had so far; pages of PostgreSQL's cache are shared."""
    return {
        name: max(_peak_mb(pid) for pid in pids)
        for name, pids in system.families().items()
        if name not in ("postgres", "redis")
    }


def _peak_mb(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM:")), 0.0)
