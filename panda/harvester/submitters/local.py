"""Pilots as processes of this machine.

Each has a record (`DIR/pilots/<pilot_id>.json`: pid and start time of the process), so a harvester that
comes back after a crash finds the pilots of the one before it, and a recycled pid is never taken for one.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from panda.harvester.submitters.base import Order

#: Seconds that pilots are given to end their payloads when harvester stops.
GRACE_S = 15.0


def start_ticks(pid: int) -> int | None:
    """When a process was started, in clock ticks since boot; None: it is gone or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else int(fields[19])


class LocalSubmitter:
    """One process per pilot, each in a session of its own."""

    def __init__(self, data_dir: Path, api_url: str, idle_s: int) -> None:
        self._data_dir = data_dir
        self._records = data_dir / "pilots"
        self._records.mkdir(parents=True, exist_ok=True)
        self._api_url = api_url
        self._idle_s = idle_s
        self._children: dict[str, tuple[str, subprocess.Popen[bytes]]] = {}
        self._failures: Counter[str] = Counter()

    def submit(self, order: Order) -> None:
        """Start a pilot."""
        # One folder for all pilots: a new one clears up after those that died, and delivers what they left.
        work = self._records / "work"
        log = (self._data_dir / "log").joinpath(f"pilot-{order.queue}.log")
        log.parent.mkdir(exist_ok=True)
        command = [
            sys.executable, "-m", "pilot", "--url", self._api_url, "--queue", order.queue,
            "--pilot-id", order.pilot_id, "--token-file", str(self._data_dir / "pilot-token"),
            "--work", str(work), "--idle-s", str(self._idle_s), "--cores", str(order.cores),
            "--memory-mb", str(order.memory_mb), "--disk-mb", str(order.disk_mb),
            # This machine ends no slot; a job of the queue's whole wall time must fit for a while.
            "--walltime-s", str(2 * order.walltime_s + 3600), "--tags", ",".join(order.tags), *order.options,
        ]  # fmt: skip
        with log.open("ab") as out:
            child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True, cwd=self._records
            )
        record = {"queue": order.queue, "pid": child.pid, "start_ticks": start_ticks(child.pid)}
        self._record(order.pilot_id).write_text(json.dumps(record))
        self._children[order.pilot_id] = (order.queue, child)

    def alive(self, queue: str) -> int:
        """Pilots of `queue` that run, those of an earlier harvester included."""
        self._reap()
        return sum(1 for _pilot_id, of, _pid in self._living() if of == queue)

    def failures(self, queue: str) -> int:
        """Pilots of `queue` that left with an error in a row."""
        return self._failures[queue]

    def stop(self) -> None:
        """End every pilot; they end their payloads and report."""
        self._signal(signal.SIGTERM)
        until = time.monotonic() + GRACE_S
        while time.monotonic() < until:
            self._reap()
            if not self._living():
                return
            time.sleep(0.1)
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        for _pilot_id, _queue, pid in self._living():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _record(self, pilot_id: str) -> Path:
        return self._records / f"{pilot_id}.json"

    def _reap(self) -> None:
        for pilot_id, (queue, child) in list(self._children.items()):
            code = child.poll()
            if code is not None:
                self._failures[queue] = 0 if code == 0 else self._failures[queue] + 1
                del self._children[pilot_id]

    def _living(self) -> list[tuple[str, str, int]]:
        """(pilot id, queue, pid) of those that run; the records of the others are removed."""
        living = []
        for file in self._records.glob("*.json"):
            try:
                record = json.loads(file.read_text())
            except (OSError, ValueError):
                continue  # being written, or cut short by a crash: the next look decides
            if start_ticks(record["pid"]) == record["start_ticks"] is not None:
                living.append((file.stem, record["queue"], record["pid"]))
            elif file.stem not in self._children:
                file.unlink(missing_ok=True)
        return living
