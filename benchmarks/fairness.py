"""`python -m benchmarks.fairness`: whether a simulated fleet of fifty queues keeps to 60/30/10, written into the docs.

The figures are the pilots' own: what each of them runs, once a second, while the fleet is full. They
go between two marks of docs/explanation/shares.md, with the machine that they come from.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.figures import machine, percentile
from benchmarks.system import ROOT, running
from panda.simulation.books import Sample
from panda.simulation.fleet import Plan, play
from panda.simulation.fleetfile import Fleet, load_file
from panda.simulation.report import Report, deviation

FOLDER = ROOT / "examples" / "fleet"
PAGE = ROOT / "docs" / "explanation" / "shares.md"
BEGIN, END = "<!-- made by `make fairness` -->\n", "<!-- until here -->\n"
PARTS = {"production": 0.6, "analysis": 0.3, "default": 0.1}
#: The fleet is full, and its shares are looked at, when this part of its cores runs something.
FULL = 0.95


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fairness", description=__doc__)
    parser.add_argument("--jobs", type=int, default=20_000, help="jobs that end (20000)")
    parser.add_argument("--seconds", type=float, default=3_600, help="at most so long")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2, help="processes that hand out jobs (2)")
    parser.add_argument("--dry", action="store_true", help="print, and leave the page as it is")
    asked = parser.parse_args()
    fleet = load_file(FOLDER / "fair.toml")
    sites, shares = ((FOLDER / name).read_text(encoding="utf-8") for name in ("sites.toml", "shares.toml"))
    with running(sites=sites, shares=shares, environ={"PANDA_API_WORKERS": str(asked.workers)}) as system:
        plan = Plan(
            fleet, system.api, system.pilot_token, system.token, seed=asked.seed, seconds=asked.seconds, jobs=asked.jobs
        )
        report = play(plan, lambda line: print(line, file=sys.stderr))
    found = figures(report, n_cores(fleet, report))
    told = section(report, found, asked.workers, machine())
    print(told)
    if not asked.dry:
        page = PAGE.read_text(encoding="utf-8")
        before, after = page.split(BEGIN)[0], page.split(END)[1]
        PAGE.write_text(before + BEGIN + told + END + after, encoding="utf-8")
    return 0


def n_cores(fleet: Fleet, report: Report) -> int:
    """Cores of all pilots; each of a group's queues has as many."""
    slots = sum(group.pilots * group.slots * (group.cores or 1) for group in fleet.groups)
    return slots * report.n_queues


def full(samples: Sequence[Sample], cores: int) -> list[Sample]:
    """The moments at which the fleet is full. While cores stand free, because the machine is too slow for the fleet,
    whoever has the longest jobs has too many of those that run, whatever dispatch does."""
    return [sample for sample in samples if sum(sample.cores.values()) >= FULL * cores]


def figures(report: Report, cores: int) -> dict[str, float]:
    """How far the running cores were from `PARTS`, in parts of the cores that ran at that moment."""
    samples = full(report.samples, cores)
    off = [deviation(sample, PARTS) for sample in samples] or [1.0]
    return {
        "n_samples": len(samples), "n_left_out": len(report.samples) - len(samples), "n_cores": cores,
        "mean": sum(off) / len(off), "p99": percentile(off, 99), "most": max(off), "last": off[-1],
        **{share: sum(sample.cores.get(share, 0) / sum(sample.cores.values()) for sample in samples) / len(off)
           for share in PARTS},
    }  # fmt: skip


def section(report: Report, found: Mapping[str, float], n_workers: int, facts: Mapping[str, Any]) -> str:
    """A paragraph and a table in Markdown."""
    heads = [f"{share}, {part:.0%}" for share, part in PARTS.items()]
    heads += ["off on average", "off 99 % of the time, at most", "at worst", "at the end"]
    cells = [f"{found[name]:.2%}" for name in (*PARTS, "mean", "p99", "most", "last")]
    lines = [
        f"A simulated fleet ([how](../how-to/simulate-a-fleet.md)): {found['n_cores']:,.0f} cores at {report.n_queues}"
        f" queues, {n_workers} dispatchers, jobs of 24, 12 and 6 s on",
        f"average, more of each share than there is room for; {report.n_ended:,} jobs, {report.jobs_per_s:.0f} per"
        f" second, looked at {found['n_samples']:,.0f} times while",
        f"at least 95 % of the cores ran something ({found['n_left_out']:,.0f} looks are left out). Off means: the"
        " share that is furthest from its",
        "part, in parts of all running cores.",
        "",
        f"| {' | '.join(heads)} |",
        "|---" * len(heads) + "|",
        f"| {' | '.join(cells)} |",
        "",
        f"Measured {facts['date'][:10]} by `make fairness` on {facts['cores']} cores, Python {facts['python']},"
        f" PostgreSQL {facts['postgres']}.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
