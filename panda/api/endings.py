"""The end of this process, told to calls that would go on for ever.

The server has its own handlers for signals, and waits for every call that is under way. Python also writes each
signal's number into a pipe, whoever handles it: from there we know.
"""

import os
import signal
import threading
from collections.abc import Callable

#: What is called when the process is told to end.
endings: list[Callable[[], None]] = []


def hear_signals() -> None:
    """Call the endings at SIGTERM and SIGINT. Only in the main thread, once, by the process itself."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_wait, args=(reader,), name="endings", daemon=True).start()


def _wait(reader: int) -> None:
    while number := os.read(reader, 1):
        if number[0] in (signal.SIGTERM, signal.SIGINT):
            for end in endings:
                end()
