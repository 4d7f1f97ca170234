"""A small HTTP server that does as it is told, and how a command that ran in process ended."""

import json
import os
import signal
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer


@dataclass
class Received:
    """A request as it arrived."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Reply:
    """What to answer; a status of 0 breaks the connection, `n_bytes` breaks it after so many of the body."""

    status: int = 200
    document: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    n_bytes: int | None = None
    reads_body: bool = True
    interrupts: bool = False
    """Somebody presses Ctrl-C while this answer is under way, which then never ends."""

    @property
    def body(self) -> bytes:
        return self.document if isinstance(self.document, bytes) else json.dumps(self.document).encode()


class Scripted:
    """Answers each request with what `on` registered for it, in order; the last one again and again."""

    url = ""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.n_connections = 0
        self.over = threading.Event()
        self._replies: dict[tuple[str, str], list[Reply]] = {}
        self._lock = threading.Lock()

    def on(self, method: str, path: str, *replies: Reply | Any) -> None:
        self._replies[method, path] = [each if isinstance(each, Reply) else Reply(document=each) for each in replies]

    def next_reply(self, method: str, target: str) -> Reply:
        with self._lock:
            exact = self._replies.get((method, target))
            replies = exact or self._replies.get((method, target.partition("?")[0]))
            if not replies:
                return Reply(404, {"code": "not_found", "detail": f"there is no {target}", "request_id": "r0"})
            return replies.pop(0) if len(replies) > 1 else replies[0]

    def targets(self, method: str) -> list[str]:
        return [each.target for each in self.received if each.method == method]


def handler_of(script: Scripted) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            script.n_connections += 1
            super().setup()

        def answer(self) -> None:
            reply = script.next_reply(self.command, self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)) if reply.reads_body else b""
            script.received.append(Received(self.command, self.path, dict(self.headers), body))
            if reply.interrupts and reply.n_bytes is None:
                interrupt(script)
                return
            if reply.status == 0:
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
            self.send_response(reply.status)
            content = reply.body
            for name, value in {"Content-Length": str(len(content)), **reply.headers}.items():
                self.send_header(name, value)
            if not reply.reads_body:
                self.send_header("Connection", "close")
                self.close_connection = True
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content[: reply.n_bytes])
                self.wfile.flush()
            if reply.interrupts:
                interrupt(script)
            if reply.n_bytes is not None:
                self.close_connection = True

        do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = answer

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


class ThreadingServer(ThreadingMixIn, WSGIServer):
    """For the real API on a socket."""

    daemon_threads = True


class Silent(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


def interrupt(script: Scripted) -> None:
    """Ctrl-C for this process; then no word until the test is over."""
    os.kill(os.getpid(), signal.SIGINT)
    script.over.wait(20)


@dataclass
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Panda = Callable[..., Ended]
