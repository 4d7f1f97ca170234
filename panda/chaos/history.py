"""What was tried and what came of it, one line of JSON each: the history that the proof is read from."""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

Outcome = Literal["ok", "fail", "unknown"]


class Operation:
    """One thing that is being tried. `unknown`: no answer came, so it may have been done or not."""

    def __init__(self) -> None:
        self.outcome: Outcome = "unknown"
        self.facts: dict[str, Any] = {}

    def ok(self, **facts: Any) -> None:
        self.outcome = "ok"
        self.facts |= facts

    def fail(self, **facts: Any) -> None:
        self.outcome = "fail"
        self.facts |= facts


class History:
    """Appends to a file. Threads share one; times are seconds since it began."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.counts: Counter[tuple[str, Outcome]] = Counter()
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self._lines = file.open("w", encoding="utf-8")

    @property
    def now_s(self) -> float:
        return time.monotonic() - self._began

    @contextmanager
    def operation(self, name: str, by: str, **facts: Any) -> Iterator[Operation]:
        """Write down what happens in this block; what it raises is an outcome `unknown` and rises on."""
        operation, start_s = Operation(), self.now_s
        operation.facts |= facts
        try:
            yield operation
        except Exception as problem:
            operation.facts["problem"] = repr(problem)[:200]
            raise
        finally:
            self._write(name, by, start_s, operation)

    def close(self) -> None:
        self._lines.close()

    def _write(self, name: str, by: str, start_s: float, operation: Operation) -> None:
        line = {"op": name, "by": by, "start_s": round(start_s, 3), "end_s": round(self.now_s, 3),
                "outcome": operation.outcome, **operation.facts}  # fmt: skip
        with self._lock:
            self.counts[name, operation.outcome] += 1
            self._lines.write(json.dumps(line, default=str) + "\n")
            self._lines.flush()
