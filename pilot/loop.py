"""The pilot's one loop: signals, calls from other threads, and the time until the next duty."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections import deque
from typing import Any, Callable, Deque, List, Tuple

Call = Tuple[Callable[..., None], Tuple[Any, ...]]


class Loop:
    """Sleeps in poll() until a child ends, a signal comes or another thread calls.

    Signals arrive through the wake-up descriptor, so nothing runs inside a handler and no
    system call of ours is cut short.
    """

    def __init__(self) -> None:
        self._calls: Deque[Call] = deque()
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._poll = select.poll()
        self._poll.register(self._reader, select.POLLIN)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)

    def listen(self, *signals: signal.Signals) -> None:
        """From now on `wait` returns the numbers of these signals."""
        for number in signals:
            signal.signal(number, lambda _number, _frame: None)

    def call(self, function: Callable[..., None], *args: Any) -> None:
        """Have the loop's thread call `function(*args)`; safe from every thread."""
        self._calls.append((function, args))
        # A full pipe (EAGAIN) already wakes the loop.
        with contextlib.suppress(BlockingIOError):
            os.write(self._writer, b"\0")

    def wait(self, timeout_s: float) -> List[int]:
        """Sleep at most `timeout_s`, make the calls that came in, return the signals that did."""
        signals: List[int] = []
        if self._poll.poll(max(0.0, timeout_s) * 1000 if not self._calls else 0):
            with contextlib.suppress(BlockingIOError):
                signals = [number for number in os.read(self._reader, 4096) if number]
        for _ in range(len(self._calls)):
            function, args = self._calls.popleft()
            function(*args)
        return signals
