"""A TCP proxy of ours between clients and the API, that can be told to misbehave."""

import asyncio
import random
import threading
from contextlib import suppress
from dataclasses import dataclass

BLOCK_BYTES = 1 << 16
REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Type: application/problem+json\r\n"
    b"Content-Length: 90\r\nConnection: close\r\n\r\n"
)


@dataclass(frozen=True)
class Weather:
    """What happens to what passes. Shares are of connections or of answers, 0 to 1."""

    delay_s: float = 0.0
    """Every block waits this long."""
    lost_answers: float = 0.0
    """The request arrives, its answer does not: the connection is cut instead."""
    cut: float = 0.0
    """A connection is cut in the middle of a request."""
    hold: bool = False
    """Nothing passes, and nothing is refused: a partition that drops."""
    busy: float = 0.0
    """Answered 503 with Retry-After, by nobody."""
    cut_after: bytes = b""
    """The first request that holds this arrives; when it is answered the connection is cut, so that nobody hears what
    came of it."""
    chunk_bytes: int = BLOCK_BYTES
    """Blocks are passed on in pieces of this size."""


FAIR = Weather()


class Proxy:
    """Listens on a free port of 127.0.0.1 in a thread of its own, and passes everything to `host:port`, or to the
    socket that `host` names."""

    def __init__(self, host: str, port: int, seed: int) -> None:
        self.weather = FAIR
        self._unheard: asyncio.StreamWriter | None = None  # who must not hear the next answer
        self.port = 0
        self._to = (host, port)
        self._random = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._thread.start()
        self._ready.wait(10)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = int(server.sockets[0].getsockname()[1])
        self._ready.set()
        self._loop.run_forever()
        server.close()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            host, port = self._to
            upstream_reader, upstream_writer = await (
                asyncio.open_unix_connection(host) if host.startswith("/") else asyncio.open_connection(host, port)
            )
        except OSError:
            writer.close()
            return
        there = asyncio.ensure_future(self._pass(reader, upstream_writer, is_request=True, back=writer))
        here = asyncio.ensure_future(self._pass(upstream_reader, writer, is_request=False, back=writer))
        try:
            await asyncio.wait((there, here), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            pass  # the proxy stops
        finally:
            for task in (there, here):
                task.cancel()
            for each in (writer, upstream_writer):
                with suppress(OSError, RuntimeError):
                    each.close()

    async def _pass(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        is_request: bool,
        back: asyncio.StreamWriter,
    ) -> None:
        with suppress(OSError):
            while block := await reader.read(BLOCK_BYTES):
                if not await self._may_pass(block, writer, is_request, back):
                    return
                step = max(1, self.weather.chunk_bytes)
                for start in range(0, len(block), step):
                    writer.write(block[start : start + step])
                    await writer.drain()

    async def _may_pass(
        self, block: bytes, writer: asyncio.StreamWriter, is_request: bool, back: asyncio.StreamWriter
    ) -> bool:
        weather = self.weather
        while self.weather.hold:
            await asyncio.sleep(0.05)
        if weather.delay_s:
            await asyncio.sleep(weather.delay_s)
        if not is_request:
            if self._unheard is back:  # an answer comes: it was done
                self._unheard = None
                return False
            return self._random.random() >= weather.lost_answers
        if self._random.random() < weather.busy:
            body = b'{"status": 503, "code": "unavailable", "detail": "the proxy plays a server that is busy"}'
            back.write(REFUSAL + body.ljust(90))
            await back.drain()
            return False
        if weather.cut_after and weather.cut_after in block:
            self.weather = FAIR
            self._unheard = back
        if self._random.random() < weather.cut:
            writer.write(block[: len(block) // 2])
            await writer.drain()
            return False
        return True
