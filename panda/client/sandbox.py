"""A sandbox: the files that every job of a set unpacks first, named by the hash of its bytes.

Deterministic: the same files give the same bytes, whoever packs them and when, so that a second
submission finds its sandbox already there.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from panda.client.errors import Invalid

#: By-products that change without anybody's doing.
SKIPPED = frozenset({"__pycache__", ".git"})


@dataclass(frozen=True)
class Sandbox:
    """A packed tar.gz."""

    sha256: str
    size_bytes: int
    names: tuple[str, ...]
    """Paths inside, sorted."""


class _Hashed:
    """Writes through to a file and hashes what passes; gzip wants no more than `write`."""

    def __init__(self, sink: BinaryIO) -> None:
        self._sink, self.sha256, self.size_bytes = sink, hashlib.sha256(), 0

    def write(self, block: bytes) -> int:
        self.sha256.update(block)
        self.size_bytes += len(block)
        return self._sink.write(block)

    def flush(self) -> None:
        self._sink.flush()


def pack(paths: Sequence[str | Path], sink: BinaryIO, base: Path | None = None) -> Sandbox:
    """Write a tar.gz of `paths` (files, folders or shell patterns, relative to `base`) into `sink`.

    Links are followed; times, owners and all of the mode but "executable" are left out.

    Raises:
        Invalid: a path that does not exist, lies outside `base`, or is neither file nor folder.
    """
    import gzip
    import tarfile

    base = (base or Path.cwd()).resolve()
    members = dict(sorted(_members(paths, base)))
    hashed = _Hashed(sink)
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=cast(BinaryIO, hashed), mtime=0) as squeezed,
        tarfile.open(fileobj=squeezed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name, file in members.items():
            facts = tarfile.TarInfo(name)
            with file.open("rb") as content:
                facts.size = file.stat().st_size
                facts.mode = 0o755 if file.stat().st_mode & 0o111 else 0o644
                tar.addfile(facts, content)
    return Sandbox(hashed.sha256.hexdigest(), hashed.size_bytes, tuple(members))


def _members(paths: Sequence[str | Path], base: Path) -> Iterator[tuple[str, Path]]:
    for path in paths:
        for found in _found(str(path), base):
            for file in sorted(found.rglob("*")) if found.is_dir() else [found]:
                if not SKIPPED.isdisjoint(file.parts[len(base.parts) :]) or file.is_dir():
                    continue
                if not file.is_file():
                    raise Invalid(f"upload: {file} is neither a file nor a folder", code="bad_upload")
                yield file.relative_to(base).as_posix(), file


def _found(path: str, base: Path) -> list[Path]:
    absolute = Path(path) if Path(path).is_absolute() else base / path
    try:
        inside = Path(_flat(absolute)).relative_to(base)
    except ValueError:
        raise Invalid(f"upload: {path!r} lies outside {base}", code="bad_upload") from None
    exact = base / inside
    if exact.exists():
        return [exact]
    matches = sorted(base.glob(inside.as_posix())) if any(mark in path for mark in "*?[") else []
    if not matches:
        raise Invalid(f"upload: there is no {path!r} in {base}", code="bad_upload")
    return matches


def _flat(path: Path) -> str:
    """`path` without `.` and `..`, links left as they are."""
    import os.path

    return os.path.normpath(path)
