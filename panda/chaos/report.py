"""What a run of the lab found: for people, for programs, and as a page of the documentation."""

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from panda.chaos import catalogue
from panda.chaos.faults import FAULTS
from panda.chaos.proof import Proof


@dataclass
class Report:
    """The figures of one run; times are seconds."""

    seed: int
    clocks: str
    """How the clocks of the processes stood to that of the machine."""
    load_s: float
    rest_s: float
    n_sets: int
    n_jobs: int
    n_ended_under_load: int
    by_status: dict[str, int]
    faults: dict[str, tuple[str, int]]
    skipped: dict[str, str]
    n_starts: int
    n_started: int
    calm: dict[str, float]
    all_in_all: dict[str, float]
    operations: dict[str, int]
    proof: Proof

    @property
    def holds(self) -> bool:
        return self.proof.holds

    @property
    def jobs_per_s(self) -> float:
        """Jobs that ended per second while faults were injected."""
        return self.n_ended_under_load / self.load_s if self.load_s else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON can hold it."""
        known = asdict(self)
        return {"holds": self.holds, "jobs_per_s": round(self.jobs_per_s, 1), **known}

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2, default=str)

    def text(self) -> str:
        """For a person."""
        proof = asdict(self.proof)
        found = [f"  {name.replace('_', ' ')}: {len(rows)}" for name, rows in proof.items()]
        lines = [
            f"seed {self.seed}: {'every promise held' if self.holds else 'A PROMISE WAS BROKEN'}",
            f"  clocks: {self.clocks}",
            f"  {self.load_s:.0f} s of load, {sum(n for _, n in self.faults.values())} faults of"
            f" {len(self.faults)} kinds; at rest {self.rest_s:.0f} s later",
            f"  {self.n_jobs} jobs accepted in {self.n_sets} sets, {self.jobs_per_s:.1f} jobs/s ended under faults",
            f"  by status: {', '.join(f'{n} {word}' for word, n in self.by_status.items())}",
            f"  payload starts: {self.n_starts} for {self.n_started} jobs"
            f" ({self.n_starts - self.n_started} started again because their pilot went silent or failed)",
            f"  from acceptance to the end: calm {_times(self.calm)}; all in all {_times(self.all_in_all)}",
            *found,
        ]
        lines += [f"  {name} x{n} ({number})" for name, (number, n) in sorted(self.faults.items())]
        lines += [f"  not done: {name}: {why}" for name, why in sorted(self.skipped.items())]
        lines += [f"  {name}: {json.dumps(rows[:5], default=str)}" for name, rows in proof.items() if rows]
        return "\n".join(lines)


def _times(times: dict[str, float]) -> str:
    median, most, longest = (times.get(name, 0.0) for name in ("p50", "p95", "longest"))
    return f"median {median:.1f} s, 95 % {most:.1f} s, longest {longest:.1f} s"


def page(runs: Sequence[dict[str, Any]]) -> str:
    """docs/reference/chaos.md from the reports of several runs (as `to_dict` gives them)."""
    lines = [
        "# What the fault lab found",
        "",
        f"Written by `panda chaos --page` on {datetime.now(UTC):%Y-%m-%d}, Linux {platform.release()}. A real"
        " installation runs under load while faults are injected from a seed; then it must come to rest, and",
        "the invariants, the ledger of every job set and what clients and pilots were told are compared.",
        "",
        "| seed | load s | faults | kinds | jobs accepted | jobs/s under faults | started again | at rest after s |"
        " median s calm | median s | 95 % s | lost | double finals | invariants broken | holds |",
        "|---" * 15 + "|",
    ]
    for run in runs:
        proof, n_faults = run["proof"], sum(n for _, n in run["faults"].values())
        lost = len(proof["lost_sets"]) + len(proof["lost_jobs"]) + len(proof["open_jobs"])
        lines.append(
            f"| {run['seed']} | {run['load_s']:.0f} | {n_faults} | {len(run['faults'])} | {run['n_jobs']} |"
            f" {run['jobs_per_s']:.1f} | {run['n_starts'] - run['n_started']} | {run['rest_s']:.0f} |"
            f" {run['calm'].get('p50', 0):.1f} | {run['all_in_all'].get('p50', 0):.1f} |"
            f" {run['all_in_all'].get('p95', 0):.1f} | {lost} | {len(proof['double_finals'])} |"
            f" {len(proof['invariants'])} | {'yes' if run['holds'] else 'NO'} |"
        )
    lines += ["", "## What can go wrong, and where it is tried", "", *catalogue.lines(FAULTS)]
    names = sorted({(number, name) for run in runs for name, (number, _) in run["faults"].items()}, key=_by_number)
    lines += ["", "## Faults injected", "", "| fault | what | " + " | ".join(f"seed {r['seed']}" for r in runs) + " |",
              "|---" * (2 + len(runs)) + "|"]  # fmt: skip
    for number, name in names:
        counts = " | ".join(str(run["faults"].get(name, ("", 0))[1]) for run in runs)
        lines.append(f"| {number} | {name} | {counts} |")
    return "\n".join(lines) + "\n"


def _by_number(named: tuple[str, str]) -> tuple[int, str]:
    return int(named[0].removeprefix("F")), named[1]
