"""Sandboxes and logs: bytes in `DATA/spool`, their sizes and hashes in the database.

The server chooses every path: a sandbox is named by the hash of its bytes, a log by PandaID, attempt and
a checked name. What the database says counts: a file without a row is debris of an upload that broke off,
and bytes beyond a log's `size_bytes` are overwritten by the next chunk.
"""

import contextlib
import errno
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol

from sqlalchemy.engine import Connection

from panda.db.session import Begin, asynchronous, rows, run
from panda.errors import Conflict, Invalid, NotFound, StaleLease, TooLarge, Unavailable
from panda.logs import Log as Logger
from panda.names import SHA256, checked

log = Logger("panda.spool")

BLOCK_BYTES = 1 << 18
#: Largest chunk of a log that one request may bring, or ask for.
MAX_CHUNK_BYTES = 4_000_000
#: A log grows no further than this.
MAX_LOG_BYTES = 200_000_000
#: What a disk says that is read-only, broken, gone or not ours, and a process that may open no more files. Anything
#: else (a client that went away) is no trouble of the spool.
OUR_TROUBLES = (errno.EROFS, errno.EIO, errno.ENODEV, errno.ENXIO, errno.ESTALE, errno.EACCES, errno.EPERM,
                errno.ENOTDIR, errno.EMFILE, errno.ENFILE)  # fmt: skip
#: Different logs of one attempt.
MAX_LOGS = 50

KNOWN = "SELECT size_bytes FROM spool_objects WHERE sha256 = %(sha256)s"
STORED = """
INSERT INTO spool_objects (sha256, size_bytes, owner, created_at)
VALUES (%(sha256)s, %(size_bytes)s, %(owner)s, panda_now()) ON CONFLICT (sha256) DO NOTHING
"""
LEASED = """
SELECT 1 FROM leases WHERE panda_id = %(panda_id)s AND attempt_nr = %(attempt_nr)s AND token_hash = %(token_hash)s
"""
LOCK_LOG = """
SELECT size_bytes FROM job_logs
WHERE panda_id = %(panda_id)s AND attempt_nr = %(attempt_nr)s AND name = %(name)s FOR UPDATE
"""
N_LOGS = "SELECT count(*) AS n FROM job_logs WHERE panda_id = %(panda_id)s AND attempt_nr = %(attempt_nr)s"
NEW_LOG = """
INSERT INTO job_logs (panda_id, attempt_nr, name, size_bytes, changed_at)
VALUES (%(panda_id)s, %(attempt_nr)s, %(name)s, 0, panda_now()) ON CONFLICT DO NOTHING
"""
GROWN = """
UPDATE job_logs SET size_bytes = %(size_bytes)s, changed_at = panda_now()
WHERE panda_id = %(panda_id)s AND attempt_nr = %(attempt_nr)s AND name = %(name)s
"""
NEWEST_LOG = """
SELECT attempt_nr, size_bytes FROM job_logs
WHERE panda_id = %(panda_id)s AND name = %(name)s AND attempt_nr = coalesce(%(attempt_nr)s, attempt_nr)
ORDER BY attempt_nr DESC LIMIT 1
"""
NEWEST_LOGS = """
SELECT panda_id, attempt_nr, name, size_bytes FROM job_logs ORDER BY panda_id DESC, attempt_nr, name LIMIT %(limit)s
"""

#: Whoever reads a log of a running job is taken to read on for so long.
WATCH_S = 60
WATCH = """
UPDATE job_logs SET watched_until = panda_now() + make_interval(secs => %(for_s)s)
WHERE panda_id = %(panda_id)s AND attempt_nr = %(attempt_nr)s AND name = %(name)s
    AND coalesce(watched_until, 'epoch') < panda_now() + make_interval(secs => %(for_s)s / 2)
    AND EXISTS (SELECT FROM leases l WHERE l.panda_id = %(panda_id)s OFFSET 0)
"""
IS_WATCHED = """
SELECT coalesce(watched_until > panda_now(), false) AS is_watched FROM job_logs
WHERE panda_id = %(panda_id)s AND attempt_nr = %(attempt_nr)s AND name = %(name)s
"""


class Readable(Protocol):
    """What an upload is read from; `read` answers b"" at the end."""

    def read(self, size: int, /) -> bytes: ...


class LogGap(Conflict):
    """A chunk that starts beyond the end of the log; the pilot goes on from `size_bytes`."""

    code = "log_gap"

    def __init__(self, size_bytes: int, offset: int) -> None:
        super().__init__(f"the log has {size_bytes} bytes; a chunk at {offset} would leave a gap")
        self.size_bytes = size_bytes


