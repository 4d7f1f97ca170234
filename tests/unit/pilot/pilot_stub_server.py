"""A small real HTTP server that speaks the pilots' part of /v1, and remembers what it was told.

It is of a newer version than the pilot: each answer holds a field that no pilot knows."""

import hashlib
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec

from panda.api import schemas

SCHEMAS: dict[str, Any] = {
    "/v1/pilots/acquire": schemas.AcquireRequest,
    "/v1/pilots/update": schemas.UpdateRequest,
    "/v1/pilots/heartbeat": schemas.HeartbeatRequest,
}

TOKEN = "pilot-token-of-the-test"
FINAL = {"finished", "failed", "cancelled"}
NEW = {"new_field": {"a": [1]}}


@dataclass
class Book:
    """Everything the stub knows; tests read it under `changed`."""

    waiting: list[dict[str, Any]] = field(default_factory=list)
    given: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    acquires: list[dict[str, Any]] = field(default_factory=list)
    updates: list[list[dict[str, Any]]] = field(default_factory=list)
    beats: list[list[dict[str, Any]]] = field(default_factory=list)
    finals: dict[int, dict[str, Any]] = field(default_factory=dict)
    statuses: dict[int, list[str]] = field(default_factory=dict)
    logs: dict[tuple[int, str], bytes] = field(default_factory=dict)
    puts: list[tuple[str, int, int]] = field(default_factory=list)
    sandboxes: dict[str, bytes] = field(default_factory=dict)
    outcomes: dict[int, str] = field(default_factory=dict)
    commands: dict[int, str] = field(default_factory=dict)
    faults: list[Callable[[str], bool]] = field(default_factory=list)
    unreadable: set[int] = field(default_factory=set)
    """Jobs whose reports are refused, unless they are the pilot's own last resort (1319)."""
    breaches: list[str] = field(default_factory=list)
    """Requests that the real server would not have understood."""
    said: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What pilots told last of their node (`environment`) and of their end (`end`)."""
    clock_skew_s: float = 0
    queue_options: list[str] | None = None
    """What the queue says to its pilots; None: the server is of a release that does not tell."""
    watched: bool = False
    url: str = ""
    token: str = TOKEN
    heartbeat_s: float = 30
    changed: threading.Condition = field(default_factory=threading.Condition)


class StubServer:
    """Serves `book` on a free port, or on a given one."""

    def __init__(self, book: Book, port: int = 0) -> None:
        self.book = book
        handler = type("BoundHandler", (Handler,), {"book": book})
        self._httpd = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self._httpd.daemon_threads = True
        self.port = self._httpd.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        book.url = self.url
        self._thread = threading.Thread(target=self._httpd.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._httpd.shutdown()
        self._httpd.server_close()
        self._thread.join()


class Handler(BaseHTTPRequestHandler):
    book: Book
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        self._serve()

    def do_PUT(self) -> None:
        self._serve()

    def do_GET(self) -> None:
        self._serve()

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        if self.headers.get("Authorization") != f"Bearer {self.book.token}":
            return self._problem(401, "unauthorized", "no such token")
        for fault in self.book.faults:
            if fault(parts.path):
                return self._problem(503, "unavailable", "not now")
        if parts.path in SCHEMAS:
            try:
                msgspec.json.decode(body, type=SCHEMAS[parts.path])
            except msgspec.ValidationError as error:
                self.book.breaches.append(f"{parts.path}: {error}")
        with self.book.changed:
            try:
                if parts.path == "/v1/pilots/acquire":
                    answer = self._acquire(json.loads(body))
                elif parts.path == "/v1/pilots/update":
                    ask = json.loads(body)
                    if any(self._is_unreadable(report) for report in ask["reports"]):
                        return self._problem(400, "invalid", "cannot read this")
                    answer = self._update(ask)
                elif parts.path == "/v1/pilots/heartbeat":
                    answer = self._heartbeat(json.loads(body))
                elif parts.path.endswith(("/environment", "/end")):
                    self.book.said[parts.path.rsplit("/", 1)[1]] = json.loads(body)
                    answer = {"now_s": time.time() - self.book.clock_skew_s}
                elif parts.path.startswith("/v1/queues/") and self.book.queue_options is not None:
                    answer = {"pilot_options": self.book.queue_options} | NEW
                elif parts.path.startswith("/v1/pilots/logs/"):
                    return self._log(parts.path, int(parse_qs(parts.query)["offset"][0]), body)
                elif parts.path.startswith("/v1/sandboxes/"):
                    return self._answer(200, self.book.sandboxes[parts.path.rsplit("/", 1)[1]])
                else:
                    return self._problem(404, "not_found", parts.path)
            finally:
                self.book.changed.notify_all()
        if answer is None:  # a lost reply
            self.close_connection = True
            return None
        return self._answer(200, json.dumps(answer).encode())

    def _acquire(self, ask: dict[str, Any]) -> dict[str, Any] | None:
        book = self.book
        book.acquires.append(ask)
        jobs = book.given.get(ask["request_id"])
        if jobs is None:
            book.changed.wait_for(lambda: book.waiting, timeout=ask["wait_s"])
            jobs, book.waiting[:] = book.waiting[: ask["n"]], book.waiting[ask["n"] :]
            book.given[ask["request_id"]] = jobs
            if any(job.pop("lose_reply", False) for job in jobs):
                return None
        return {"jobs": [job | NEW for job in jobs], "heartbeat_s": book.heartbeat_s, "lease_s": 120} | NEW

    def _result(self, panda_id: int, attempt_nr: int) -> dict[str, Any]:
        return {
            "panda_id": panda_id,
            "attempt_nr": attempt_nr,
            "outcome": self.book.outcomes.get(panda_id, "ok"),
            "command": self.book.commands.get(panda_id),
        } | NEW

    def _is_unreadable(self, report: dict[str, Any]) -> bool:
        return report["panda_id"] in self.book.unreadable and report.get("error_code") != 1319

    def _update(self, ask: dict[str, Any]) -> dict[str, Any]:
        self.book.updates.append(ask["reports"])
        for report in ask["reports"]:
            self.book.statuses.setdefault(report["panda_id"], []).append(report["status"])
            if report["status"] in FINAL:
                self.book.finals[report["panda_id"]] = report
        return {"results": [self._result(r["panda_id"], r["attempt_nr"]) for r in ask["reports"]]}

    def _heartbeat(self, ask: dict[str, Any]) -> dict[str, Any]:
        self.book.beats.append(ask["beats"])
        return {"results": [self._result(b["panda_id"], b["attempt_nr"]) for b in ask["beats"]]}

    def _log(self, path: str, offset: int, body: bytes) -> None:
        panda_id, _attempt_nr, name = path.split("/")[4:]
        key = (int(panda_id), name)
        self.book.puts.append((name, offset, len(body)))
        if not self.headers.get("X-Lease-Token", "").startswith("lease-"):
            return self._problem(403, "stale_lease", "no such lease")
        has = self.book.logs.setdefault(key, b"")
        if offset != len(has):
            return self._problem(409, "log_gap", "a gap", size_bytes=len(has))
        self.book.logs[key] += body
        size_bytes = len(self.book.logs[key])
        return self._answer(200, json.dumps({"size_bytes": size_bytes, "watched": self.book.watched} | NEW).encode())

    def _problem(self, status: int, code: str, detail: str, **more: Any) -> None:
        problem = {"type": "about:blank", "title": code, "status": status, "code": code, "detail": detail}
        self._answer(status, json.dumps({**problem, **more}).encode())

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def make_job(panda_id: int, *command: str, **more: Any) -> dict[str, Any]:
    """A PilotJob as it travels."""
    return {
        "panda_id": panda_id,
        "attempt_nr": 1,
        "token": f"lease-{panda_id}",
        "command": list(command) or ["/bin/true"],
        "env": {},
        "sandbox": None,
        "cores": 1,
        "memory_mb": 500,
        "disk_mb": 100,
        "walltime_s": 60,
        "inputs": [],
        "outputs": [],
        **more,
    }


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def wait_until(book: Book, condition: Callable[[], Any], timeout_s: float = 60) -> None:
    """Sleep until the book says so."""
    deadline = time.monotonic() + timeout_s
    with book.changed:
        while not condition():
            assert time.monotonic() < deadline, "the pilot did not do it in time"
            book.changed.wait(0.2)
