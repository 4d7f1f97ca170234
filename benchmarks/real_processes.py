"""B3: `/bin/true` through pilot.pyz and the whole server, beside the best of three peers from PyPI in the same run."""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks.figures import Figure
from benchmarks.load import DEFAULTS, Line
from benchmarks.system import Meter, System, running
from panda.jobs.specs import Brokerage, JobSetRequest, JobSpec
from panda.local.redis import binary as redis_server
from pilot import build

N_JOBS = int(os.environ.get("B3_JOBS", "5000"))
N_SLOTS = 2
WARM_JOBS = 200
#: Jobs that the pilot holds ahead.
BULK = 100
#: What each peer is on PyPI, and the words that its script needs.
PEERS = {"dramatiq": "dramatiq[redis]", "parsl": "parsl", "hyperqueue": "hyperqueue"}
PEER_S = 300.0
RUNNER = Path(__file__).parent / "peers" / "measured.py"


class Cost(NamedTuple):
    """Jobs per second; CPU ms per job of all processes, the jobs' own included."""

    rate: float
    cpu_ms: float


def through_the_pilot() -> Figure:
    """B3: from submission until the last job is archived."""
    ours, parts = _ours()
    peers, skipped = _peers()
    best = max(peers, key=lambda name: peers[name].rate, default=None)
    told = [f"{name}: {cost.rate:.0f} jobs/s, {cost.cpu_ms:.1f} ms" for name, cost in peers.items()]
    if best:
        told.append(f"{ours.rate / peers[best].rate:.2f} times the best ({best})")
    return Figure(
        value=ours.rate,
        unit="jobs/s",
        cpu_ms_per_job=ours.cpu_ms,
        asked="≥ 1.5 times the best of Dramatiq, Parsl and HyperQueue, and ≤ 2.2 ms",
        met=bool(best) and ours.rate >= 1.5 * peers[best].rate and ours.cpu_ms <= 2.2,
        reference="; ".join(told + skipped),
        parts=parts,
    )


def _ours() -> tuple[Cost, dict[str, float]]:
    with running() as system, tempfile.TemporaryDirectory(prefix="panda-bench-") as name:
        folder = Path(name)
        build.build(folder / "pilot.pyz")
        _through(system, folder, WARM_JOBS)
        meter, children_s = Meter(system), _children_s()
        began = time.monotonic()
        _through(system, folder, N_JOBS)
        system.await_rows("SELECT count(*) FROM job_due", 0, every_s=0.05)
        lasted_s = time.monotonic() - began
        _, spent = meter.read()
        spent["pilot and payloads"] = _children_s() - children_s
        spent["load"] -= spent["pilot and payloads"]  # a child's time is added to its parent's
    per_job = {name: 1000 * each / N_JOBS for name, each in spent.items()}
    return Cost(N_JOBS / lasted_s, sum(per_job.values())), per_job


def _through(system: System, folder: Path, n_jobs: int) -> None:
    """Submit to one queue, and have a pilot for each slot run them, as peers have a process for each.

    While the kernel starts a process, the pilot that asked for it does nothing else: one pilot of two slots leaves a
    part of two cores idle."""
    line = Line(system, system.token)
    for start in range(0, n_jobs, 1000):
        jobs = [JobSpec(command=["/bin/true"])] * min(1000, n_jobs - start)
        line.submit(JobSetRequest(name="true", jobs=jobs, defaults=DEFAULTS, brokerage=Brokerage(sites=["NORTH"])))
    (folder / "token").write_text(system.pilot_token)
    pilots = [_pilot(system, folder, f"work{slot}", n_jobs // N_SLOTS) for slot in range(N_SLOTS)]
    for pilot in pilots:
        _, said = pilot.communicate()
        if pilot.returncode:
            raise RuntimeError(f"a pilot left with code {pilot.returncode}: {said}")


def _pilot(system: System, folder: Path, work: str, n_jobs: int) -> subprocess.Popen[str]:
    words = [
        *(sys.executable, "-I", "-S", str(folder / "pilot.pyz"), "--url", system.api, "--queue", "NORTH-Q"),
        *("--token-file", str(folder / "token"), "--work", str(folder / work), "--cores", "1"),
        *("--memory-mb", "50000", "--disk-mb", "50000", "--bulk", str(BULK), "--max-jobs", str(n_jobs)),
    ]
    return subprocess.Popen(words, stderr=subprocess.PIPE, text=True)


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _peers() -> tuple[dict[str, Cost], list[str]]:
    """What the peers reach; and why one is left out."""
    measured: dict[str, Cost] = {}
    skipped: list[str] = []
    with tempfile.TemporaryDirectory(prefix="panda-peers-") as name:
        for peer, requirement in PEERS.items():
            folder = Path(name) / peer
            try:
                measured[peer] = _peer(folder, peer, requirement)
            except (subprocess.SubprocessError, OSError, ValueError) as problem:
                said = getattr(problem, "stderr", None) or str(problem)
                skipped.append(f"{peer} left out: {said.strip().splitlines()[-1][:200] if said.strip() else problem}")
    return measured, skipped


def _peer(folder: Path, peer: str, requirement: str) -> Cost:
    """Install it from PyPI into an environment of its own, and run it."""
    venv.create(folder, with_pip=True)
    python = str(folder / "bin" / "python")
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", requirement]
    subprocess.run(pip, check=True, capture_output=True, text=True, timeout=PEER_S)
    more = [str(redis_server())] if peer == "dramatiq" else []
    environ = {**os.environ, "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    with _quiet(folder) as place:
        done = subprocess.run(
            [python, str(RUNNER), peer, str(N_JOBS), str(N_SLOTS), str(place), *more],
            check=True, capture_output=True, text=True, timeout=PEER_S, env=environ,
        )  # fmt: skip
    answer = json.loads(done.stdout.splitlines()[-1])
    return Cost(answer["rate"], answer["cpu_ms"])


@contextmanager
def _quiet(folder: Path) -> Iterator[Path]:
    """A folder for whatever a peer writes."""
    place = folder / "place"
    place.mkdir()
    yield place