class HashMismatch(Invalid):
    """The bytes that came are not those that were announced. Nothing was kept."""

    code = "hash_mismatch"


class StorageFull(Unavailable):
    """The disk of the spool is full."""

    code = "storage_full"
    retry_after_s = 60


class SpoolDown(Unavailable):
    """The disk of the spool cannot be used: it is read-only, broken or gone. Nothing was kept."""

    code = "spool_down"
    retry_after_s = 60


class Stored(NamedTuple):
    """A sandbox. `is_new`: these bytes were not here before."""

    sha256: str
    size_bytes: int
    is_new: bool


class Log(NamedTuple):
    """A part of a log, and where it stands."""

    attempt_nr: int
    size_bytes: int
    offset: int
    content: bytes


class Spool:
    """The folder. Several processes, also on several machines that see it, may use it at once."""

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir / "spool"

    def put_sandbox(self, begin: Begin, sha256: str, content: Readable, *, owner: str, cap_bytes: int) -> Stored:
        """Store `content`, whose SHA-256 must be `sha256`; the same bytes again are no harm.

        Bytes, then row: each is on disk before the next exists.
        Raises:
            HashMismatch, Invalid: other bytes came; not a hash. TooLarge: more than `cap_bytes`.
            StorageFull, SpoolDown: no room; a disk that cannot be used.
        """
        path = self._sandbox(sha256)
        with _storing():
            path.parent.mkdir(parents=True, exist_ok=True)
            size_bytes = _receive(path, sha256, content, cap_bytes)
        with begin() as connection:
            values = {"sha256": sha256, "size_bytes": size_bytes, "owner": owner}
            return Stored(sha256, size_bytes, run(connection, STORED, values) == 1)

    def sandbox_size(self, connection: Connection, sha256: str) -> int:
        """Bytes of a sandbox. Raises NotFound, Invalid."""
        self._sandbox(sha256)
        found = rows(connection, KNOWN, {"sha256": sha256})
        if not found:
            raise NotFound("sandbox", sha256)
        size_bytes: int = found[0].size_bytes
        return size_bytes

    def open_sandbox(self, sha256: str) -> BinaryIO:
        """The bytes. Raises NotFound, Invalid."""
        try:
            with _storing():
                return self._sandbox(sha256).open("rb")
        except FileNotFoundError:
            raise NotFound("sandbox", sha256) from None

    def append_log(
        self,
        connection: Connection,
        panda_id: int,
        attempt_nr: int,
        name: str,
        *,
        token: str,
        offset: int,
        chunk: bytes,
    ) -> int:
        """Write `chunk` at byte `offset` of a log; returns the log's size then.

        A chunk that is here already, wholly or at its start, is not written again. The row is locked from
        the comparison to the end of the transaction, so two chunks never race for one place.
        Raises:
            StaleLease: `token` is not the lease of this attempt, or the attempt has ended.
            LogGap: bytes before `offset` are missing. TooLarge, Invalid, StorageFull, SpoolDown.
        """
        checked(name, "name")
        if len(chunk) > MAX_CHUNK_BYTES:
            raise TooLarge(f"a chunk of a log has at most {MAX_CHUNK_BYTES} bytes")
        if offset + len(chunk) > MAX_LOG_BYTES:
            raise TooLarge(f"a log has at most {MAX_LOG_BYTES} bytes")
        asynchronous(connection)
        key = {"panda_id": panda_id, "attempt_nr": attempt_nr}
        if not rows(connection, LEASED, {**key, "token_hash": hashlib.sha256(token.encode()).digest()}):
            raise StaleLease(panda_id, attempt_nr)
        size_bytes = _locked_size(connection, panda_id, attempt_nr, name)
        if offset > size_bytes:
            raise LogGap(size_bytes, offset)
        fresh = chunk[size_bytes - offset :]
        if not fresh:
            return size_bytes
        with _storing():
            _write_at(self._log(panda_id, attempt_nr, name), size_bytes, fresh)
        size_bytes += len(fresh)
        run(connection, GROWN, {**key, "name": name, "size_bytes": size_bytes})
        return size_bytes

    def read_log(
        self, connection: Connection, panda_id: int, name: str, *, attempt_nr: int | None, offset: int, limit: int
    ) -> Log:
        """At most `limit` bytes of a log from `offset` on; a negative offset counts from the end.

        Without an attempt: the newest one that has such a log.
        Raises:
            NotFound: there is no such log. SpoolDown.
        """
        checked(name, "name")
        found = rows(connection, NEWEST_LOG, {"panda_id": panda_id, "name": name, "attempt_nr": attempt_nr})
        if not found:
            raise NotFound(f"log of job {panda_id}", name)
        newest = found[0]
        run(
            connection, WATCH,
            {"panda_id": panda_id, "attempt_nr": newest.attempt_nr, "name": name, "for_s": float(WATCH_S)},
        )  # fmt: skip
        start = max(0, newest.size_bytes + offset) if offset < 0 else min(offset, newest.size_bytes)
        n_bytes = min(limit, MAX_CHUNK_BYTES, newest.size_bytes - start)
        with _storing():
            content = _read_at(self._log(panda_id, newest.attempt_nr, name), start, n_bytes)
        return Log(newest.attempt_nr, newest.size_bytes, start, content)

    def is_watched(self, connection: Connection, panda_id: int, attempt_nr: int, name: str) -> bool:
        """Somebody reads this log now, so its pilot should send it more often."""
        found = rows(connection, IS_WATCHED, {"panda_id": panda_id, "attempt_nr": attempt_nr, "name": name})
        return bool(found and found[0].is_watched)

    def short_logs(self, connection: Connection, limit: int = 20_000) -> list[dict[str, Any]]:
        """Of the newest logs, those that hold fewer bytes than their rows say (I17: no gaps), with `there`.

        Only the whole is compared: a chunk is taken where the last one ended, or not at all."""
        found = [row._asdict() for row in rows(connection, NEWEST_LOGS, {"limit": limit})]
        for each in found:
            path = self._log(each["panda_id"], each["attempt_nr"], each["name"])
            each["there"] = path.stat().st_size if path.exists() else 0
        return [each for each in found if each["there"] < each["size_bytes"]]

    def _sandbox(self, sha256: str) -> Path:
        if not SHA256.match(sha256):
            raise Invalid(f"{sha256[:70]!r} is no SHA-256 in lower-case hexadecimal", where="sha256")
        return self._folder / "sandboxes" / sha256[:2] / sha256

    def _log(self, panda_id: int, attempt_nr: int, name: str) -> Path:
        millions, thousands = panda_id // 1_000_000, panda_id // 1_000 % 1_000
        return self._folder / "logs" / f"{millions:06d}" / f"{thousands:03d}" / f"{panda_id}.{attempt_nr}.{name}"


