"""A mover that keeps its files in this process's memory. For tests and for writers of movers."""

import io
import zlib
from typing import BinaryIO, Literal

from panda.dataservice.movers.base import Content, Place, Space, Stream, Tick, WrongContent
from panda.errors import TooLarge

#: What all stub storages hold, by root and path.
FILES: dict[Place, bytes] = {}


class StubMover:
    """The whole contract in a dictionary."""

    def write(self, place: Place, stream: Stream, cap_bytes: int, tick: Tick) -> Content:
        held = b""
        while block := stream.read(1 << 16):
            held += block
            if len(held) > cap_bytes:
                raise TooLarge(f"the file is larger than {cap_bytes} bytes")
            tick()
        FILES[place] = held
        return self.measure(place, tick)

    def copy(self, source: Place, destination: Place, expected: Content, tick: Tick) -> None:
        found = self.measure(source, tick)
        if found != expected:
            raise WrongContent(source, found, expected)
        FILES[destination] = FILES[source]

    def measure(self, place: Place, tick: Tick) -> Content:
        held = self.open(place).read()
        tick()
        return Content(len(held), f"{zlib.adler32(held):08x}")

    def size(self, place: Place) -> int:
        return len(self.open(place).read())

    def open(self, place: Place) -> BinaryIO:
        if place not in FILES:
            raise FileNotFoundError(place.path)
        return io.BytesIO(FILES[place])

    def rename(self, place: Place, path: str) -> None:
        FILES[Place(place.root, path)] = self.open(place).read()
        if path != place.path:
            self.remove(place)

    def remove(self, place: Place) -> None:
        FILES.pop(place, None)

    def space(self, root: str) -> Space | None:
        return None

    def link(self, root: str, path: str, verb: Literal["GET", "PUT"], for_s: float) -> str:
        return f"stub://{root}/{path}"
