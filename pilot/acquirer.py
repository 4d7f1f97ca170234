"""The acquirer: asks the server for jobs, one request at a time, in a thread of its own.

An answer that got lost is asked for again with the same `request_id`, so jobs that the server
gave away in it come back instead of waiting for their lease to run out.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
import uuid
from typing import Any, Callable, Dict, Optional

from pilot.client import CONNECT_AND_READ_S, Backoff, Client
from pilot.errors import Refused, ServerAway
from pilot.wire import AcquireReply

log = logging.getLogger("pilot.acquirer")

Ask = Dict[str, Any]
"""An AcquireRequest without its `request_id`."""


class Acquirer:
    """`ask` once, and `answered` is called once: with a reply, or with the server's refusal."""

    def __init__(
        self, client: Client, answered: Callable[[AcquireReply], None], refused: Callable[[Refused], None]
    ) -> None:
        self._client = client
        self._answered = answered
        self._refused = refused
        self._asks: queue.SimpleQueue[Ask] = queue.SimpleQueue()
        self._silent_since: Optional[float] = None
        threading.Thread(target=self._run, name="acquirer", daemon=True).start()

    def ask(self, ask: Ask) -> None:
        """Ask for jobs; not again before the answer is there."""
        self._asks.put(ask)

    def silent_s(self) -> float:
        """Seconds since the server stopped answering; 0 while it does."""
        since = self._silent_since
        return 0.0 if since is None else time.monotonic() - since

    def _run(self) -> None:
        while True:
            ask = self._asks.get()
            try:
                reply = self._until_answered({**ask, "request_id": str(uuid.uuid4())})
            except Refused as refusal:
                self._refused(refusal)
            else:
                self._answered(reply)

    def _until_answered(self, request: Dict[str, Any]) -> AcquireReply:
        backoff = Backoff()
        while True:
            try:
                answer = self._client.post(
                    "/v1/pilots/acquire", request, timeout_s=request["wait_s"] + CONNECT_AND_READ_S
                )
                reply = AcquireReply.read(answer)
                self._silent_since = None
                return reply
            except ServerAway as away:
                why, retry_after_s = str(away), away.retry_after_s
            except Refused:
                raise
            except Exception as error:  # the edge of the thread: it must not end silently
                why, retry_after_s = f"an answer that is none ({error!r})", 0.0
            self._silent_since = self._silent_since or time.monotonic()
            wait_s = backoff.next_s(retry_after_s)
            log.warning("asking for jobs: %s; next try in %.1f s", why, wait_s)
            time.sleep(wait_s)
