"""Processes of this machine: start one, know it again, end it and its group.

A pid alone says nothing: numbers are used again. A process is known by its pid, the moment it
started (`/proc/<pid>/stat`, in ticks since boot) and the boot. Every child leads a process group
of its own, so that what it started ends with it.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

SHIM = Path(__file__).with_name("shim.py")
LOG_BYTES = 10_000_000
"""A log larger than this is set aside, as `.1`, when its process starts."""


@dataclass(frozen=True)
class Known:
    """A process that can be told from a later one with the same pid."""

    pid: int
    started: int  #: ticks between boot and its start
    boot: str  #: this boot's id

    @classmethod
    def of(cls, pid: int) -> Self | None:
        """The process `pid` as it is now; None when there is none."""
        started = start_ticks(pid)
        return None if started is None else cls(pid, started, boot_id())

    @classmethod
    def read(cls, file: Path) -> Self | None:
        """What `write` left; None when there is nothing readable."""
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
            return cls(int(record["pid"]), int(record["started"]), str(record["boot"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, file: Path, **facts: object) -> None:
        """Record it, whole or not at all."""
        half = file.with_suffix(".half")
        half.touch(0o600)
        half.write_text(json.dumps(asdict(self) | facts), encoding="utf-8")
        half.replace(file)

    def is_alive(self) -> bool:
        return self.is_of_this_boot() and start_ticks(self.pid) == self.started

    def is_of_this_boot(self) -> bool:
        return self.boot == boot_id()


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _stat(pid: int | str) -> list[str] | None:
    """Fields of /proc/<pid>/stat from the third on; None for no process, or one that is only waited for."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    rest = text.rpartition(")")[2].split()
    return None if rest[0] in "ZX" else rest


def start_ticks(pid: int) -> int | None:
    """Ticks between boot and the start of `pid`; None when no such process runs."""
    found = _stat(pid)
    return None if found is None else int(found[19])


def group_members(group: int) -> list[int]:
    """Pids that run in process group `group`."""
    pids = (int(entry) for entry in os.listdir("/proc") if entry.isdigit())
    return [pid for pid in pids if (found := _stat(pid)) is not None and int(found[2]) == group]


def command_line(pid: int) -> list[str]:
    """Its arguments; empty when there is no such process."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    except OSError:
        return []


def spawn(
    program: Sequence[str | Path],
    log: Path,
    *,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
    dies_by: int = signal.SIGTERM,
    identity: str = "same",
) -> subprocess.Popen[bytes]:
    """Start `program` in a group of its own, its output appended to `log`.

    It gets the signal `dies_by` when we are gone. The kernel ties that to the *thread* that
    starts it, so it is only asked for in the main thread; records find the others.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > LOG_BYTES:
        log.replace(log.with_name(log.name + ".1"))
    parent = os.getpid() if threading.current_thread() is threading.main_thread() else 0
    with log.open("ab") as output:
        return subprocess.Popen(
            shimmed(program, identity=identity, parent=parent, dies_by=dies_by),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environ,
            cwd=folder,
            start_new_session=True,
        )


def shimmed(
    program: Sequence[str | Path],
    *,
    identity: str = "same",
    parent: int = 0,
    dies_by: int = 0,
    reach: str = "",
) -> list[str]:
    """The command that becomes `program` by way of `shim.py`."""
    how = [str(parent), str(int(dies_by)), identity, reach]
    return [sys.executable, "-I", "-S", str(SHIM), *how, *map(str, program)]


def end_group(group: int, ladder: Sequence[tuple[int, float]]) -> None:
    """End process group `group`: each signal of `ladder` in turn, with the seconds to wait after it.

    The signal goes to the leader, who looks after its own; the last one goes to whoever is left.
    """
    for step, (number, wait_s) in enumerate(ladder):
        with suppress(ProcessLookupError):
            if step + 1 == len(ladder) or start_ticks(group) is None:
                os.killpg(group, number)
            else:
                os.kill(group, number)
        if wait_until(lambda: is_gone(group), wait_s):
            return


def is_gone(group: int) -> bool:
    """Whether neither the leader nor anybody else of the group runs."""
    return start_ticks(group) is None and not group_members(group)


def wait_until(is_so: Callable[[], bool], wait_s: float, every_s: float = 0.03) -> bool:
    """Whether `is_so` came true within `wait_s`."""
    deadline = time.monotonic() + wait_s
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(every_s)
    return True


def tail(log: Path, n_lines: int = 20) -> str:
    """The last lines of a log."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 16_384))
            return b"\n".join(file.read().splitlines()[-n_lines:]).decode(errors="replace")
    except OSError:
        return ""
