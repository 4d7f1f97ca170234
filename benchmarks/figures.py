"""What is asked of each figure, and how what was measured is written down."""

import json
import platform
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from os import sched_getaffinity
from pathlib import Path
from typing import Any

from panda.local.postgres import binary


@dataclass(frozen=True)
class Figure:
    """One measured figure."""

    value: float
    unit: str
    asked: str
    met: bool
    cpu_ms_per_job: float | None = None
    """User and system time of every process, the load generator's included."""
    reference: str = ""
    """What stands beside it, measured in the same run where it can be."""
    parts: Mapping[str, float] = field(default_factory=dict)
    """CPU ms per job (or MB) by process, or the figures that the value was made from."""


Benchmark = Callable[[], Figure]

INTRODUCTION = """\
# Benchmarks

Written by `make bench` (`python -m benchmarks --only B2,B4` for some of them); nothing here is a test. Each
benchmark starts an installation of its own with the embedded stores. CPU is the user and system time of every
process of it, PostgreSQL's, Redis' and the load generator's included: on a machine that does other things too,
trust the CPU per job and the ratios more than the rates.

"""


def machine() -> dict[str, Any]:
    """Facts without which a figure means nothing."""
    memory_kb = int(Path("/proc/meminfo").read_text(encoding="ascii").split()[1])
    postgres = subprocess.run([binary("postgres"), "--version"], capture_output=True, text=True, check=True).stdout
    names = ("celery", "falcon", "granian", "kombu", "msgspec", "psycopg", "redis", "sqlalchemy")
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": len(sched_getaffinity(0)),
        "memory_gb": round(memory_kb * 1024 / 1e9, 1),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "postgres": postgres.split()[2],
        "versions": {name: version(name) for name in names},
    }


def write(figures: Mapping[str, Figure], facts: Mapping[str, Any], data: Path, page: Path) -> None:
    """Write `data` (JSON) and `page` (a table). Figures that were not measured now keep what stood there."""
    before = json.loads(data.read_text(encoding="utf-8")) if data.exists() else {}
    before.pop("machine", None)
    measured = {name: asdict(each) | {"date": facts["date"]} for name, each in figures.items()}
    merged = dict(sorted((before | measured).items()))
    data.write_text(json.dumps(merged | {"machine": facts}, indent=2) + "\n", encoding="utf-8")
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(INTRODUCTION + table(merged) + _machine_lines(facts), encoding="utf-8")


def table(figures: Mapping[str, Mapping[str, Any]]) -> str:
    """The figures as a table in Markdown."""
    heads = ("", "measured", "CPU ms per job or file", "asked", "met", "beside it", "when")
    lines = [f"| {' | '.join(heads)} |".replace("|  |", "| |"), "|---" * len(heads) + "|"]
    for name, each in figures.items():
        cpu = "" if each["cpu_ms_per_job"] is None else f"{each['cpu_ms_per_job']:.2f}"
        cells = (name, f"{_number(each['value'])} {each['unit']}", cpu, each["asked"])
        lines.append(
            "| " + " | ".join((*cells, "yes" if each["met"] else "no", each["reference"], each.get("date", ""))) + " |"
        )
    lines += [""]
    for name, each in figures.items():
        if each["parts"]:
            parts = ", ".join(f"{part} {_number(n)}" for part, n in sorted(each["parts"].items(), key=lambda p: -p[1]))
            lines.append(f"- {name}, by part: {parts}")
    return "\n".join(lines) + "\n"


def _number(value: float) -> str:
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 10 else f"{value:.0f}"


def _machine_lines(facts: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    return (
        f"\nLast measured {facts['date']} on {facts['cores']} cores, {facts['memory_gb']} GB; "
        f"Python {facts['python']}, PostgreSQL {facts['postgres']}, {versions}.\n"
    )


def percentile(values: list[float], percent: float) -> float:
    """The value that `percent` of `values` do not exceed."""
    return sorted(values)[min(len(values) - 1, int(len(values) * percent / 100))]
