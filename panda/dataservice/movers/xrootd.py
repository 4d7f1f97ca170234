"""Storages that speak XRootD. `root` is `root://host[:port]//folder` (`roots://` with TLS).

The bytes never pass through us between two such storages where the servers copy among themselves (third-party
copy). XRootD's client asks both whether they do; they meet by a key that it makes for this one file, so no credential
is lent. Checksums (adler32) are asked of the server, and read back from one that keeps none.
"""

import errno
import io
import time
import uuid
import zlib
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, BinaryIO, Literal, cast
from urllib.parse import parse_qs, urlsplit

from panda.dataservice.movers import refusals
from panda.dataservice.movers.base import Content, Place, Space, Stream, Tick, WrongContent
from panda.dataservice.movers.listing import Entry, path_in, walked
from panda.errors import ConfigError, TooLarge

BLOCK_BYTES = 1 << 20
TIMEOUT_S = 60
#: Seconds in which a copy may go on without a byte more.
STALL_S = 300.0
_NO_SUCH_FILE = 3011
_NO_SPACE = 3009
_UNSUPPORTED = 3013


class XrootdMover:
    """The contracts of `Mover` and `Listing` over XRootD's own client. Needs `pip install panda-wms[xrootd]`."""

    #: The protocol lists names line by line, and one may have a line break in it.
    names_are_exact = False

    def write(self, place: Place, stream: Stream, cap_bytes: int, tick: Tick) -> Content:
        arriving = _neighbour(place)
        size_bytes, adler32 = 0, 1
        try:
            with _File(arriving, writes=True) as file:
                while block := stream.read(BLOCK_BYTES):
                    if size_bytes + len(block) > cap_bytes:
                        raise TooLarge(f"the file is larger than {cap_bytes} bytes")
                    file.write(block, size_bytes)
                    size_bytes += len(block)
                    adler32 = zlib.adler32(block, adler32)
                    tick()
            content = Content(size_bytes, f"{adler32:08x}")
            found = self.measure(arriving, tick)
            if found != content:
                raise WrongContent(arriving, found, content)
            self.rename(arriving, place.path)
        except BaseException:
            with suppress(OSError):
                self.remove(arriving)
            raise
        return content

    def copy(self, source: Place, destination: Place, expected: Content, tick: Tick) -> None:
        arriving = _neighbour(destination)
        try:
            tick()
            if not self._copied_there(source, arriving, tick):
                arriving = _neighbour(destination)  # the first one may still count as being written
                _raise(_run(source, arriving, "none", tick), source)
            found = self.measure(arriving, tick)
            if found != expected:
                raise WrongContent(source, found, expected)
            self.rename(arriving, destination.path)
        finally:
            with suppress(OSError):
                self.remove(arriving)

    def _copied_there(self, source: Place, arriving: Place, tick: Tick) -> bool:
        """The servers copy among themselves; False: one of them does not."""
        status = _run(source, arriving, "only", tick)
        if status.ok or not _is_refusal(status):
            _raise(status, source)
            return True
        with suppress(OSError):
            self.remove(arriving)
        refusals.tell(source, arriving, str(status.message).strip())
        return False

    def measure(self, place: Place, tick: Tick) -> Content:
        size_bytes = self.size(place)
        told = self._checksum(place)
        if told is not None:
            return Content(size_bytes, told)
        size_bytes, adler32 = 0, 1
        with self.open(place) as stream:
            while block := stream.read(BLOCK_BYTES):
                size_bytes += len(block)
                adler32 = zlib.adler32(block, adler32)
                tick()
        return Content(size_bytes, f"{adler32:08x}")

    def _checksum(self, place: Place) -> str | None:
        flags = _client().flags.QueryCode.CHECKSUM
        status, reply = _system(place).query(flags, f"{_path(place)}?cks.type=adler32", timeout=TIMEOUT_S)
        if not status.ok or not reply:
            return None
        kind, _, value = reply.decode().strip("\x00 \n").partition(" ")
        return value.strip().lower().rjust(8, "0") if kind == "adler32" and value else None

    def size(self, place: Place) -> int:
        status, facts = _system(place).stat(_path(place), timeout=TIMEOUT_S)
        _raise(status, place)
        return int(facts.size)

    def open(self, place: Place) -> BinaryIO:
        return cast(BinaryIO, io.BufferedReader(_Reading(_File(place)), BLOCK_BYTES))

    def rename(self, place: Place, path: str) -> None:
        target = Place(place.root, path)
        system, folder = _system(place), _path(target).rpartition("/")[0]
        system.mkdir(folder, _client().flags.MkDirFlags.MAKEPATH, _mode(), timeout=TIMEOUT_S)
        status, _ = system.mv(_path(place), _path(target), timeout=TIMEOUT_S)
        _raise(status, place)

    def remove(self, place: Place) -> None:
        status, _ = _system(place).rm(_path(place), timeout=TIMEOUT_S)
        with suppress(FileNotFoundError):
            _raise(status, place)

    def space(self, root: str) -> Space | None:
        """Of the folder's disk. A folder that is still to be made is answered with chance numbers, so its parent is
        asked."""
        place, client = Place(root, ""), _client()
        folder = f"/{urlsplit(root).path.strip('/')}"
        while folder != "/" and _is_absent(_system(place).stat(folder, timeout=TIMEOUT_S)[0]):
            folder = folder.rpartition("/")[0] or "/"
        status, reply = _system(place).query(client.flags.QueryCode.SPACE, folder, timeout=TIMEOUT_S)
        _raise(status, place)
        facts = parse_qs((reply or b"").decode(errors="replace").strip("\x00 \n"))
        free, total = (facts.get(f"oss.{name}", [""])[0] for name in ("free", "space"))
        return Space(int(free), int(total) if total.isdigit() else None) if free.isdigit() else None

    def entries(self, root: str, folder: str) -> Iterator[Entry]:
        place = Place(root, folder)
        path = _path(place) if folder else f"/{urlsplit(root).path.strip('/')}"
        flags = _client().flags
        status, found = _system(place).dirlist(path, flags.DirListFlags.STAT, timeout=TIMEOUT_S)
        if not status.ok and "invalid response" in str(status.message).casefold():
            raise OSError(errno.EBADMSG, "the folder cannot be listed: a name in it seems to have a line break", path)
        _raise(status, place)
        for each in found or ():
            inner = path_in(folder, each.name)
            facts = each.statinfo
            if facts is None:
                raise OSError(errno.EBADMSG, "the storage lists a name and does not tell its size", inner)
            is_folder = bool(facts.flags & flags.StatInfoFlags.IS_DIR)
            yield Entry(inner, is_folder, int(facts.size), float(facts.modtime))

    def walk(self, root: str, folder: str) -> Iterator[Entry]:
        return walked(self, root, folder)

    def link(self, root: str, path: str, verb: Literal["GET", "PUT"], for_s: float) -> str:
        """The address itself: nodes bring their own right to it."""
        return _url(Place(root, path))


