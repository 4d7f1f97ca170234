"""Storages that are folders of this machine, or of a file system that all machines share."""

import os
import shutil
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Literal
from urllib.parse import quote

from panda.dataservice.movers.base import Content, Place, Space, Stream, Tick, WrongContent
from panda.dataservice.movers.listing import Entry, walked
from panda.errors import TooLarge

BLOCK_BYTES = 1 << 20
#: One call of the kernel's copy; between two of them the mover says that it is alive.
COPY_BYTES = 64 << 20


class LocalMover:
    """Files below a folder. Bytes go to a hidden neighbour first, then to disk, then under their name."""

    names_are_exact = True

    def write(self, place: Place, stream: Stream, cap_bytes: int, tick: Tick) -> Content:
        size_bytes, adler32 = 0, 1
        with _arriving(path_of(place)) as part, part.open("xb") as file:
            while block := stream.read(BLOCK_BYTES):
                size_bytes += len(block)
                if size_bytes > cap_bytes:
                    raise TooLarge(f"the file is larger than {cap_bytes} bytes")
                adler32 = zlib.adler32(block, adler32)
                file.write(block)
                tick()
            file.flush()
            os.fsync(file.fileno())
        return Content(size_bytes, f"{adler32:08x}")

    def copy(self, source: Place, destination: Place, expected: Content, tick: Tick) -> None:
        with _arriving(path_of(destination)) as part:
            with path_of(source).open("rb") as original, part.open("xb") as file:
                _copy(original, file, tick)
                os.fsync(file.fileno())
            found = _measure(part, tick)  # what arrived is checked, not what was read
            if found != expected:
                raise WrongContent(source, found, expected)

    def measure(self, place: Place, tick: Tick) -> Content:
        return _measure(path_of(place), tick)

    def size(self, place: Place) -> int:
        return path_of(place).stat().st_size

    def open(self, place: Place) -> BinaryIO:
        return path_of(place).open("rb")

    def rename(self, place: Place, path: str) -> None:
        target = path_of(Place(place.root, path))
        target.parent.mkdir(parents=True, exist_ok=True)
        path_of(place).replace(target)
        _sync_folder(target.parent)

    def remove(self, place: Place) -> None:
        path_of(place).unlink(missing_ok=True)

    def space(self, root: str) -> Space | None:
        there = Path(root)
        while not there.is_dir() and there != there.parent:  # a storage that nothing was put on yet
            there = there.parent
        usage = shutil.disk_usage(there)
        return Space(usage.free, usage.total)

    def entries(self, root: str, folder: str) -> Iterator[Entry]:
        """Links are not followed: they are files."""
        with os.scandir(Path(root) / folder) as found:
            for each in found:
                path = f"{folder}/{each.name}" if folder else each.name
                with suppress(FileNotFoundError):  # moved or removed since
                    state = each.stat(follow_symlinks=False)
                    yield Entry(path, each.is_dir(follow_symlinks=False), state.st_size, state.st_mtime)

    def walk(self, root: str, folder: str) -> Iterator[Entry]:
        return walked(self, root, folder)

    def link(self, root: str, path: str, verb: Literal["GET", "PUT"], for_s: float) -> str:
        return f"file://{quote(str(path_of(Place(root, path))), safe='/@')}"


def path_of(place: Place) -> Path:
    """Paths are made of checked names; a wrong row, or a link that somebody laid into the storage, must still not
    lead out of it."""
    root, below = Path(place.root), Path(place.path)
    if not place.path or below.is_absolute() or ".." in below.parts or not root.is_absolute():
        raise OSError(f"{place.path!r} is no path below the storage at {place.root!r}")
    if not os.path.realpath(root / below).startswith(os.path.realpath(root) + os.sep):
        raise OSError(f"{place.path!r} leads out of the storage at {place.root!r}")
    return root / below


@contextmanager
def _arriving(path: Path) -> Iterator[Path]:
    """A hidden neighbour of `path` (no file name of ours starts with a dot), which takes its name at the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        yield part
        part.replace(path)
    except BaseException:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _copy(original: BinaryIO, file: BinaryIO, tick: Tick) -> None:
    """Let the kernel copy (which shares blocks where the file system can), else read and write."""
    try:
        while os.copy_file_range(original.fileno(), file.fileno(), COPY_BYTES):
            tick()
    except OSError:
        original.seek(0)
        file.seek(0)
        file.truncate()
        while block := original.read(BLOCK_BYTES):
            file.write(block)
            tick()
        file.flush()


def _measure(path: Path, tick: Tick) -> Content:
    size_bytes, adler32 = 0, 1
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            size_bytes += len(block)
            adler32 = zlib.adler32(block, adler32)
            tick()
    return Content(size_bytes, f"{adler32:08x}")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
