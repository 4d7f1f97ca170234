"""A few threads that do slow work (copies, uploads) beside the pilot's loop."""

from __future__ import annotations

import logging
import queue
import threading
from typing import Callable

log = logging.getLogger("pilot.crew")

Work = Callable[[], None]


class Crew:
    """Does pieces of work in order of arrival, `n_hands` at a time.

    Unlike `concurrent.futures`, its threads are daemons: a copy that hangs on a dead file
    system must not keep the pilot from leaving.
    """

    def __init__(self, name: str, n_hands: int) -> None:
        self._name = name
        self._n_hands = n_hands
        self._n_started = 0
        self._n_idle = 0
        self._lock = threading.Lock()
        self._work: queue.SimpleQueue[Work] = queue.SimpleQueue()

    def submit(self, work: Work) -> None:
        """Do `work` soon; it answers for its own exceptions."""
        self._work.put(work)
        with self._lock:
            if self._n_idle == 0 and self._n_started < self._n_hands:
                self._n_started += 1
                name = f"{self._name}-{self._n_started}"
                threading.Thread(target=self._hand, name=name, daemon=True).start()

    def _hand(self) -> None:
        while True:
            with self._lock:
                self._n_idle += 1
            work = self._work.get()
            with self._lock:
                self._n_idle -= 1
            try:
                work()
            except Exception:  # the edge of the thread: the pilot lives on, the log tells
                log.exception("work of %s failed", self._name)