class _Watch:
    """XRootD's client says how far a copy is. It calls us from its own code, where nothing may be raised: what the
    tick raises makes it stop, and is kept."""

    def __init__(self, tick: Tick) -> None:
        self._tick = tick
        self._moved, self._since = -1, time.monotonic()
        self.problem: BaseException | None = None

    def begin(self, job: int, total: int, source: Any, target: Any) -> None:
        """A word of the client's that tells us nothing; so is `end`."""

    def end(self, job: int, results: Any) -> None:
        pass

    def update(self, job: int, processed: int, total: int) -> None:
        if processed != self._moved:
            self._moved, self._since = processed, time.monotonic()

    def should_cancel(self, job: int) -> bool:
        if self.problem is None:
            try:
                self._tick()
                if time.monotonic() - self._since > STALL_S:
                    raise OSError(errno.ETIMEDOUT, f"nothing more was copied in {STALL_S:.0f} s")
            except BaseException as problem:
                self.problem = problem
        return self.problem is not None


def _run(source: Place, arriving: Place, third_party: Literal["only", "none"], tick: Tick) -> Any:
    """One copy by XRootD's client: its status. Raises what the tick raises."""
    watch, process = _Watch(tick), _client().CopyProcess()
    process.add_job(
        _url(source), _url(arriving), mkdir=True, thirdparty=third_party, posc=True, cptimeout=3600, tpctimeout=3600
    )
    status = process.prepare()
    if status.ok:
        status, results = process.run(watch)
        status = results[0]["status"] if results else status
    if watch.problem is not None:
        raise watch.problem
    return status


