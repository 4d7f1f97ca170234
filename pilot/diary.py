"""The pilot's own log: to stderr, to a file in its home, and at the end to the server."""

from __future__ import annotations

import logging
import logging.handlers
import os
import sys
import time
from typing import Dict
from urllib.parse import quote

from pilot import __version__
from pilot.checks import Findings
from pilot.client import Client
from pilot.errors import Refused, ServerAway

log = logging.getLogger("pilot")

FORMAT = "%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s %(message)s"
FILE_BYTES = 2_000_000
"""The file in the home is cut to its second half when it reaches this; the end is what people ask for."""

SENT_BYTES = 64_000


def open_log(level: str) -> None:
    """Log to stderr."""
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(stream=sys.stderr, level=level.upper(), format=FORMAT, datefmt="%Y-%m-%dT%H:%M:%S")


class Diary:
    """The file, and what the server hears of this pilot: its node at the start, its end."""

    def __init__(self, client: Client, pilot_id: str, queue: str, path: str) -> None:
        self._client = client
        self._pilot_id = pilot_id
        self._queue = queue
        self._path = path
        self._handler = logging.handlers.RotatingFileHandler(path, maxBytes=FILE_BYTES, backupCount=1)
        self._handler.setFormatter(logging.Formatter(FORMAT, datefmt="%Y-%m-%dT%H:%M:%S"))
        logging.getLogger().addHandler(self._handler)

    def begin(self, found: Findings) -> None:
        """Tell the server what this node is, and hear its time. A server that is away hears it later or never:
        the first request for jobs says so anyhow."""
        asked_at_s = time.time()
        try:
            answer = self._client.post(self._url("environment"), self._words(found), timeout_s=10)
            # What time it is there, we know only now.
            found.skew(float(answer["now_s"]), asked_at_s)
            self._client.post(self._url("environment"), self._words(found), timeout_s=10)
        except (ServerAway, Refused, KeyError, TypeError, ValueError) as error:
            log.warning("the server was not told about this node: %s", error)
        for problem in found.problems:
            log.error("this node cannot work: %s", problem)
        for warning in found.warnings:
            log.warning("%s", warning)

    def end(self, exit_code: int, why: str, is_heard: bool) -> None:
        """Send the end of the log, if the server may hear it; one try, the pilot leaves in any case."""
        log.info("leaving with code %d: %s", exit_code, why)
        self._handler.flush()
        if is_heard:
            message = {"queue": self._queue, "exit_code": exit_code, "why": why[:1000], "log": self._tail()}
            try:
                self._client.post(self._url("end"), message, timeout_s=10)
            except (ServerAway, Refused) as error:
                log.warning("the server did not take the pilot's log: %s", error)
        logging.getLogger().removeHandler(self._handler)
        self._handler.close()

    def _words(self, found: Findings) -> Dict[str, object]:
        return {
            "queue": self._queue,
            "version": __version__,
            "facts": found.facts,
            "problems": found.problems,
            "warnings": found.warnings,
        }

    def _url(self, what: str) -> str:
        return f"/v1/pilots/{quote(self._pilot_id)}/{what}"

    def _tail(self) -> str:
        text = b""
        for path in (self._path + ".1", self._path):
            if os.path.exists(path):
                with open(path, "rb") as file:
                    text += file.read()
        return text[-SENT_BYTES:].decode("utf-8", "replace")
