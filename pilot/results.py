"""Final reports on disk, from the moment that they are written until the server has answered them.

Each holds the lease token of its job, so the files are readable by the pilot's user alone. A pilot
that starts in the same work folder delivers what a dead one left: first the logs, then the report.
A lease that was given to somebody else meanwhile answers `stale_lease`, and the result is dropped.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
import time
from typing import Any, Dict, List, NamedTuple, Set, Tuple

from pilot.client import Backoff, Client
from pilot.errors import Abandoned, Refused, ServerAway, TokenRefused
from pilot.folders import LOG_NAMES
from pilot.home import Home, dead_homes
from pilot.logs import Attempt, FileLog, Log, PilotLog, Shipper
from pilot.offer import Offer
from pilot.wire import Result

log = logging.getLogger("pilot.results")

Key = Tuple[int, int]

MOST_LOG_BYTES = 1 << 40
"""A kept log was cut at its cap already."""

STALE_S = 7 * 86_400.0
"""A result for another server waits so long for a pilot of that server."""


class Kept(NamedTuple):
    """A result that is still to be delivered. `folder`: the job's work folder with its logs."""

    path: str
    report: Dict[str, Any]
    folder: str
    pilot_log: str


class Results:
    """The folder of results of one pilot. Safe from every thread."""

    def __init__(self, folder: str, url: str) -> None:
        self._folder = folder
        self._url = url
        self._kept: Set[Key] = set()
        self._lock = threading.Lock()

    def keep(self, report: Dict[str, Any], folder: str = "", pilot_log: str = "") -> None:
        """Write a final report down; the last one counts. A full disk costs no more than this safety."""
        key = (report["panda_id"], report["attempt_nr"])
        path = self._path(key)
        content = {"url": self._url, "report": report, "folder": folder, "pilot_log": pilot_log}
        with self._lock:
            self._kept.add(key)
            try:
                descriptor = os.open(path + ".part", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
                with open(descriptor, "w", encoding="utf-8") as file:
                    json.dump(content, file)
                    file.flush()
                    os.fsync(file.fileno())
                os.rename(path + ".part", path)
            except OSError as error:
                log.warning("cannot keep the result of job %d on disk: %s", key[0], error.strerror)

    def has(self, key: Key) -> bool:
        """It is on disk."""
        return key in self._kept

    def drop(self, key: Key) -> None:
        """The server has answered it."""
        if key in self._kept:
            with self._lock, contextlib.suppress(OSError):
                self._kept.discard(key)
                os.unlink(self._path(key))

    def _path(self, key: Key) -> str:
        return os.path.join(self._folder, f"{key[0]}.{key[1]}.json")


def left_by(home: Home, url: str) -> List[Kept]:
    """The results in a dead pilot's home that are for this server; unreadable ones are removed."""
    found = []
    for name in sorted(os.listdir(home.results)) if os.path.isdir(home.results) else []:
        path = os.path.join(home.results, name)
        try:
            with open(path, encoding="utf-8") as file:
                content = json.load(file)
            kept = Kept(path, content["report"], content["folder"], content["pilot_log"])
            kept.report["panda_id"], kept.report["attempt_nr"], kept.report["token"]
            if content["url"] == url:
                found.append(kept)
            elif time.time() - os.stat(path).st_mtime > STALE_S:
                os.unlink(path)
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("a result that cannot be read is dropped: %s (%r)", path, error)
            with contextlib.suppress(OSError):
                os.unlink(path)
    return found


def deliver(client: Client, pilot_id: str, home: Home, url: str, outage_s: float, stop: threading.Event) -> None:
    """Deliver what a dead pilot left, then clear its home. Waits for a server that is away, until `stop`."""
    backoff = Backoff()
    give_up_at = time.monotonic() + outage_s
    kept = left_by(home, url)
    while kept and not stop.is_set():
        try:
            for each in kept:
                _ship_logs(client, each, stop)
            answer = client.post(
                "/v1/pilots/update", {"pilot_id": pilot_id, "reports": [each.report for each in kept[:1000]]}
            )
            for result in Result.read_all(answer):
                log.info("job %d: the result of a dead pilot came to %s", result.panda_id, result.outcome)
            for each in kept[:1000]:
                os.unlink(each.path)
            kept = kept[1000:]
        except TokenRefused:
            break
        except Refused as refusal:
            log.error("the server does not take the results of a dead pilot: %s", refusal)
            break
        except ServerAway as away:
            if time.monotonic() > give_up_at:
                break
            stop.wait(backoff.next_s(away.retry_after_s))
    home.leave()


def _ship_logs(client: Client, kept: Kept, stop: threading.Event) -> None:
    report = kept.report
    shipper = Shipper(client, Attempt(report["panda_id"], report["attempt_nr"], report["token"]), stop)
    pilot_log = PilotLog(kept.pilot_log)
    if os.path.isdir(kept.folder):
        pilot_log.line("the pilot died before it could report; another one does it", notable=True)
    shipped = []
    try:
        logs: List[Log] = [
            FileLog(name, kept.folder, MOST_LOG_BYTES) for name in LOG_NAMES if _exists(kept.folder, name)
        ]
        for each in (*logs, pilot_log):
            shipper.ship(each)
            if each.shipped_bytes:
                shipped.append({"name": each.name, "size_bytes": each.shipped_bytes})
            if isinstance(each, FileLog):
                each.close()
    except (Abandoned, Refused) as error:
        if isinstance(error, TokenRefused):
            raise
        log.warning("logs of job %d stay behind: %r", kept.report["panda_id"], error)
    except OSError as error:
        log.warning("logs of job %d cannot be read: %s", kept.report["panda_id"], error.strerror)
    if shipped:
        kept.report["logs"] = shipped


def _exists(folder: str, name: str) -> bool:
    return bool(folder) and os.path.isfile(os.path.join(folder, name))


class Estates:
    """What dead pilots left in the work folder: ended, delivered, removed; once, when the pilot starts."""

    def __init__(self, client: Client, offer: Offer, home: Home, outage_s: float) -> None:
        self._client = client
        self._offer = offer
        self._home = home
        self._outage_s = outage_s
        self.stop = threading.Event()
        self.are_settled = False

    def settle(self) -> None:
        """Do it, in a crew's thread."""
        offer = self._offer
        try:
            for dead in dead_homes(offer.work, self._home):
                dead.end_leftovers()
                deliver(self._client, offer.pilot_id, dead, offer.url, self._outage_s, self.stop)
        finally:
            self.are_settled = True
