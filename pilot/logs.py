"""A job's logs on the node (payload.stdout, payload.stderr, pilot.log) and their way to the server.

A log is cut at its cap: what the payload writes beyond is dropped, with a note at the end, and
the payload goes on. Only one that writes `RUNAWAY_FACTOR` times the cap is failed.
"""

from __future__ import annotations

import os
import threading
import time
from datetime import datetime, timezone
from typing import Callable, List, NamedTuple, Optional, Tuple, Union
from urllib.parse import quote

from pilot.client import Backoff, Client
from pilot.errors import Abandoned, Refused, ServerAway, TokenRefused

CHUNK_BYTES = 1 << 20
"""Largest body of one upload."""

RUNAWAY_FACTOR = 20
"""A payload that wrote this many times the cap is ended with STDOUTTOOBIG."""


WATCHED_S = 30.0
"""A log that somebody reads now is sent every second for so long after the server said so."""


class FileLog:
    """What a payload writes to one of its two streams.

    It is read through the descriptor that the pilot opened, whatever the payload does to the
    name in its folder.
    """

    def __init__(self, name: str, folder: str, cap_bytes: int) -> None:
        self.name = name
        self.shipped_bytes = 0
        self.dropped_bytes = 0
        self._cap_bytes = cap_bytes
        self._is_finished = False
        self.descriptor = os.open(
            os.path.join(folder, name), os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )

    def size_bytes(self) -> int:
        """How much there is to ship by now; what exceeds the cap will be cut."""
        size_bytes = os.fstat(self.descriptor).st_size
        return size_bytes if self._is_finished else min(size_bytes, self._cap_bytes)

    def cut(self) -> bool:
        """Drop what exceeds the cap. Returns whether the payload writes without end."""
        excess_bytes = os.fstat(self.descriptor).st_size - self._cap_bytes
        if excess_bytes > 0:
            os.ftruncate(self.descriptor, self._cap_bytes)
            self.dropped_bytes += excess_bytes
        return self.dropped_bytes > RUNAWAY_FACTOR * self._cap_bytes

    def finish(self) -> None:
        """Nobody writes any more: cut for the last time, and say so at the end."""
        self.cut()
        self._is_finished = True
        if self.dropped_bytes:
            note = f"\n[pilot: cut here at {self._cap_bytes} bytes; {self.dropped_bytes} more were dropped]\n"
            os.write(self.descriptor, note.encode())

    def read(self, offset: int, n_bytes: int) -> bytes:
        """Bytes from `offset` on; fewer at the end."""
        return os.pread(self.descriptor, n_bytes, offset)

    def close(self) -> None:
        """Give the descriptor back."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


class PilotLog:
    """What the pilot did for a job: short lines with the time in UTC, kept in memory."""

    name = "pilot.log"

    def __init__(self, text: str = "") -> None:
        self.shipped_bytes = 0
        self.is_notable = False  #: says something that the job's final report does not
        self._fresh: List[Tuple[float, str]] = []  #: lines that nobody asked for yet
        self._text = text.encode()

    def line(self, text: str, notable: bool = False) -> None:
        """Write a line."""
        self._fresh.append((time.time(), text))
        self.is_notable = self.is_notable or notable

    def text(self) -> str:
        """All of it."""
        return self._written().decode()

    def _written(self) -> bytes:
        # Most logs are never shipped, so the lines are put into words only now.
        while self._fresh:
            at_s, text = self._fresh.pop(0)
            at = datetime.fromtimestamp(at_s, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
            self._text += f"{at}Z {text}\n".encode("utf-8", "replace")
        return self._text

    def size_bytes(self) -> int:
        """As of `FileLog`."""
        return len(self._written())

    def read(self, offset: int, n_bytes: int) -> bytes:
        """As of `FileLog`."""
        return self._written()[offset : offset + n_bytes]


Log = Union[FileLog, PilotLog]


class Attempt(NamedTuple):
    """Whose logs they are, and the lease that lets us write them."""

    panda_id: int
    attempt_nr: int
    token: str


class Shipper:
    """Sends the logs of one job, from where the server has them."""

    def __init__(self, client: Client, attempt: Attempt, stop: threading.Event) -> None:
        self._client = client
        self._attempt = attempt
        self._stop = stop
        self.watched_until = 0.0  #: somebody reads along (monotonic seconds)
        self.lock = threading.Lock()  #: held while a log is being read
        self._is_stale = False

    def ship(self, log: Log) -> None:
        """Send what has grown.

        Raises: ServerAway, Refused (this log will never be taken), TokenRefused,
            Abandoned (the lease is gone, or the job is forgotten).
        """
        with self.lock:
            size_bytes = log.size_bytes()
            n_gaps = 0
            while log.shipped_bytes < size_bytes:
                if self._is_stale or self._stop.is_set():
                    raise Abandoned
                chunk = log.read(log.shipped_bytes, min(CHUNK_BYTES, size_bytes - log.shipped_bytes))
                if not chunk:  # the payload shortened its own log meanwhile
                    return
                try:
                    answer = self._client.put(
                        f"/v1/pilots/logs/{self._attempt.panda_id}/{self._attempt.attempt_nr}/{quote(log.name)}"
                        f"?offset={log.shipped_bytes}",
                        chunk,
                        {"X-Lease-Token": self._attempt.token},
                    )
                    log.shipped_bytes += len(chunk)
                    if not isinstance(answer, dict):
                        continue
                    if answer.get("watched"):
                        self.watched_until = time.monotonic() + WATCHED_S
                    told_bytes = answer.get("size_bytes")
                    if isinstance(told_bytes, int):
                        log.shipped_bytes = told_bytes
                except TokenRefused:
                    raise
                except Refused as refusal:
                    if refusal.code == "stale_lease":
                        self._is_stale = True
                        raise Abandoned from refusal
                    n_gaps += 1
                    if refusal.code != "log_gap" or n_gaps > 3:
                        raise
                    log.shipped_bytes = refusal.size_bytes

    def ship_all(self, logs: List[Log], outage_s: float, remark: Callable[[str], None]) -> bool:
        """Send all there is, also across an outage of `outage_s` seconds; a log that the server
        does not take is left out, with a remark. Returns whether the server was there.

        Raises: Abandoned, TokenRefused.
        """
        backoff = Backoff()
        for log in logs:
            silent_since: Optional[float] = None
            while True:
                try:
                    self.ship(log)
                    break
                except TokenRefused:
                    raise
                except Refused as refusal:
                    remark(f"{log.name} was not taken by the server: {refusal}")
                    break
                except ServerAway as away:
                    now = time.monotonic()
                    silent_since = silent_since or now
                    if now - silent_since > outage_s:
                        remark(f"{log.name} could not be shipped: {away}")
                        return False
                    self._stop.wait(backoff.next_s(away.retry_after_s))
        return True
