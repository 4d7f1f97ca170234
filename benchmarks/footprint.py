"""B7, B9: what an idle system keeps in memory, and how long the command line takes to start."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from benchmarks.figures import Figure
from benchmarks.system import running

IDLE_S = 20.0
N_STARTS = 10


def memory() -> Figure:
    """B7: PSS of every process of an idle `panda up`, database and Redis included."""
    with running() as system:
        time.sleep(IDLE_S)
        by_process = system.pss_mb()
    total = sum(by_process.values())
    return Figure(value=total, unit="MB", asked="≤ 800 MB", met=total <= 800, parts=by_process)


def starts() -> Figure:
    """B9: the median time of whole processes, from their start to their end."""
    bare = _median_ms(["-c", "pass"])
    client = _median_ms(["-c", "import panda.client"])
    help_page = _median_ms([str(Path(sys.executable).with_name("panda")), "--help"])
    return Figure(
        value=help_page,
        unit="ms (panda --help)",
        asked="≤ 250 ms; import of panda.client ≤ 150 ms",
        met=help_page <= 250 and client <= 150,
        reference=f"import panda.client: {client:.0f} ms; bare Python: {bare:.0f} ms (in both)",
    )


def _median_ms(words: Sequence[str]) -> float:
    taken = []
    for _ in range(N_STARTS):
        began = time.monotonic()
        subprocess.run([sys.executable, *words], stdout=subprocess.DEVNULL, check=True, cwd=os.path.dirname(__file__))
        taken.append(1000 * (time.monotonic() - began))
    return median(taken)
