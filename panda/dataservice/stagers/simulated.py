"""A tape that is a folder: for tests, demos, and writers of stagers.

A file at `path` is online, in the disk buffer before the tape; what is on tape lies beside it, as `path@tape`.
What is in the buffer and not pinned goes to tape as soon as anybody asks for anything. The file `.tape.json` in the
root says how slow the tape is: `mount_s`, seconds until a request is carried out; `lost`, a list of paths
that cannot be read any more. Requests are files too: whoever restarts goes on.
"""

import json
import os
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from errno import EAGAIN
from pathlib import Path
from typing import Any, BinaryIO

from panda.dataservice.movers.base import Content, Place, Tick
from panda.dataservice.movers.local import LocalMover, path_of
from panda.dataservice.stagers.base import Recall

ON_TAPE = "@tape"
SETTINGS, REQUESTS = ".tape.json", ".requests"


class TapeMover(LocalMover):
    """A folder, some of whose files must be brought online before they can be read."""

    def open(self, place: Place) -> BinaryIO:
        _be_online(place)
        return super().open(place)

    def measure(self, place: Place, tick: Tick) -> Content:
        _be_online(place)
        return super().measure(place, tick)

    def copy(self, source: Place, destination: Place, expected: Content, tick: Tick) -> None:
        _be_online(source)
        super().copy(source, destination, expected, tick)

    def size(self, place: Place) -> int:
        on_tape = _on_tape(path_of(place))
        return on_tape.stat().st_size if on_tape.exists() else super().size(place)

    def rename(self, place: Place, path: str) -> None:
        _be_online(place)
        self.remove(Place(place.root, path))  # what it goes over may be on tape
        super().rename(place, path)

    def remove(self, place: Place) -> None:
        super().remove(place)
        _on_tape(path_of(place)).unlink(missing_ok=True)


class SimulatedStager:
    """See above."""

    def request(self, root: str, paths: Sequence[str], pin_s: float) -> str:
        migrate(root)
        name = uuid.uuid4().hex
        now = time.time()
        content = {"paths": list(paths), "online_at": now + _settings(root)["mount_s"], "pin_s": pin_s}
        folder = Path(root) / REQUESTS
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f".{name}"
        part.write_text(json.dumps(content))
        part.replace(folder / name)
        return name

    def poll(self, root: str, request: str, paths: Sequence[str]) -> Mapping[str, Recall]:
        asked = _request(root, request)
        if asked is None:
            return {path: Recall("failed", f"request {request} is not known") for path in paths}
        lost = set(_settings(root)["lost"])
        is_ready = time.time() >= asked["online_at"]
        return {path: self._look(root, path, is_ready=is_ready, is_lost=path in lost) for path in paths}

    def _look(self, root: str, path: str, *, is_ready: bool, is_lost: bool) -> Recall:
        place = path_of(Place(root, path))
        if is_lost:
            return Recall("failed", "the tape cannot be read")
        if not is_ready:
            return Recall("waiting")
        if not place.exists():
            if not _on_tape(place).exists():
                return Recall("failed", "there is no such file on tape")
            with suppress(FileExistsError):
                os.link(_on_tape(place), place)
        return Recall("online")

    def release(self, root: str, request: str, paths: Sequence[str]) -> None:
        asked = _request(root, request)
        if asked is not None:
            left = sorted(set(asked["paths"]) - set(paths))
            if left:
                (Path(root) / REQUESTS / request).write_text(json.dumps(asked | {"paths": left}))
            else:
                (Path(root) / REQUESTS / request).unlink(missing_ok=True)
        migrate(root)


def migrate(root: str) -> int:
    """What is in the buffer and pinned by nobody goes to tape. Returns how many files that were."""
    pinned = {path for asked in _requests(root) for path in asked["paths"]}
    n = 0
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder) / name
            if name.startswith((".", "@")) or name.endswith(ON_TAPE) or ".requests" in path.parts:
                continue
            if str(path.relative_to(root)) not in pinned:
                if _on_tape(path).exists():  # the buffer's is a link to it
                    path.unlink()
                else:
                    path.replace(_on_tape(path))
                n += 1
    return n


def _on_tape(path: Path) -> Path:
    return path.with_name(path.name + ON_TAPE)


def _be_online(place: Place) -> None:
    path = path_of(place)
    if not path.exists() and _on_tape(path).exists():
        raise OSError(EAGAIN, "it is on tape and must be brought online first", place.path)


def _settings(root: str) -> dict[str, Any]:
    given: dict[str, Any] = {}
    with suppress(FileNotFoundError):
        given = json.loads((Path(root) / SETTINGS).read_text())
    return {"mount_s": 2.0, "lost": []} | given


def _request(root: str, name: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads((Path(root) / REQUESTS / name).read_text())
    except FileNotFoundError:
        return None
    return found if time.time() < found["online_at"] + found["pin_s"] else None


def _requests(root: str) -> Iterator[dict[str, Any]]:
    folder = Path(root) / REQUESTS
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if not path.name.startswith(".") and (found := _request(root, path.name)) is not None:
            yield found
