"""The courier: brings reports and heartbeats to the server, and its answers to the loop.

Reports wait in a box, one per job, the latest wins. Everything that is in the box goes out in
one request. When the server is away they stay in the box; nothing is dropped before the outage
limit.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any, Callable, Dict, List, Optional, Set

from pilot.client import Backoff, Client
from pilot.errors import ErrorCode, Refused, ServerAway, TokenRefused
from pilot.job import Key
from pilot.results import Results
from pilot.wire import Result

log = logging.getLogger("pilot.courier")

MAX_REPORTS = 1000
"""Reports in one request; the server takes ten times as many."""

COALESCE_S = 0.2
"""A final report waits this long for company while more jobs end soon (see `hurry`). A request costs the pilot and
the server as much as a small job; one that died meanwhile would only be run again."""

HURRIED_S = 0.003
"""A final report waits this long when nothing else is about to end."""

UNHURRIED_S = 0.5
"""A report that is not final waits this long for a final one to travel with."""

Answered = Callable[[List[Result], Set[Key]], None]
"""Called with the server's results and the jobs whose final report they answer."""


class Courier:
    """A thread with a box of reports."""

    def __init__(
        self,
        client: Client,
        pilot_id: str,
        results: Results,
        answered: Answered,
        token_refused: Callable[[str], None],
    ) -> None:
        self._client = client
        self._pilot_id = pilot_id
        self._results = results
        self._answered = answered
        self._token_refused = token_refused
        self._box: Dict[Key, Dict[str, Any]] = {}
        self._finals: Set[Key] = set()
        self._beats: List[Dict[str, Any]] = []
        self._send_at: Optional[float] = None
        self._changed = threading.Condition()
        self._silent_since: Optional[float] = None
        threading.Thread(target=self._run, name="courier", daemon=True).start()

    def report(self, key: Key, report: Dict[str, Any], final: bool, hurry: bool = True) -> None:
        """Put a report into the box; `hurry`: no other job is waiting to run after it."""
        send_at = time.monotonic() + ((HURRIED_S if hurry else COALESCE_S) if final else UNHURRIED_S)
        with self._changed:
            self._box[key] = report
            if final:
                self._finals.add(key)
            # Wake the thread only if it has to go earlier than it meant to.
            if self._send_at is None or send_at < self._send_at:
                self._send_at = send_at
                self._changed.notify()

    def beat(self, beats: List[Dict[str, Any]]) -> None:
        """Send these heartbeats; they take the place of those not yet sent."""
        with self._changed:
            self._beats = beats
            self._changed.notify()

    def forget(self, key: Key) -> None:
        """Never report on this job again."""
        with self._changed:
            self._box.pop(key, None)
            self._finals.discard(key)

    def silent_s(self) -> float:
        """Seconds since the server stopped answering; 0 while it does."""
        since = self._silent_since
        return 0.0 if since is None else time.monotonic() - since

    def _run(self) -> None:
        backoff = Backoff()
        while True:
            reports, finals, beats = self._next()
            try:
                if reports:
                    self._deliver(reports, finals)
                if beats:
                    answer = self._client.post("/v1/pilots/heartbeat", {"pilot_id": self._pilot_id, "beats": beats})
                    self._answered(Result.read_all(answer), set())
                backoff.reset()
                self._silent_since = None
            except TokenRefused as refusal:
                self._put_back(reports, finals)
                self._token_refused(str(refusal))
                return
            except Refused as refusal:
                log.error("the server does not take our heartbeats: %s", refusal)
            except Exception as away:  # no answer, or one that is none: the edge of the thread
                self._silent_since = self._silent_since or time.monotonic()
                self._put_back(reports, finals)
                wait_s = backoff.next_s(away.retry_after_s if isinstance(away, ServerAway) else 0.0)
                log.warning("no answer to reports or heartbeats (%r); next try in %.1f s", away, wait_s)
                time.sleep(wait_s)

    def _next(self) -> "tuple[List[Dict[str, Any]], Set[Key], List[Dict[str, Any]]]":
        """Sleep until something has to go; take all of it out of the box."""
        with self._changed:
            while True:
                wait_s = None if self._send_at is None else self._send_at - time.monotonic()
                if self._beats or (wait_s is not None and wait_s <= 0):
                    break
                self._changed.wait(wait_s)
            keys = list(self._box)[:MAX_REPORTS]
            reports = [self._box.pop(key) for key in keys]
            finals = self._finals & set(keys)
            self._finals -= finals
            beats, self._beats = self._beats, []
            self._send_at = time.monotonic() if self._box else None
            return reports, finals, beats

    def _put_back(self, reports: List[Dict[str, Any]], finals: Set[Key]) -> None:
        """Try again later; should the pilot die meanwhile, final reports are on disk."""
        for report in reports:
            key = (report["panda_id"], report["attempt_nr"])
            if key in finals and not self._results.has(key):
                self._results.keep(report)
        with self._changed:
            for report in reports:
                key = (report["panda_id"], report["attempt_nr"])
                # News that came meanwhile is newer.
                self._box.setdefault(key, report)
            self._finals |= finals
            if self._box:
                self._send_at = time.monotonic()

    def _deliver(self, reports: List[Dict[str, Any]], finals: Set[Key]) -> None:
        """Send reports in one request; if the server refuses it as a whole, find the one that it
        cannot read, so that one odd report does not hold up the others."""
        try:
            answer = self._client.post("/v1/pilots/update", {"pilot_id": self._pilot_id, "reports": reports})
        except TokenRefused:
            raise
        except Refused as refusal:
            if len(reports) > 1:
                middle = len(reports) // 2
                self._deliver(reports[:middle], finals)
                self._deliver(reports[middle:], finals)
                return
            report = reports[0]
            log.error("the server does not take this report (%s): %s", refusal, report)
            if report.get("error_code") == ErrorCode.INTERNALPILOTPROBLEM:
                key = (report["panda_id"], report["attempt_nr"])
                self._answered([Result(*key, "not_found", None)], {key} & finals)
                return
            if report["status"] in ("starting", "running"):
                return
            message = f"the pilot's report ({report['status']}) was refused: {refusal}"[:2000]
            plain = {name: report[name] for name in ("panda_id", "attempt_nr", "token")}
            plain.update(status="failed", error_code=int(ErrorCode.INTERNALPILOTPROBLEM), error_message=message)
            self._deliver([plain], finals)
            return
        keys = {(report["panda_id"], report["attempt_nr"]) for report in reports}
        self._answered(Result.read_all(answer), finals & keys)
