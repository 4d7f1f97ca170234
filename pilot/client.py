"""HTTP to the PanDA server: one persistent connection per thread, errors sorted by what to do.

`ServerAway` is worth another try, `Refused` is not, `TokenRefused` ends the pilot.
"""

from __future__ import annotations

import http.client
import json
import random
import socket
import threading
from pathlib import Path
from typing import Any, BinaryIO, Dict, Mapping, Optional

from pilot.errors import Refused, ServerAway, TokenRefused
from pilot.route import Route

CONNECT_AND_READ_S = 30.0
"""Seconds of silence on a connection after which an answer counts as lost."""


class Backoff:
    """Waiting times between tries: 0.5 s doubling to 30 s, with jitter; `Retry-After` is honoured."""

    def __init__(self, first_s: float = 0.5, most_s: float = 30.0) -> None:
        self._first_s, self._most_s = first_s, most_s
        self._next_s = first_s

    def reset(self) -> None:
        """An answer came: the next silence starts small again."""
        self._next_s = self._first_s

    def next_s(self, retry_after_s: float = 0.0) -> float:
        """Seconds to wait now."""
        wait_s, self._next_s = self._next_s, min(self._most_s, self._next_s * 2)
        # Jitter keeps a site's pilots from coming back in step.
        return max(wait_s * random.uniform(0.5, 1.0), min(retry_after_s, 300.0))


class Token:
    """The pilot's bearer token; from a file it is read again when the server refuses it."""

    def __init__(self, value: str = "", path: Optional[Path] = None) -> None:
        self._path = path
        self.value = value or self._read()

    def _read(self) -> str:
        return self._path.read_text(encoding="ascii").strip() if self._path else ""

    def renew(self, refused: str) -> bool:
        """Read the file again. Returns whether there is another token than the refused one (it may
        have been rotated, and another thread may have noticed first)."""
        try:
            fresh = self._read()
        except OSError:
            fresh = ""
        if fresh:
            self.value = fresh
        return self.value != refused


class Client:
    """The way to the server and our token; every thread that asks gets its own connection."""

    def __init__(self, route: Route, token: Token, agent: str) -> None:
        self._route = route
        self._token = token
        self._agent = agent
        self._local = threading.local()

    def post(self, path: str, message: Mapping[str, Any], timeout_s: float = CONNECT_AND_READ_S) -> Any:
        """Send JSON, return the decoded answer.

        Raises: ServerAway, Refused, TokenRefused.
        """
        body = json.dumps(message, separators=(",", ":")).encode()
        return self._json("POST", path, body, {"Content-Type": "application/json"}, timeout_s)

    def get(self, path: str) -> Any:
        """The decoded answer. Raises as `post`."""
        return self._json("GET", path, None, {}, CONNECT_AND_READ_S)

    def put(self, path: str, body: bytes, headers: Mapping[str, str]) -> Any:
        """Send raw bytes, return the decoded answer. Raises as `post`."""
        sent = {"Content-Type": "application/octet-stream", **headers}
        return self._json("PUT", path, body, sent, CONNECT_AND_READ_S)

    def download(self, path: str, into: BinaryIO, most_bytes: int) -> int:
        """Write the body of the answer into a file; returns its size in bytes.

        Raises: ServerAway, Refused (also when there are more than `most_bytes`), TokenRefused.
        """
        response = self._ask("GET", path, None, {}, CONNECT_AND_READ_S)
        n_bytes = 0
        while True:
            try:
                chunk = response.read(1 << 20)
            except (OSError, http.client.HTTPException) as error:
                self._hang_up()
                raise ServerAway(f"download of {path} broke off: {error}") from error
            if not chunk:
                return n_bytes
            n_bytes += len(chunk)
            if n_bytes > most_bytes:
                self._hang_up()
                raise Refused(413, "too_large", f"{path} has more than {most_bytes} bytes")
            into.write(chunk)

    def _json(self, method: str, path: str, body: Optional[bytes], headers: Dict[str, str], timeout_s: float) -> Any:
        response = self._ask(method, path, body, headers, timeout_s)
        try:
            return json.loads(response.read() or b"{}")
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._hang_up()
            raise ServerAway(f"answer to {method} {path} is not whole: {error}") from error

    def _ask(
        self, method: str, path: str, body: Optional[bytes], headers: Dict[str, str], timeout_s: float
    ) -> http.client.HTTPResponse:
        """An answer with status 2xx, its body unread; every other status becomes an exception."""
        token = self._token.value
        response = self._exchange(method, path, body, headers, timeout_s)
        if response.status == 401 and self._token.renew(token):
            response.read()
            response = self._exchange(method, path, body, headers, timeout_s)
        if 200 <= response.status < 300:
            return response
        try:
            raw = response.read()
        except (OSError, http.client.HTTPException):
            raw = b""
            self._hang_up()
        try:
            problem = json.loads(raw)
            if not isinstance(problem, dict):
                raise ValueError
        except ValueError:
            problem = {"detail": raw[:200].decode("utf-8", "replace")}
        status, code = response.status, str(problem.get("code", ""))
        detail = str(problem.get("detail") or problem.get("title") or response.reason)
        if status >= 500 or status in (408, 425, 429):
            raise ServerAway(f"HTTP {status} from {method} {path}: {detail}", _retry_after_s(response))
        size = problem.get("size_bytes", 0)
        size_bytes = size if isinstance(size, int) else 0
        # A stale lease token is 403 or 409 on one job's log; it says nothing about the pilot's token.
        if status in (401, 403) and code != "stale_lease":
            raise TokenRefused(status, code, detail)
        raise Refused(status, code, detail, size_bytes)

    def _exchange(
        self, method: str, path: str, body: Optional[bytes], headers: Dict[str, str], timeout_s: float
    ) -> http.client.HTTPResponse:
        """One request and the head of its answer; an idle connection that the server closed is
        opened anew once (every request of the contract may be repeated)."""
        sent = {
            "Authorization": f"Bearer {self._token.value}",
            "User-Agent": self._agent,
            **self._route.headers,
            **headers,
        }
        while True:
            connection: Optional[http.client.HTTPConnection] = getattr(self._local, "connection", None)
            is_reused = connection is not None
            try:
                if connection is None:
                    connection = self._open()
                connection.timeout = timeout_s
                if connection.sock is None:
                    connection.connect()
                connection.sock.settimeout(timeout_s)
                connection.request(method, self._route.target(path), body, sent)
                return connection.getresponse()
            except (OSError, http.client.HTTPException) as error:
                self._hang_up()
                if is_reused and not isinstance(error, socket.timeout):
                    continue
                raise ServerAway(f"{method} {path}: {error or type(error).__name__}") from error

    def _open(self) -> http.client.HTTPConnection:
        connection = self._route.open()
        self._local.connection = connection
        return connection

    def _hang_up(self) -> None:
        connection = getattr(self._local, "connection", None)
        self._local.connection = None
        if connection is not None:
            connection.close()


def _retry_after_s(response: http.client.HTTPResponse) -> float:
    """Seconds from `Retry-After`; the form with a date counts as unset."""
    try:
        return max(0.0, float(response.getheader("Retry-After") or 0))
    except ValueError:
        return 0.0
