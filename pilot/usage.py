"""What one payload uses: measured by the watchdog, told with each heartbeat, judged against its limits."""

from __future__ import annotations

from typing import Any, Collection, Dict, Optional

from pilot import processes

CPU_STEP_S = 0.1
"""A payload that used this much more CPU is not silent."""


class Usage:
    """Numbers of one attempt; None: not looked at yet. MB are 10^6 bytes."""

    def __init__(self) -> None:
        self.cpu_s: Optional[float] = None
        self.rss_mb: Optional[int] = None
        self.peak_rss_mb = 0
        self.disk_mb: Optional[int] = None
        self.members: Collection[int] = ()  #: pids of its processes, as last seen
        self.lively_at = 0.0  #: monotonic seconds of the last sign of life
        self._lively_bytes = 0
        self._lively_cpu_s = 0.0
        self._moved: Dict[int, processes.Moved] = {}

    def seen(self, members: Collection[int], cpu_s: float, rss_bytes: int) -> None:
        """The watchdog looked at its processes."""
        self.members = members
        # A process that ended without being waited for takes its time along: the sum never falls.
        self.cpu_s = max(self.cpu_s or 0.0, cpu_s)
        self.rss_mb = -(-rss_bytes // 10**6)
        self.peak_rss_mb = max(self.peak_rss_mb, self.rss_mb)

    def silent_s(self, now: float, output_bytes: int) -> float:
        """Seconds since it last wrote anything to its logs or used the processor."""
        cpu_s = self.cpu_s or 0.0
        if output_bytes != self._lively_bytes or cpu_s >= self._lively_cpu_s + CPU_STEP_S:
            self.lively_at, self._lively_bytes, self._lively_cpu_s = now, output_bytes, cpu_s
        return now - self.lively_at

    def sample(self, wall_s: float) -> Dict[str, Any]:
        """A point of its curves, as fields of a `Beat`."""
        for pid in self.members:
            moved = processes.moved_bytes(pid)
            if any(moved):
                self._moved[pid] = moved
        point: Dict[str, Any] = {
            "wall_s": round(wall_s, 1),
            "read_mb": sum(moved.read_bytes for moved in self._moved.values()) // 10**6,
            "written_mb": sum(moved.written_bytes for moved in self._moved.values()) // 10**6,
        }
        if self.rss_mb is not None:
            point["rss_mb"] = self.rss_mb
            point["n_processes"] = len(self.members)
        if self.disk_mb is not None:
            point["disk_mb"] = self.disk_mb
        return point
