"""The guard: a small process beside the pilot that ends the payloads when the pilot is gone.

It sleeps in a read of a pipe whose other end only the pilot holds. However the pilot ends, by
kill -9 too, the kernel closes that end; then the guard kills every process of the sessions that
the pilot had named, all that descend from them, and all that carry the pilot's mark in their
environment. It stands in a session of its own, so what is sent to the pilot's group misses it.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import struct
import sys
import time
from pathlib import Path
from typing import Dict, Iterable, List, Set

from pilot import processes

MARK = "PANDA_PILOT_MARK"
"""Name of the variable that every payload of a pilot carries."""

ROUNDS = 100
"""Attempts to catch processes that fork faster than they are killed."""

START = (
    "import os, sys; sys.dont_write_bytecode = True; sys.path.insert(0, os.environ.pop('PILOT_SOURCE'));"
    " from pilot.guard import main; main()"
)


SESSIONS = 4096
"""Sessions that the guard is told of; of more it finds the processes by their mark."""

ENTRY = struct.Struct("=q")


class Guard:
    """The pilot's side; for the loop's thread only.

    What runs stands in memory that both share: a pipe that said it would wake the guard twice for
    each job, which costs more than all else that is done for it.
    """

    def __init__(self, mark: str) -> None:
        self._mark = mark
        self._writer = -1
        self._memory = os.memfd_create("panda-guard", os.MFD_CLOEXEC)
        os.ftruncate(self._memory, SESSIONS * ENTRY.size)
        self._table = mmap.mmap(self._memory, SESSIONS * ENTRY.size)
        self._free = list(range(SESSIONS - 1, -1, -1))
        self._places: Dict[int, int] = {}
        self.pid = 0
        self.start()

    def start(self) -> None:
        """Start the process, also in the place of one that was killed."""
        if self._writer >= 0:
            os.close(self._writer)
        reader, self._writer = os.pipe2(os.O_CLOEXEC)
        nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            self.pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-I", "-S", "-c", START, self._mark],
                {"PILOT_SOURCE": str(Path(__file__).absolute().parents[1])},
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, reader, 0),
                    (os.POSIX_SPAWN_DUP2, self._memory, 1),
                    (os.POSIX_SPAWN_DUP2, nothing, 2),
                ],
                setsid=True,
                setsigmask=(),
            )
        finally:
            os.close(nothing)
            os.close(reader)

    def watch(self, session: int) -> None:
        """A payload started, or one of its processes opened a session."""
        if self._free and session not in self._places:
            place = self._places[session] = self._free.pop()
            ENTRY.pack_into(self._table, place * ENTRY.size, session)

    def release(self, sessions: Iterable[int]) -> None:
        """All processes of these sessions are gone."""
        for session in sessions:
            place = self._places.pop(session, None)
            if place is not None:
                ENTRY.pack_into(self._table, place * ENTRY.size, 0)
                self._free.append(place)

    def end(self) -> None:
        """The pilot leaves and has ended its payloads itself."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._writer, b"end")
        os.close(self._writer)
        self._writer = -1
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def main() -> None:
    """The guard's process."""
    # A batch system or systemd ends all processes of a job by SIGTERM: the guard goes after the pilot.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    os.chdir("/")
    if not os.read(0, 16):
        table = os.pread(1, SESSIONS * ENTRY.size, 0)
        kill_all(sys.argv[1], {session for (session,) in ENTRY.iter_unpack(table) if session})


def kill_all(mark: str, sessions: Set[int]) -> int:
    """Kill what a dead pilot left running. Returns how many processes that were."""
    n_killed = 0
    sessions = set(sessions)
    for _round in range(ROUNDS):
        table = processes.look_up(processes.pids())
        members = processes.family(table, marked(table, mark), sessions) - {os.getpid()}
        if not members:
            return n_killed
        sessions |= {table[pid].sid for pid in members}
        n_killed += len(members)
        # Stopped first, so that none forks while the others are being killed.
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in members:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, number)
        time.sleep(0.005)
    return n_killed


def marked(table: processes.Table, mark: str) -> List[int]:
    """Processes with this mark in their environment."""
    entry = f"{MARK}={mark}".encode()
    return [pid for pid in table if entry in processes.environment(pid)]
