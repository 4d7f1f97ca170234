"""D3, D4: many small files from one storage to another, beside `cp` and beside a loop over `xrdcp`."""

import resource
import shutil
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.load import DEFAULTS, Line
from benchmarks.submissions import DATASETS
from benchmarks.system import ROOT, SITES, Meter, System, running
from panda.jobs.specs import Brokerage, InputTemplate, JobSetRequest, Template

N_FILES, PER_JOB = 10_000, 10
#: XRootD's share of these, and how often `cp` and `xrdcp` are started.
N_XROOTD, N_STARTED = 2_000, 200
CONTENT = b"x" * 1_000

FILES = """
WITH new AS (
    INSERT INTO files (dataset_id, lfn, guid, size_bytes, adler32, created_at)
    SELECT %(dataset_id)s, 'in.' || n, n, %(size_bytes)s, %(adler32)s, panda_now()
    FROM generate_series(0, %(n)s - 1) AS n RETURNING file_id, lfn)
INSERT INTO replicas (file_id, storage, path, created_at)
SELECT file_id, 'NORTH-DISK', 'bench/' || substr(lfn, 4)::int %% 256 || '/' || lfn, panda_now() FROM new
"""
READY = "SELECT count(*) FROM ready"
DONE = "SELECT count(*) FROM transfers WHERE status = 'done'"
XROOTD_SITE = """
[sites.GRID]
cloud = "LOCAL"
[storages.GRID-DISK]
site = "GRID"
kind = "xrootd"
root = "{root}"
[queues.GRID-Q]
site = "GRID"
storage = "GRID-DISK"
cores = 1000
memory_mb = 1000000
disk_mb = 1000000
walltime_s = 1000000
"""


def between_folders() -> Figure:
    """D3: 10,000 files of 1,000 bytes that 1,000 jobs want at another site, until the last job may be claimed."""
    with running() as system:
        files = _files(system, N_FILES)
        lasted_s, spent = _moved(system, "SOUTH", N_FILES)
        with tempfile.TemporaryDirectory(prefix="panda-cp-", dir=system.folder) as folder:
            copied = _cpu_s([["cp", "-r", str(files), f"{folder}/all"]])
            names = sorted(each for each in files.rglob("in.*"))[:N_STARTED]
            looped = _cpu_s([["cp", str(each), f"{folder}/{each.name}"] for each in names])
    per_file = 1000 * sum(spent.values()) / N_FILES
    in_one, one_each = 1000 * copied / N_FILES, 1000 * looped / len(names)
    return Figure(
        value=N_FILES / lasted_s,
        unit="files/s",
        cpu_ms_per_job=per_file,
        asked="≤ 10 ms CPU per file",
        met=per_file <= 10,
        reference=f"CPU: {per_file / in_one:.0f} times one `cp -r` of all ({in_one:.2f} ms a file, nothing verified, "
        f"nothing on disk), {per_file / one_each:.1f} times a `cp` for each ({one_each:.2f} ms)",
        parts={name: 1000 * each / N_FILES for name, each in spent.items()},
    )


def to_xrootd() -> Figure:
    """D4: 2,000 such files to an XRootD server, beside a loop over `xrdcp` of the same server."""
    sys.path.insert(0, str(ROOT / "examples"))
    import storage_servers  # type: ignore[import-not-found]  # noqa: PLC0415

    scratch = Path(tempfile.mkdtemp(prefix="panda-bench-xrootd-"))
    server = storage_servers.xrootd(scratch)
    if server is None or shutil.which("xrdcp") is None:
        return Figure(value=0, unit="files/s", asked="≤ the CPU of a loop over `xrdcp`", met=False,
                      reference="not measured: XRootD is not installed (`make test-storages`)")  # fmt: skip
    server.start()
    try:
        with running(sites=SITES + XROOTD_SITE.format(root=server.root)) as system:
            files = _files(system, N_XROOTD)
            lasted_s, spent = _moved(system, "GRID", N_XROOTD)
            names = sorted(each for each in files.rglob("in.*"))[:N_STARTED]
            looped = _cpu_s(
                [["xrdcp", "-s", "-C", "adler32", str(each), f"{server.root}/loop/{each.name}"] for each in names]
            )
    finally:
        server.end()
        shutil.rmtree(scratch, ignore_errors=True)
    per_file, one_each = 1000 * sum(spent.values()) / N_XROOTD, 1000 * looped / len(names)
    return Figure(
        value=N_XROOTD / lasted_s,
        unit="files/s",
        cpu_ms_per_job=per_file,
        asked="≤ the CPU of a loop over `xrdcp`",
        met=per_file <= one_each,
        reference=f"CPU: {per_file / one_each:.2f} times that of an `xrdcp -C adler32` for each ({one_each:.0f} ms); "
        "the server's own is in neither",
        parts={name: 1000 * each / N_XROOTD for name, each in spent.items()},
    )


def _files(system: System, n: int) -> Path:
    """A dataset `bench:moved` on the storage of NORTH; the folder that has its files."""
    files = system.folder / "storage" / "north" / "bench"
    for k in range(min(n, 256)):
        (files / str(k)).mkdir(parents=True)
    for k in range(n):
        (files / str(k % 256) / f"in.{k}").write_bytes(CONTENT)
    with system.connect() as connection:
        made = connection.execute(DATASETS, {"did": "bench:moved"}).fetchone()
        assert made is not None
        what = {"size_bytes": len(CONTENT), "adler32": f"{zlib.adler32(CONTENT):08x}", "n": n}
        connection.execute(FILES, {"dataset_id": made[0]} | what)
        connection.execute("ANALYZE")
    return files


def _moved(system: System, site: str, n: int) -> tuple[float, dict[str, float]]:
    """Seconds, and CPU seconds by process, until all jobs that want these files at a site have them there."""
    inputs = {"IN": InputTemplate(dataset="bench:moved", files_per_job=PER_JOB)}
    template = Template(command=["true"], inputs=inputs)
    request = JobSetRequest(name="moved", template=template, defaults=DEFAULTS, brokerage=Brokerage(sites=[site]))
    line = Line(system, system.token)
    meter = Meter(system)
    line.submit(request)
    system.await_rows(READY, n // PER_JOB, every_s=0.1)
    read = meter.read()
    system.await_rows(DONE, n, every_s=0.1, within_s=30)
    return read


def _cpu_s(commands: Sequence[Sequence[str]]) -> float:
    """CPU seconds of these commands, one after another."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    for command in commands:
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
