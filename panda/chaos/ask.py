"""One HTTP call as a simple client makes it: no second try of its own, so that what happened is known."""

import http.client
import json
import threading
from typing import Any, NamedTuple
from urllib.parse import urlsplit


class Answer(NamedTuple):
    """What came back. `status` 0: nothing did, and nobody knows whether it was done."""

    status: int
    body: dict[str, Any]
    retry_after_s: float

    @property
    def is_ok(self) -> bool:
        return 200 <= self.status < 300


NOTHING = Answer(0, {}, 0.0)


class Line:
    """Calls to one address in one name; a connection for each thread."""

    def __init__(self, url: str, token: str, *, timeout_s: float = 10.0) -> None:
        parts = urlsplit(url)
        self.host, self.port = str(parts.hostname), int(parts.port or 80)
        self._headers = {"Authorization": f"Bearer {token}"}
        self._timeout_s = timeout_s
        self._own = threading.local()

    def json(self, method: str, path: str, document: Any = None, **headers: str) -> Answer:
        """Send a document, read one."""
        body = b"" if document is None else json.dumps(document).encode()
        return self.send(method, path, body, **{"Content-Type": "application/json", **headers})

    def send(self, method: str, path: str, body: bytes, **headers: str) -> Answer:
        """Send bytes, read a document."""
        named = self._headers | {name.replace("_", "-"): text for name, text in headers.items()}
        try:
            connection = self._connection()
            connection.request(method, path, body, named)
            answer = connection.getresponse()
            said = answer.read()
        except (OSError, http.client.HTTPException):
            self.hang_up()
            return NOTHING
        try:
            found = json.loads(said) if said else {}
        except ValueError:
            found = {}
        waits = answer.headers.get("Retry-After", "")
        return Answer(answer.status, found, float(waits) if waits.isdigit() else 0.0)

    def hang_up(self) -> None:
        """Close this thread's connection."""
        connection = getattr(self._own, "connection", None)
        if connection is not None:
            connection.close()
            self._own.connection = None

    def _connection(self) -> http.client.HTTPConnection:
        connection = getattr(self._own, "connection", None)
        if connection is None:
            connection = http.client.HTTPConnection(self.host, self.port, timeout=self._timeout_s)
            self._own.connection = connection
        found: http.client.HTTPConnection = connection
        return found
