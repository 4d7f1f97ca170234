"""How bytes get to the server and back: one keep-alive connection per thread.

The standard library's `http.client` rather than httpx: a command of ours makes a few small calls, and
importing httpx alone costs more than most of them take. Whoever needs another way (a test, a gateway)
writes a `Transport` and hands it to `Client(transport=…)`.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, Protocol
from urllib.parse import urlsplit

from panda.client.errors import Invalid

if TYPE_CHECKING:
    from http.client import HTTPConnection, HTTPResponse

CONNECT_S = 5.0
READ_S = 60.0
BLOCK_BYTES = 1 << 18


class NotSent(Exception):
    """No connection: the server has seen nothing of the request."""


class LostReply(Exception):
    """The connection broke after the request was on its way: it may or may not have been done."""


Body = bytes | Callable[[], BinaryIO] | None
"""Bytes, or something that opens the body anew for each try (its Content-Length stands in the headers)."""


@dataclass(frozen=True)
class Request:
    """One HTTP request; `target` is the path with its query."""

    method: str
    target: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body = None
    fresh: bool = False
    """Open a new connection: the request must not fail because an idle one was closed meanwhile."""
    own: bool = False
    """A connection for this request alone: its answer is read for long, while others are made."""


class Response(Protocol):
    """An answer whose body is read as it comes."""

    @property
    def status(self) -> int: ...
    def header(self, name: str) -> str: ...  #: "" where there is none
    def read(self, n_bytes: int = -1) -> bytes: ...  #: b"" at the end; raises LostReply
    def some(self) -> bytes: ...  #: what has come, waiting for the first byte; b"" at the end; raises LostReply
    def close(self) -> None: ...


class Transport(Protocol):
    """Sends one request once. Raises NotSent or LostReply; any HTTP status is an answer."""

    def send(self, request: Request) -> Response: ...
    def close(self) -> None: ...


class HttpTransport:
    """HTTP/1.1 over TCP or TLS to one server. Threads may share it."""

    def __init__(self, url: str, *, connect_s: float = CONNECT_S, read_s: float = READ_S, ca: str = "") -> None:
        """`url`: `http://host:port` or `https://…`, a path prefix is kept; `ca`: PEM file of the trusted roots.

        Raises:
            Invalid: the URL is none.
        """
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            port = 0
        if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
            raise Invalid(f"{url!r} is no server address: write http://host:port", code="bad_url")
        self._host, self._tls = parts.hostname, parts.scheme == "https"
        self._port = port or (443 if self._tls else 80)
        self._prefix = parts.path.rstrip("/")
        self._connect_s, self._read_s, self._ca = connect_s, read_s, ca
        self._mine = threading.local()

    def send(self, request: Request) -> Response:
        """Raises NotSent or LostReply."""
        connection = self._opened() if request.own else self._connected(request.fresh)
        drop = connection.close if request.own else self.close
        try:
            self._write(connection, request)
            return HttpResponse(connection.getresponse(), drop)
        except _broken() as problem:
            drop()
            raise LostReply(str(problem) or type(problem).__name__) from problem
        except BaseException:
            drop()  # Ctrl-C in the middle: what is left on the wire belongs to nobody
            raise

    def close(self) -> None:
        """Close this thread's connection."""
        connection: HTTPConnection | None = getattr(self._mine, "connection", None)
        self._mine.connection = None
        if connection is not None:
            connection.close()

    def _connected(self, fresh: bool) -> "HTTPConnection":
        connection: HTTPConnection | None = getattr(self._mine, "connection", None)
        if connection is not None and connection.sock is not None and not fresh:
            return connection
        self.close()
        connection = self._mine.connection = self._opened()
        return connection

    def _opened(self) -> "HTTPConnection":
        connection = self._new()
        try:
            connection.connect()
        except OSError as problem:
            connection.close()
            raise NotSent(f"{self._host}:{self._port}: {problem.strerror or problem}") from problem
        connection.sock.settimeout(self._read_s)
        return connection

    def _new(self) -> "HTTPConnection":
        from http.client import HTTPConnection, HTTPSConnection

        if not self._tls:
            return HTTPConnection(self._host, self._port, timeout=self._connect_s, blocksize=BLOCK_BYTES)
        import ssl

        trust = ssl.create_default_context(cafile=self._ca or None)
        return HTTPSConnection(self._host, self._port, timeout=self._connect_s, blocksize=BLOCK_BYTES, context=trust)

    def _write(self, connection: "HTTPConnection", request: Request) -> None:
        body = request.body() if callable(request.body) else request.body
        try:
            connection.request(request.method, self._prefix + request.target, body, dict(request.headers))
        except (BrokenPipeError, ConnectionResetError):
            # A server that refuses a body (401, 413) answers and closes before it has read all of it: its
            # answer is still there to be read, and says more than "broken pipe". Without one, reading breaks too.
            pass
        finally:
            if body is not None and not isinstance(body, bytes):
                body.close()


class HttpResponse:
    """`http.client`'s answer; its connection is free for the next request once it was read to the end."""

    def __init__(self, answer: "HTTPResponse", drop: Callable[[], None]) -> None:
        self._answer, self._drop = answer, drop
        self.status = answer.status

    def header(self, name: str) -> str:
        return self._answer.headers.get(name) or ""

    def read(self, n_bytes: int = -1) -> bytes:
        try:
            block = self._answer.read() if n_bytes < 0 else self._answer.read(n_bytes)
        except _broken() as problem:
            self._drop()
            raise LostReply(str(problem) or type(problem).__name__) from problem
        return block or (self._checked_end() if n_bytes > 0 else b"")

    def some(self) -> bytes:
        try:
            block = self._answer.read1(BLOCK_BYTES)
        except _broken() as problem:
            self._drop()
            raise LostReply(str(problem) or type(problem).__name__) from problem
        return block or self._checked_end()

    def _checked_end(self) -> bytes:
        """Nothing. Raises LostReply: bytes were promised that did not come; `http.client` notices it only when
        everything is read at once."""
        if self._answer.length:
            self._drop()
            raise LostReply(f"{self._answer.length} bytes never came")
        return b""

    def close(self) -> None:
        """Give the answer up; a body that was not read to its end takes the connection with it."""
        if not self._answer.isclosed():
            self._answer.close()
            self._drop()


def _broken() -> tuple[type[Exception], ...]:
    from http.client import HTTPException

    return (OSError, HTTPException)