def _is_refusal(status: Any) -> bool:
    return status.errno == _UNSUPPORTED or "not supported" in str(status.message).casefold()


class _File:
    """A file that is open on a storage."""

    def __init__(self, place: Place, *, writes: bool = False) -> None:
        client = _client()
        self._place, self._file, self._writes = place, client.File(), writes
        flags = client.flags
        how = flags.OpenFlags.DELETE | flags.OpenFlags.MAKEPATH if writes else flags.OpenFlags.READ
        status, _ = self._file.open(_url(place), how, _mode(), timeout=TIMEOUT_S)
        _raise(status, place)

    def __enter__(self) -> "_File":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        status, _ = self._file.close(timeout=TIMEOUT_S)
        if kind is None and self._writes:
            _raise(status, self._place)

    def write(self, block: bytes, offset: int) -> None:
        status, _ = self._file.write(block, offset, timeout=TIMEOUT_S)
        _raise(status, self._place)

    def read(self, offset: int, size: int) -> bytes:
        status, block = self._file.read(offset, size, timeout=TIMEOUT_S)
        _raise(status, self._place)
        return bytes(block)


class _Reading(io.RawIOBase):
    """An open file as a stream."""

    def __init__(self, file: _File) -> None:
        self._file, self._offset = file, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        block = self._file.read(self._offset, len(buffer))
        buffer[: len(block)] = block
        self._offset += len(block)
        return len(block)

    def close(self) -> None:
        if not self.closed:
            self._file.__exit__(None)
        super().close()


def _client() -> Any:
    """XRootD's bindings are asked for only where a storage needs them: they are an extra."""
    try:
        from XRootD import client  # noqa: PLC0415
    except ImportError:
        raise ConfigError("a storage of kind xrootd needs its client: pip install 'panda-wms[xrootd]'") from None
    return client


def _mode() -> Any:
    """What is made may be read by everybody of the storage, and written by its owner; folders can be entered."""
    mode = _client().flags.AccessMode
    return mode.UR | mode.UW | mode.UX | mode.GR | mode.GX | mode.OR | mode.OX


def _system(place: Place) -> Any:
    parts = urlsplit(place.root)
    return _client().FileSystem(f"{parts.scheme}://{parts.netloc}")


def _path(place: Place) -> str:
    """Paths are made of checked names; a wrong row must still not lead out of the storage."""
    if not place.path or place.path.startswith("/") or ".." in place.path.split("/"):
        raise OSError(errno.EINVAL, f"{place.path!r} is no path below the storage", place.root)
    return f"/{urlsplit(place.root).path.strip('/')}/{place.path}"


def _url(place: Place) -> str:
    parts = urlsplit(place.root)
    return f"{parts.scheme}://{parts.netloc}/{_path(place)}"


def _neighbour(place: Place) -> Place:
    folder, _, _ = place.path.rpartition("/")
    return Place(place.root, f"{folder}/.{uuid.uuid4().hex}.part".lstrip("/"))


def _is_absent(status: Any) -> bool:
    return not status.ok and bool(status.errno == _NO_SUCH_FILE)


def _raise(status: Any, place: Place) -> None:
    """XRootD's troubles as OSError, by kind."""
    if status.ok:
        return
    if _is_absent(status):
        raise FileNotFoundError(errno.ENOENT, "no such file on the storage", place.path)
    kind = errno.ENOSPC if status.errno == _NO_SPACE else errno.EIO
    raise OSError(kind, f"XRootD says: {str(status.message).strip()}", place.path)
