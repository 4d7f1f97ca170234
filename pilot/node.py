"""What the machine has, for pilots that are not told what their slot is."""

from __future__ import annotations

import os
import shutil
import socket


def cores() -> int:
    """Cores that this process may use."""
    return max(1, len(os.sched_getaffinity(0)))


def memory_mb() -> int:
    """Memory of the machine (10^6 bytes)."""
    with open("/proc/meminfo", encoding="ascii") as meminfo:
        for line in meminfo:
            if line.startswith("MemTotal:"):
                return max(1, int(line.split()[1]) * 1024 // 10**6)
    return 1


def disk_mb(folder: str) -> int:
    """Free space where the work folder is (10^6 bytes)."""
    return max(1, shutil.disk_usage(folder).free // 10**6)


def name() -> str:
    """The machine's name, as far as it knows."""
    return socket.gethostname() or "unknown"
