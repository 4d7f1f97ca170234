"""PanDA's logger: a standard `logging` handler that sends warnings and worse to the server as incidents.

The process that it serves never waits for it: a record is folded into a small table in memory and a thread
sends what gathered. When the server is away the table keeps counting; when it is full, what is new is counted
as dropped and told with the next report, as is what the server refuses. Whatever goes wrong in here is kept in here.
"""

import http.client
import json
import logging
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from panda.logs import Log
from panda.settings import Settings

log = Log("panda.incident_log")

MAX_KEYS = 500
FLUSH_S = 2.0
LONGEST_PAUSE_S = 60.0
TIMEOUT_S = 5.0
MAX_TEXT = 500
#: Incidents that one request carries.
BATCH = 100
#: Statuses of a server that may take the same report later; what it refuses otherwise it would refuse again.
AGAIN = (401, 403, 408, 429)
LEVELS = ("info", "warning", "error", "critical")


@dataclass
class _Folded:
    component: str
    level: str
    key: str
    message: str
    n: int
    context: dict[str, str]


class IncidentHandler(logging.Handler):
    """Ships what is logged at `level` or above. Add it to a logger like any handler."""

    def __init__(self, component: str, url: str, token: str, *, level: int = logging.WARNING) -> None:
        """`url`: of the API; `token`: of a role that may report incidents."""
        super().__init__(level)
        self._component, self._url, self._token = component, urlsplit(url), token
        self._dropped = f"{component}: incidents dropped"
        self._gathered: dict[str, _Folded] = {}
        self._n_dropped = 0
        self._guard = threading.Lock()
        self._wake = threading.Event()
        self._pid = 0
        self._is_closed = False
        os.register_at_fork(after_in_child=self._after_fork)

    def emit(self, record: logging.LogRecord) -> None:
        """Fold the record and return at once."""
        try:
            event = record.getMessage()
            facts: dict[str, Any] = getattr(record, "facts", {})
            context = {str(name)[:100]: str(value)[:MAX_TEXT] for name, value in list(facts.items())[:20]}
            if record.exc_info and record.exc_info[0] is not None:
                context["exception"] = f"{record.exc_info[0].__name__}: {record.exc_info[1]}"[:MAX_TEXT]
            context = {_clean(name): _clean(value) for name, value in context.items()}
            told = (event + "".join(f" {name}={value}" for name, value in context.items()))[:MAX_TEXT]
            key = f"{record.name}: {record.msg}"[:200]
            told = _clean(told) or "(empty)"
            self._fold(_Folded(self._component, _level(record.levelno), _clean(key), told, 1, context))
        except Exception:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """A record that cannot be folded is dropped; nobody is told, since telling would be logging."""
        self._n_dropped += 1

    def flush(self) -> None:
        """Nothing waits here: the thread is woken."""
        self._wake.set()

    def close(self) -> None:
        """One last, short try to send what gathered."""
        if not self._is_closed:
            self._is_closed = True
            self._wake.set()
            if self._pid == os.getpid():
                self._send(timeout_s=1.0)
        super().close()

    def _fold(self, new: _Folded) -> None:
        with self._guard:
            known = self._gathered.get(new.key)
            if known is not None:
                known.n += 1
                known.message, known.context = new.message, new.context
                known.level = max(known.level, new.level, key=LEVELS.index)
            elif len(self._gathered) < MAX_KEYS:
                self._gathered[new.key] = new
            else:
                self._n_dropped += 1
            if self._pid != os.getpid() and not self._is_closed:
                self._pid = os.getpid()
                threading.Thread(target=self._run, name="incidents", daemon=True).start()

    def _run(self) -> None:
        pause_s = FLUSH_S
        while not self._is_closed:
            self._wake.wait(pause_s)
            self._wake.clear()
            pause_s = FLUSH_S if self._send(TIMEOUT_S) else min(2 * pause_s, LONGEST_PAUSE_S)
            if pause_s > FLUSH_S:
                time.sleep(min(pause_s, FLUSH_S))

    def _send(self, timeout_s: float) -> bool:
        """Whether everything that had gathered is gone."""
        with self._guard:
            batch = list(self._gathered.values())[:BATCH]
            for each in batch:
                del self._gathered[each.key]
            n_dropped, self._n_dropped = self._n_dropped, 0
        if n_dropped:
            message = f"{n_dropped} incidents were dropped: too many kinds at once, or refused by the server"
            batch.append(_Folded(self._component, "warning", self._dropped, message, n_dropped, {}))
        return self._deliver(batch, timeout_s)

    def _deliver(self, batch: list[_Folded], timeout_s: float) -> bool:
        """Whether all of `batch` is gone. A batch that is refused goes in halves: one that the server cannot take keeps
        nobody else from arriving."""
        if not batch:
            return True
        status = self._post(batch, timeout_s)
        if status is None or status >= 500 or status in AGAIN:
            for each in batch:
                self._put_back(each)
            return False
        if status < 400:
            return True
        if len(batch) > 1:
            half = len(batch) // 2
            return all([self._deliver(batch[:half], timeout_s), self._deliver(batch[half:], timeout_s)])
        if batch[0].key != self._dropped:
            with self._guard:
                self._n_dropped += batch[0].n
        return True

    def _put_back(self, each: _Folded) -> None:
        with self._guard:
            newer = self._gathered.get(each.key)
            if newer is not None:
                newer.n += each.n
            elif len(self._gathered) < MAX_KEYS + 1:
                self._gathered[each.key] = each
            else:
                self._n_dropped += each.n

    def _post(self, batch: list[_Folded], timeout_s: float) -> int | None:
        """The status of the answer; None: there was none."""
        body = json.dumps({"incidents": [vars(each) for each in batch]}).encode()
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._token}"}
        kind = http.client.HTTPSConnection if self._url.scheme == "https" else http.client.HTTPConnection
        try:
            connection = kind(self._url.hostname or "127.0.0.1", self._url.port, timeout=timeout_s)
            try:
                connection.request("POST", f"{self._url.path.rstrip('/')}/v1/incidents", body, headers)
                return connection.getresponse().status
            finally:
                connection.close()
        except (OSError, http.client.HTTPException):
            return None

    def _after_fork(self) -> None:
        """The child has no thread and perhaps a held lock; it starts anew, the parent keeps what gathered."""
        self._guard, self._wake = threading.Lock(), threading.Event()
        self._gathered, self._n_dropped, self._pid = {}, 0, 0


def _clean(text: str) -> str:
    """The text without what no database holds: the server would refuse all of it for one character."""
    return text.replace("\x00", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


def _level(number: int) -> str:
    if number >= logging.CRITICAL:
        return "critical"
    if number >= logging.ERROR:
        return "error"
    return "warning" if number >= logging.WARNING else "info"


def install(component: str, settings: Settings) -> IncidentHandler | None:
    """Let this process report itself: its log's warnings become incidents. Call once, after `logs.setup`.

    The token is that of the pilots of this installation; without its file nothing is sent (None), and the log says so.
    """
    file = Path(settings.data_dir) / "pilot-token"
    try:
        token = file.read_text(encoding="utf-8").strip()
    except OSError as problem:
        log.warning("warnings of this process do not become incidents", component=component, file=file,
                    problem=problem.strerror)  # fmt: skip
        return None
    host = "127.0.0.1" if settings.api.host in ("0.0.0.0", "::") else settings.api.host
    handler = IncidentHandler(component, f"http://{host}:{settings.api.port}", token)
    logging.getLogger().addHandler(handler)
    return handler
