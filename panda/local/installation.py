"""The data folder of an installation: who holds it, what runs in it, where things lie.

DIR/postgres/ DIR/redis/   the embedded stores
DIR/log/NAME.log           output of each process
DIR/run/NAME.json          pid and start time of each process; `supervisor.json` also says where it listens
DIR/run/lock               held by the supervisor while it lives
DIR/token                  the admin's token
"""

import fcntl
import json
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from panda.errors import ConfigError, Conflict
from panda.local.processes import Known, end_group, group_members, start_ticks

SUPERVISOR = "supervisor"
LEFTOVER_S = 5.0
"""A process that lost its supervisor was told by the kernel already; it gets this long per signal."""
LEFTOVER: Sequence[tuple[int, float]] = ((signal.SIGTERM, LEFTOVER_S), (signal.SIGKILL, LEFTOVER_S))


class Installation:
    """One data folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.run = self.folder / "run"
        self.logs = self.folder / "log"
        self.token_file = self.folder / "token"

    def make(self) -> None:
        """Make the folders, for us alone.

        Raises:
            ConfigError: we may not write there.
        """
        try:
            for folder in (self.folder, self.run, self.logs):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as problem:
            raise ConfigError(f"cannot keep anything in {self.folder}: {problem}") from problem

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder; the kernel lets go of it when we are gone, however that happens.

        Raises:
            Conflict: another supervisor holds it.
        """
        with (self.run / "lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = Known.read(self.record(SUPERVISOR))
                who = f"process {holder.pid}" if holder else "another process"
                raise Conflict(f"{who} runs a system in {self.folder}; end it with: panda down") from None
            yield

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def record(self, name: str) -> Path:
        return self.run / f"{name}.json"

    def supervisor(self) -> Known | None:
        """The supervisor that runs here."""
        known = Known.read(self.record(SUPERVISOR))
        return known if known is not None and known.is_alive() else None

    def facts(self) -> dict[str, Any]:
        """What the supervisor wrote down about itself; empty when none ever did."""
        try:
            found = json.loads(self.record(SUPERVISOR).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def running(self) -> dict[str, Known]:
        """The recorded processes that live, the supervisor aside."""
        found = {file.stem: Known.read(file) for file in sorted(self.run.glob("*.json"))}
        return {
            name: known
            for name, known in found.items()
            if name != SUPERVISOR and known is not None and known.is_alive()
        }

    def end_leftovers(self) -> list[str]:
        """End what a supervisor that was killed left behind. The caller holds the folder.

        Returns: the names of the processes that still lived."""
        records = sorted(self.run.glob("*.json"))
        left = {
            file: known
            for file in records
            if file.stem != SUPERVISOR and (known := Known.read(file)) is not None and self._is_ours(known)
        }
        with ThreadPoolExecutor(max_workers=16) as threads:
            list(threads.map(lambda file: end_group(left[file].pid, _ladder(file)), left))
        for file in records:
            file.unlink()
        return [file.stem for file in left]

    def _is_ours(self, known: Known) -> bool:
        """Whether the recorded process lives, or others of its group do.

        A number is not given out again while a group bears it; that the group is not a stranger's
        who came after the last of ours, its environment tells."""
        if known.is_alive():
            return True
        if not known.is_of_this_boot() or start_ticks(known.pid) is not None:
            return False
        return any(self._is_named_by(pid) for pid in group_members(known.pid))

    def _is_named_by(self, pid: int) -> bool:
        try:
            environ = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            return False
        return b"PANDA_DATA_DIR=" + os.fsencode(self.folder) in environ.split(b"\0")


def _ladder(file: Path) -> Sequence[tuple[int, float]]:
    """How this process wants to be ended, as its record says."""
    try:
        steps = json.loads(file.read_text(encoding="utf-8"))["ladder"]
        return [(int(number), min(float(wait_s), LEFTOVER_S)) for number, wait_s in steps]
    except (OSError, ValueError, KeyError, TypeError):
        return LEFTOVER
