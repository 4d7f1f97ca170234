"""What processes cost: CPU seconds and memory of whole families, read from /proc.

The kernel adds the times of a child that ended to its parent once that has waited for it, so the sum
over a family that lives only grows: nothing that a short-lived child did is lost.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the third on; empty when there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def families(leaders: Mapping[str, int]) -> dict[str, list[int]]:
    """Each leader with all that descends from it, but without another leader's family."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        fields = _stat(int(entry)) if entry.isdigit() else []
        if fields:
            children.setdefault(int(fields[1]), []).append(int(entry))
    known = set(leaders.values())
    found: dict[str, list[int]] = {}
    for name, leader in leaders.items():
        members = found[name] = [leader]
        for pid in members:  # grows while it is walked through
            members += [child for child in children.get(pid, []) if child not in known]
    return found


def cpu_s(pids: Iterable[int]) -> float:
    """User and system seconds of these processes and of the children that they waited for."""
    return sum(sum(int(ticks) for ticks in _stat(pid)[11:15]) for pid in pids) / TICKS


def own_mb(pid: int) -> float:
    """Memory in MB (10^6 bytes) that is the process' alone: it does not change because another one comes or goes."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) * 1024 / 1e6


def pss_mb(pids: Iterable[int]) -> float:
    """Memory in MB (10^6 bytes); a page that n processes share counts 1/n in each of them."""
    total_kb = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
        except OSError:
            continue
        total_kb += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total_kb * 1024 / 1e6
