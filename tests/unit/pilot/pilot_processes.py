"""What tests ask about processes and files that appear and go."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def is_alive(pid: int) -> bool:
    """It runs, and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def await_true(look: Callable[[], Any], within_s: float, otherwise: str) -> Any:
    """What `look` answers, as soon as that is something."""
    deadline = time.monotonic() + within_s
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.02)


def wait_for_file(path: Path, within_s: float = 10) -> str:
    """The content of a file that a payload writes."""
    await_true(lambda: path.exists() and path.read_text().strip(), within_s, f"{path} did not appear")
    return path.read_text().strip()
