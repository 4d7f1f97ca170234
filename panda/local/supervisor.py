"""The supervisor: starts processes, starts those again that die, ends them in order.

It is one loop in one thread, and that thread must be the main one: the kernel ends the children
when the thread that started them is gone (`processes.spawn`).
"""

import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import FrameType

from panda.errors import PandaError, Unavailable
from panda.local.installation import Installation
from panda.local.processes import Known, end_group, group_members, start_ticks, tail
from panda.logs import Log

log = Log("panda.local")

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 10.0
"""Before a process that died is started again; doubles with every death in a row."""
LONG_LIFE_S = 30.0
"""A process that lived this long starts again at once."""
MAX_DEATHS = 5
"""A process that dies this often before the system is ready makes `panda up` fail."""
SETTLED_S, SETTLED_AGAIN_S = 1.5, 5.0
"""A process counts as started when it has lived this long; longer when it died before."""
TICK_S = 0.1

Ladder = Sequence[tuple[int, float]]
WORKER: Ladder = ((signal.SIGTERM, 25.0), (signal.SIGKILL, 5.0))
OTHER: Ladder = ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0))


class NeverStarted(Unavailable):
    """A process dies again and again before the system is ready."""

    code = "never_started"

    def __init__(self, name: str, code: int, last_lines: str) -> None:
        super().__init__(f"{name} ended {MAX_DEATHS} times, last with code {code}; the end of its log:\n{last_lines}")
        self.name = name


class Supervised:
    """One process that shall run.

    Args:
        name: of its log and its record.
        launch: starts it and returns at once.
        ladder: signals that end it, with the seconds to wait after each.
        mend: called before a start when it died three times in a row.
    """

    def __init__(
        self,
        name: str,
        launch: Callable[[], subprocess.Popen[bytes]],
        ladder: Ladder,
        *,
        mend: Callable[[], None] | None = None,
    ) -> None:
        self.name, self.ladder = name, ladder
        self.n_deaths = 0
        self.last_code = 0
        self._launch, self._mend = launch, mend
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = self._next_start_at = 0.0
        self._in_a_row = 0

    @property
    def is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def is_settled(self) -> bool:
        """Whether it lives, and not only for the moment before it dies."""
        lived_s = time.monotonic() - self._started_at
        return self.is_alive and lived_s >= (SETTLED_AGAIN_S if self.n_deaths else SETTLED_S)

    def start(self, installation: Installation) -> None:
        """Start it and write down who it is."""
        self._started_at = time.monotonic()
        self._process = self._launch()
        known = Known.of(self._process.pid)
        if known is not None:
            known.write(installation.record(self.name), ladder=list(self.ladder))

    def look(self, installation: Installation) -> None:
        """Notice its death, or start it again when the pause after that is over."""
        if self.is_alive:
            return
        if self._process is not None:
            self._bury(self._process)
        elif time.monotonic() >= self._next_start_at:
            try:
                if self._mend is not None and self._in_a_row >= 3:
                    self._mend()
                self.start(installation)
                log.info("process started again", name=self.name)
            except (PandaError, OSError) as problem:
                log.error("process does not start", name=self.name, why=problem)
                self._pause()

    def end(self) -> None:
        """End it and those of its group."""
        if self._process is not None:
            if self._process.poll() is None:
                log.info("process is asked to end", name=self.name, pid=self._process.pid)
                end_group(self._process.pid, self.ladder)
            self._process.wait()
            self._process = None

    def _bury(self, dead: subprocess.Popen[bytes]) -> None:
        if start_ticks(dead.pid) is None and group_members(dead.pid):
            end_group(dead.pid, ((signal.SIGKILL, 5.0),))  # its own children would hold its port
        self.last_code = dead.returncode
        self._process = None
        if time.monotonic() - self._started_at >= LONG_LIFE_S:
            self._in_a_row = 0
        self._pause()
        log.warning("process died", name=self.name, pid=dead.pid, code=dead.returncode, deaths=self.n_deaths)

    def _pause(self) -> None:
        pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**self._in_a_row)
        self._next_start_at = time.monotonic() + pause_s
        self._in_a_row += 1
        self.n_deaths += 1


class Supervisor:
    """Keeps a list of processes running until it is told to end them.

    Args:
        installation: where records and logs go; held by the caller.
    """

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self._waves: list[list[Supervised]] = []
        self.is_asked_to_end = False

    def take_signals(self) -> None:
        """From now on SIGTERM, SIGINT and SIGHUP ask us to end, once and politely."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._ask_to_end)

    def start(self, wave: list[Supervised]) -> None:
        """Start processes that may end together. Waves end in the reverse order of their start."""
        self._waves.append(wave)
        for each in wave:
            each.start(self._installation)
            log.info("process started", name=each.name)

    def until(self, is_so: Callable[[], bool], within_s: float) -> bool:
        """Keep everything running until `is_so`; False when the time is up or we are asked to end.

        Raises:
            NeverStarted: a process died too often meanwhile.
        """
        deadline = time.monotonic() + within_s
        while not self.is_asked_to_end and time.monotonic() < deadline:
            self._look()
            for each in self._all():
                if each.n_deaths >= MAX_DEATHS:
                    last_lines = tail(self._installation.log(each.name))
                    raise NeverStarted(each.name, each.last_code, last_lines)
            if all(each.is_alive for each in self._all()) and is_so():
                return True
            time.sleep(TICK_S)
        return False

    @property
    def is_settled(self) -> bool:
        """Whether everything started and stays."""
        return all(each.is_settled for each in self._all())

    def watch(self) -> None:
        """Keep everything running until we are asked to end."""
        while not self.is_asked_to_end:
            self._look()
            time.sleep(TICK_S)

    def end(self) -> None:
        """End everything, the last wave first; those of a wave are told in reverse order, and waited for
        together."""
        for wave in reversed(self._waves):
            with ThreadPoolExecutor(max_workers=max(1, len(wave))) as threads:
                list(threads.map(Supervised.end, reversed(wave)))
            for each in wave:
                self._installation.record(each.name).unlink(missing_ok=True)
        self._waves.clear()

    def _all(self) -> list[Supervised]:
        return [each for wave in self._waves for each in wave]

    def _look(self) -> None:
        for each in self._all():
            each.look(self._installation)

    def _ask_to_end(self, number: int, frame: FrameType | None) -> None:
        self.is_asked_to_end = True