def _receive(path: Path, sha256: str, content: Readable, cap_bytes: int) -> int:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".arriving-")
    try:
        digest, size_bytes = hashlib.sha256(), 0
        with os.fdopen(handle, "wb") as file:
            while block := content.read(BLOCK_BYTES):
                size_bytes += len(block)
                if size_bytes > cap_bytes:
                    raise TooLarge(f"an upload has at most {cap_bytes} bytes")
                digest.update(block)
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
        if digest.hexdigest() != sha256:
            raise HashMismatch(f"the bytes that came have SHA-256 {digest.hexdigest()}", where="sha256")
        os.rename(name, path)
        _sync_folder(path.parent)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise
    return size_bytes


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _locked_size(connection: Connection, panda_id: int, attempt_nr: int, name: str) -> int:
    """Bytes of the log, whose row is now locked and exists."""
    key = {"panda_id": panda_id, "attempt_nr": attempt_nr, "name": name}
    found = rows(connection, LOCK_LOG, key)
    if not found:
        if rows(connection, N_LOGS, key)[0].n >= MAX_LOGS:
            raise TooLarge(f"an attempt has at most {MAX_LOGS} logs")
        run(connection, NEW_LOG, key)
        found = rows(connection, LOCK_LOG, key)
    size_bytes: int = found[0].size_bytes
    return size_bytes


def _write_at(path: Path, offset: int, content: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        handle = os.open(path, flags, 0o640)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, flags, 0o640)
    try:
        written = 0
        while written < len(content):
            written += os.pwrite(handle, content[written:], offset + written)
    finally:
        os.close(handle)


def _read_at(path: Path, offset: int, n_bytes: int) -> bytes:
    if n_bytes <= 0:
        return b""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(n_bytes)
    except FileNotFoundError:
        return b""


@contextlib.contextmanager
def _storing() -> Iterator[None]:
    """Troubles of the disk get their name."""
    try:
        yield
    except OSError as problem:
        if problem.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull("the disk of the spool is full") from problem
        if problem.errno not in OUR_TROUBLES:
            raise
        log.error("the disk of the spool cannot be used", problem=repr(problem))
        raise SpoolDown(f"the disk of the spool cannot be used: {problem.strerror}") from problem
