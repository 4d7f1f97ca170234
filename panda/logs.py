"""One formatter for every process: a constant event, then its facts as key=value."""

import logging
import sys
import time
from typing import Any


class Facts(logging.Formatter):
    """`2026-11-22T17:24:08Z INFO panda.relay relayed groups=3 jobs=1200`."""

    def __init__(self) -> None:
        super().__init__("%(asctime)sZ %(levelname)s %(name)s %(message)s", "%Y-%m-%dT%H:%M:%S")
        self.converter = time.gmtime

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        facts: dict[str, Any] = getattr(record, "facts", {})
        return line + "".join(f" {key}={value}" for key, value in facts.items())


class Log:
    """`log.info("job moved", panda_id=42)`: the event is constant, facts stand beside it."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, event: str, **facts: Any) -> None:
        self._logger.debug(event, extra={"facts": facts})

    def info(self, event: str, **facts: Any) -> None:
        self._logger.info(event, extra={"facts": facts})

    def warning(self, event: str, **facts: Any) -> None:
        self._logger.warning(event, extra={"facts": facts})

    def error(self, event: str, **facts: Any) -> None:
        self._logger.error(event, extra={"facts": facts})

    def exception(self, event: str, **facts: Any) -> None:
        self._logger.exception(event, extra={"facts": facts})


def setup(level: str = "INFO") -> None:
    """Send this process's log to stderr in our format. Call once, at the edge of a process."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Facts())
    logging.basicConfig(level=level, handlers=[handler], force=True)
