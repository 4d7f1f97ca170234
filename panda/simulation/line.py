"""HTTP for thousands of pilots in one thread: connections that stay open, lent to whoever has something to say.

As much HTTP/1.1 as our own server speaks, and no more, so that a simulation takes little of the machine that it
runs on. A request is sent once; what became of one without an answer nobody knows, and its sender decides.
"""

import asyncio
import time
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

from panda.errors import Invalid

#: An answer that does not come within this is given up.
PATIENCE_S = 60.0


class Answer(NamedTuple):
    """What came back. `status` 0: nothing did."""

    status: int
    body: Any
    """The document; None where there is none."""
    retry_after_s: float = 0.0

    @property
    def is_ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def code(self) -> str:
        """The stable code of a refusal."""
        return str(self.body.get("code", "")) if isinstance(self.body, dict) else ""


NOTHING = Answer(0, None)
#: What a connection that breaks, or says what is no HTTP, raises.
BROKEN = (OSError, EOFError, ValueError, TimeoutError, asyncio.LimitOverrunError, msgspec.DecodeError)
Line = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Call(NamedTuple):
    """A request that was made, for the books."""

    what: str
    status: int
    code: str
    took_s: float


class Exchange:
    """Lends connections to one server; at most `n_connections` are open, whoever comes then waits."""

    def __init__(self, url: str, n_connections: int) -> None:
        """Raises Invalid: the address is none that is spoken here."""
        parts = urlsplit(url)
        try:
            port = parts.port or 80
        except ValueError:
            port = 0
        if parts.scheme != "http" or not parts.hostname or not port:
            raise Invalid(f"{url!r} is no address: write http://host:port", where="url", code="bad_url")
        self._host, self._port, self._prefix = parts.hostname, port, parts.path.rstrip("/")
        self._netloc = parts.netloc.rpartition("@")[2]
        self._free: list[Line] = []
        self._turn = asyncio.Semaphore(n_connections)
        self.calls: list[Call] = []
        """Requests since somebody emptied it."""

    async def call(
        self, what: str, method: str, path: str, token: str, document: Any = None, *, body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:  # fmt: skip
        """Send one request. `what` is its name in the books."""
        content = "application/octet-stream" if body else "application/json"
        if document is not None:
            body = msgspec.json.encode(document)
        lines = [f"{method} {self._prefix}{path} HTTP/1.1", f"Host: {self._netloc}", f"Content-Type: {content}",
                 f"Authorization: Bearer {token}", f"Content-Length: {len(body)}"]  # fmt: skip
        lines += [f"{name}: {text}" for name, text in (headers or {}).items()]
        message = ("\r\n".join(lines) + "\r\n\r\n").encode() + body
        async with self._turn:
            began = time.monotonic()
            answer = await self._exchanged(message)
            self.calls.append(Call(what, answer.status, answer.code, time.monotonic() - began))
        return answer

    async def close(self) -> None:
        """Close every connection that is not lent."""
        free, self._free = self._free, []
        for _, writer in free:
            writer.close()
        for _, writer in free:
            try:
                await writer.wait_closed()
            except OSError:
                continue

    async def _exchanged(self, message: bytes) -> Answer:
        """One answer. A connection that was closed while nobody used it is not the request's fault: the request is
        sent again down a new one, which harms nobody, since all that is said here may be said twice."""
        while self._free:
            line = self._free.pop()
            if line[0].at_eof():
                line[1].close()
                continue
            try:
                return await self._asked(line, message)
            except asyncio.IncompleteReadError as problem:
                if problem.partial:
                    return NOTHING
            except BROKEN:
                return NOTHING
            break
        try:
            async with asyncio.timeout(PATIENCE_S):
                line = await asyncio.open_connection(self._host, self._port, limit=1 << 20)
            return await self._asked(line, message)
        except BROKEN:
            return NOTHING

    async def _asked(self, line: Line, message: bytes) -> Answer:
        reader, writer = line
        stays = False
        try:
            async with asyncio.timeout(PATIENCE_S):
                writer.write(message)
                answer, stays = await _read(reader)
        finally:
            if stays:
                self._free.append(line)
            else:
                writer.close()  # also of a request that was cancelled: what is left on the wire belongs to nobody
        return answer


async def _read(reader: asyncio.StreamReader) -> tuple[Answer, bool]:
    """An answer, and whether its connection may be used again. Raises EOFError, ValueError, OSError."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.split("\r\n")
    fields = {name.strip().lower(): text.strip() for name, _, text in (line.partition(":") for line in lines)}
    status = int(first.split(" ", 2)[1])
    body = await reader.readexactly(int(fields.get("content-length", "0")))
    waits = fields.get("retry-after", "")
    retry_after_s = float(waits) if waits.isdigit() else 0.0
    document = msgspec.json.decode(body) if body and "json" in fields.get("content-type", "") else None
    return Answer(status, document, retry_after_s), first.startswith("HTTP/1.1") and fields.get(
        "connection", ""
    ).lower() != "close"
