"""Sandboxes: the user's files, a tar.gz known by its sha256, unpacked into the work folder.

What users upload is not trusted. Only folders, regular files and links that stay inside are
unpacked; anything else fails the job, and nothing is ever written outside of its folder.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import threading
import time
import zlib
from typing import BinaryIO, Dict, List, Tuple

from pilot.client import Backoff, Client
from pilot.errors import Abandoned, ErrorCode, JobFailure, Refused, ServerAway, TokenRefused

MAX_ENTRIES = 10_000
MAX_UNPACKED_BYTES = 2 * 10**9
MAX_DOWNLOAD_BYTES = 2 * 10**9
MAX_EXTENSION_BYTES = 1 << 20
"""Largest extended header (long names and the like), which tarfile reads into memory."""

BLOCK_BYTES = 512
KEPT = 8
"""Sandboxes kept in the pilot's folder; jobs of one set share theirs."""


class Sandboxes:
    """The pilot's store of downloaded sandboxes: verified, unzipped, one tar file each."""

    def __init__(self, client: Client, folder: str, outage_s: float) -> None:
        self._client = client
        self._folder = folder
        self._outage_s = outage_s
        self._lock = threading.Lock()
        self._locks: Dict[str, threading.Lock] = {}

    def unpack(self, sha256: str, folder: str, stop: threading.Event) -> None:
        """Bring the sandbox and unpack it into `folder`.

        Raises: JobFailure (1246 not to be had, 1110 refused, 1098 disk full), Abandoned, TokenRefused.
        """
        if len(sha256) != 64 or not set(sha256) <= set("0123456789abcdef"):
            raise JobFailure(ErrorCode.SETUPFAILURE, f"not the sha256 of a sandbox: {sha256!r}")
        with self._lock:
            lock = self._locks.setdefault(sha256, threading.Lock())
        path = os.path.join(self._folder, f"{sha256}.tar")
        try:
            with lock:
                if not os.path.exists(path):
                    self._fetch(sha256, path, stop)
                # Opened under the lock, so that it may be dropped from the store meanwhile.
                archive = open(path, "rb")  # noqa: SIM115
            with archive:
                unpack(archive, folder, stop)
        except OSError as error:
            raise JobFailure(
                ErrorCode.NOLOCALSPACE, f"sandbox {sha256[:12]} does not fit on the node: {error.strerror}"
            ) from error

    def _fetch(self, sha256: str, path: str, stop: threading.Event) -> None:
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        self._make_room()
        zipped = path + ".gz"
        try:
            self._download(sha256, zipped, stop)
            unzip(zipped, path + ".part", stop)
            os.rename(path + ".part", path)
        finally:
            for leftover in (zipped, path + ".part"):
                if os.path.exists(leftover):
                    os.unlink(leftover)

    def _download(self, sha256: str, path: str, stop: threading.Event) -> None:
        """The tar.gz at `path`, its hash verified; waits for a server that is away."""
        backoff = Backoff()
        give_up_at = time.monotonic() + self._outage_s
        while True:
            try:
                with open(path, "wb") as zipped:
                    self._client.download(f"/v1/sandboxes/{sha256}", zipped, MAX_DOWNLOAD_BYTES)
                break
            except TokenRefused:
                raise
            except Refused as refusal:
                raise JobFailure(
                    ErrorCode.NOUSERTARBALL, f"sandbox {sha256[:12]} cannot be had: {refusal}"
                ) from refusal
            except ServerAway as away:
                if time.monotonic() > give_up_at:
                    raise JobFailure(
                        ErrorCode.NOUSERTARBALL, f"sandbox {sha256[:12]} could not be fetched: {away}"
                    ) from away
                if stop.wait(backoff.next_s(away.retry_after_s)):
                    raise Abandoned from away
        digest = hashlib.sha256()
        with open(path, "rb") as zipped:
            for chunk in iter(lambda: zipped.read(1 << 20), b""):
                digest.update(chunk)
        if digest.hexdigest() != sha256:
            raise JobFailure(ErrorCode.NOUSERTARBALL, f"sandbox {sha256[:12]} arrived damaged (its sha256 differs)")

    def clear(self) -> None:
        """Remove them all."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _make_room(self) -> None:
        kept = [os.path.join(self._folder, name) for name in os.listdir(self._folder) if name.endswith(".tar")]
        kept.sort(key=os.path.getmtime)
        for path in kept[: max(0, len(kept) - KEPT + 1)]:
            os.unlink(path)


def _refuse(why: str) -> JobFailure:
    return JobFailure(ErrorCode.SETUPFAILURE, f"sandbox refused: {why}")


def unzip(zipped: str, path: str, stop: threading.Event) -> None:
    """Decompress a gzip file, but not a bomb. Raises: JobFailure 1110, Abandoned."""
    n_bytes = 0
    most_bytes = MAX_UNPACKED_BYTES + 2 * MAX_ENTRIES * BLOCK_BYTES
    decompress = zlib.decompressobj(wbits=31)
    try:
        with open(zipped, "rb") as source, open(path, "wb") as target:
            while not decompress.eof:
                if stop.is_set():
                    raise Abandoned
                waiting = decompress.unconsumed_tail or source.read(1 << 18)
                if not waiting:
                    raise _refuse("it is not a whole gzip file")
                chunk = decompress.decompress(waiting, 1 << 20)
                n_bytes += len(chunk)
                if n_bytes > most_bytes:
                    raise _refuse(f"it unpacks to more than {MAX_UNPACKED_BYTES} bytes")
                target.write(chunk)
    except zlib.error as error:
        raise _refuse(f"it is not a gzip file ({error})") from error


def _check_headers(archive: BinaryIO) -> None:
    """Walk the headers by hand, before tarfile sees them: number of entries, size of extensions."""
    n_entries = 0
    archive.seek(0)
    while True:
        header = archive.read(BLOCK_BYTES)
        if len(header) < BLOCK_BYTES or header == bytes(BLOCK_BYTES):
            archive.seek(0)
            return
        size = header[124:136]
        try:
            # Sizes of 8 GB and more have a binary form, which starts with its highest bit set.
            n_bytes = int(size.strip(b" \0") or b"0", 8) if size[0] < 0x80 else MAX_UNPACKED_BYTES + 1
        except ValueError as error:
            raise _refuse("it is not a tar file") from error
        if header[156:157] in b"xgLKX" and n_bytes > MAX_EXTENSION_BYTES:
            raise _refuse("an extended header is too large")
        if n_bytes < 0 or n_bytes > MAX_UNPACKED_BYTES:
            raise _refuse(f"it unpacks to more than {MAX_UNPACKED_BYTES} bytes")
        n_entries += header[156:157] not in b"xgLKX"
        if n_entries > MAX_ENTRIES:
            raise _refuse(f"it has more than {MAX_ENTRIES} entries")
        archive.seek(-(-n_bytes // BLOCK_BYTES) * BLOCK_BYTES, os.SEEK_CUR)


def unpack(archive: BinaryIO, folder: str, stop: threading.Event) -> None:
    """Unpack an open tar file into `folder`.

    Links are made last, after all files, so no file can be written through one.

    Raises: JobFailure 1110, Abandoned, OSError (disk full).
    """
    _check_headers(archive)
    left_bytes = MAX_UNPACKED_BYTES
    links: List[Tuple[str, tarfile.TarInfo]] = []
    try:
        with tarfile.open(fileobj=archive, mode="r:") as tar:
            for entry in tar:
                if stop.is_set():
                    raise Abandoned
                path = _inside(folder, entry.name)
                if entry.isdir():
                    os.makedirs(path, mode=0o700, exist_ok=True)
                elif entry.issym() or entry.islnk():
                    links.append((path, entry))
                elif entry.isreg():
                    left_bytes -= entry.size
                    if left_bytes < 0:
                        raise _refuse(f"it unpacks to more than {MAX_UNPACKED_BYTES} bytes")
                    _write(tar, entry, path)
                else:
                    raise _refuse(f"{entry.name!r} is a device or pipe")
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise _refuse(f"it is not a whole tar file ({error})") from error
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise _refuse(f"two entries are in each other's way ({error.filename})") from error
    _link(folder, links)


def _inside(folder: str, name: str) -> str:
    if name.startswith("/") or "\0" in name or ".." in name.split("/"):
        raise _refuse(f"{name!r} leads out of the work folder")
    return os.path.join(folder, os.path.normpath(name or "."))


def _write(tar: tarfile.TarFile, entry: tarfile.TarInfo, path: str) -> None:
    source = tar.extractfile(entry)
    if source is None:
        raise _refuse(f"{entry.name!r} cannot be read")
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    with source, open(path, "wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)
    os.chmod(path, (entry.mode & 0o755) | 0o600)


def _link(folder: str, links: List[Tuple[str, tarfile.TarInfo]]) -> None:
    root = os.path.realpath(folder)
    try:
        for path, entry in links:
            if entry.islnk():
                os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
                os.link(_inside(folder, entry.linkname), path, follow_symlinks=False)
        symbolic = [(path, entry) for path, entry in links if entry.issym()]
        for path, entry in symbolic:
            # A folder on the way may be one of these links by now: look where it really leads.
            parent = os.path.realpath(os.path.dirname(path))
            if parent != root and not parent.startswith(root + "/"):
                raise _refuse(f"{entry.name!r} leads out of the work folder")
            os.makedirs(parent, mode=0o700, exist_ok=True)
            os.symlink(entry.linkname, path)
        for path, entry in symbolic:
            target = os.path.realpath(path)
            if target != root and not target.startswith(root + "/"):
                os.unlink(path)
                raise _refuse(f"{entry.name!r} links to {entry.linkname!r}, out of the work folder")
    except OSError as error:
        raise _refuse(f"a link cannot be made ({error.strerror}: {error.filename})") from error
