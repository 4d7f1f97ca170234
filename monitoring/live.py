"""Live pages: one look at the database a second for all who watch, and a word to those whose topic changed.

An event says only that something changed; the page then asks for itself again, so whoever may not read a
page learns nothing here. A watcher that is slow gets one word for many changes. Who comes back within a minute
with the id of the last event is told what was missed; after that, that everything may have changed.
"""

import asyncio
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from typing import Any

from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError
from tornado.iostream import StreamClosedError
from tornado.web import RequestHandler

from monitoring import gate
from monitoring.gate import Session, Sessions
from monitoring.reads import queries
from monitoring.reads.blocks import Reader
from panda.auth import policy
from panda.auth.policy import Action
from panda.errors import PandaError
from panda.jobs import queries as asked
from panda.logs import Log

log = Log("monitoring.live")

LOOK_S = 1.0
REMEMBERED_S = 60.0
MAX_REMEMBERED = 10_000
KEEP_ALIVE_S = 15.0
MAX_TOPICS = 8
#: One person's windows; the rest of `[monitor] max_streams` is for the others.
MAX_OF_ONE = 50
#: A browser comes back after this.
RETRY_MS = 2_000

JOBS = """
SELECT panda_id, status, attempt_nr, changed_at, kill_requested_at, kill_delivered_at FROM jobs
WHERE panda_id = ANY(%(ids)s)
"""
LEASES = "SELECT panda_id, reported_at FROM leases WHERE panda_id = ANY(%(ids)s)"
LOGS = "SELECT panda_id, sum(size_bytes)::bigint AS n FROM job_logs WHERE panda_id = ANY(%(ids)s) GROUP BY panda_id"
JOBSETS = """
SELECT jobset_id, n_expanded, n_open, n_finished, n_failed, n_cancelled, cancel_requested_at FROM jobsets
WHERE jobset_id = ANY(%(ids)s)
"""
ASKED_BY = "SELECT asked_by FROM bulk_actions WHERE action_id = %(action_id)s"
ACTIONS = "SELECT action_id, status, n_done, n_refused FROM bulk_actions WHERE action_id = ANY(%(ids)s)"


def topics_of(text: str) -> list[str]:
    """`overview,job:7` as a list; what is not a topic is left out."""
    found = []
    for topic in text.split(",")[:MAX_TOPICS]:
        kind, _, number = topic.partition(":")
        if topic == "overview" or (
            kind in ("job", "jobset", "action") and number.isascii() and number.isdecimal() and len(number) < 19
        ):
            found.append(topic)
    return sorted(set(found))


def marks(connection: Connection, topics: Iterable[str]) -> dict[str, Hashable]:
    """For each topic something that differs when the topic changed. One statement for each kind."""
    ids: dict[str, list[int]] = {"job": [], "jobset": [], "action": []}
    found: dict[str, Hashable] = {}
    for topic in topics:
        kind, _, number = topic.partition(":")
        if kind in ids:
            ids[kind].append(int(number))
        elif topic == "overview":
            counted = queries.facts(connection, queries.COUNTS)
            found[topic] = frozenset((row["status"], row["queue"], row["n"]) for row in counted)
    if ids["job"]:
        parts: dict[int, list[Any]] = {panda_id: [] for panda_id in ids["job"]}
        for sql in (JOBS, LEASES, LOGS):
            for row in queries.facts(connection, sql, {"ids": ids["job"]}):
                parts[row["panda_id"]].append(tuple(row.values()))
        found |= {f"job:{panda_id}": tuple(seen) for panda_id, seen in parts.items()}
    if ids["jobset"]:
        seen_sets = {
            r["jobset_id"]: tuple(r.values()) for r in queries.facts(connection, JOBSETS, {"ids": ids["jobset"]})
        }
        found |= {f"jobset:{jobset_id}": seen_sets.get(jobset_id) for jobset_id in ids["jobset"]}
    if ids["action"]:
        seen = {r["action_id"]: tuple(r.values()) for r in queries.facts(connection, ACTIONS, {"ids": ids["action"]})}
        found |= {f"action:{action_id}": seen.get(action_id) for action_id in ids["action"]}
    return found


class Watcher:
    """One browser that watches. What is pending is a set: it never grows beyond its topics."""

    who = ""

    def __init__(self, topics: list[str], loop: asyncio.AbstractEventLoop, who: str = "") -> None:
        """`who`: whose browser it is; "": nobody counts."""
        self.topics, self.who = topics, who
        self._loop = loop
        self._pending: dict[str, int] = {}
        self._bell = asyncio.Event()

    def tell(self, topic: str, number: int) -> None:
        """On the loop alone."""
        self._pending[topic] = number
        self._bell.set()

    def ring(self, topic: str, number: int) -> None:
        """From another thread."""
        self._loop.call_soon_threadsafe(self.tell, topic, number)

    async def next(self, wait_s: float) -> dict[str, int]:
        """Topics that changed, with their newest number; nothing after `wait_s`."""
        try:
            await asyncio.wait_for(self._bell.wait(), wait_s)
        except TimeoutError:
            return {}
        self._bell.clear()
        changed, self._pending = self._pending, {}
        return changed


class Hub:
    """Who watches what, and what changed lately."""

    def __init__(self, reader: Reader, max_watchers: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._reader, self._max, self._clock = reader, max_watchers, clock
        #: A number of this process means nothing to another one.
        self.epoch = secrets.token_hex(4)
        self._number = 0
        #: Words that watchers were told.
        self.n_told = 0
        self._changes: deque[tuple[float, int, str]] = deque(maxlen=MAX_REMEMBERED)
        self._watchers: set[Watcher] = set()
        self._marks: dict[str, Hashable] = {}
        self._guard = threading.Lock()
        self._stop = threading.Event()

    @property
    def place(self) -> str:
        """The id of the newest event."""
        return f"{self.epoch}-{self._number}"

    def __len__(self) -> int:
        return len(self._watchers)

    def add(self, watcher: Watcher, last_id: str | None) -> bool:
        """Begin to tell `watcher`, first what it missed since `last_id`. False: too many watch already, or
        too many windows of one person."""
        with self._guard:
            n_of_one = sum(other.who == watcher.who for other in self._watchers) if watcher.who else 0
            if len(self._watchers) >= self._max or n_of_one >= MAX_OF_ONE:
                return False
            self._watchers.add(watcher)
            missed = self._missed(watcher.topics, last_id)
            if last_id:  # nobody looked at these meanwhile
                missed |= {topic: self._number for topic in watcher.topics if topic not in self._marks}
        for topic, number in missed.items():
            watcher.tell(topic, number)
        return True

    def remove(self, watcher: Watcher) -> None:
        with self._guard:
            self._watchers.discard(watcher)

    def _missed(self, topics: list[str], last_id: str | None) -> dict[str, int]:
        if not last_id:
            return {}
        epoch, _, text = last_id.partition("-")
        oldest = self._clock() - REMEMBERED_S
        while self._changes and self._changes[0][0] < oldest:
            self._changes.popleft()
        since = int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else -1
        first_known = self._changes[0][1] if self._changes else self._number + 1
        if epoch != self.epoch or since < first_known - 1:
            return dict.fromkeys(topics, self._number)
        return {topic: number for _, number, topic in self._changes if number > since and topic in topics}

    def note(self, topics: Iterable[str]) -> None:
        """See how these are now, where nobody has: from here on every difference is told, also one of the second
        before the next look. After `add`."""
        unknown = [topic for topic in topics if topic not in self._marks]
        if unknown:
            found = self._reader.block(lambda c: marks(c, unknown)).value
            for topic, mark in (found or {}).items():
                self._marks.setdefault(topic, mark)

    def look(self) -> None:
        """Look once at everything that is watched. A database that is away changes nothing."""
        with self._guard:
            topics = {topic for watcher in self._watchers for topic in watcher.topics}
            for topic in set(self._marks) - topics:
                del self._marks[topic]
        if not topics:
            return
        found = self._reader.block(lambda c: marks(c, topics)).value
        for topic, mark in (found or {}).items():
            if topic in self._marks and self._marks[topic] != mark:
                self._changed(topic)
            self._marks[topic] = mark

    def _changed(self, topic: str) -> None:
        with self._guard:
            self._number += 1
            self._changes.append((self._clock(), self._number, topic))
            told = [watcher for watcher in self._watchers if topic in watcher.topics]
            number = self._number
        for watcher in told:
            watcher.ring(topic, number)

    def start(self) -> None:
        """Look on, in a thread of its own, until `stop`."""
        threading.Thread(target=self._run, name="live", daemon=True).start()

    def stop(self) -> None:
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.wait(LOOK_S):
            try:
                self.look()
            except Exception as problem:
                log.warning("live pages not looked after", problem=type(problem).__name__)


def may_watch(reader: Reader, session: Session, topics: list[str]) -> bool:
    """Whether the session may read what these topics are about."""

    def owners(connection: Connection) -> list[tuple[Action, str]]:
        found = []
        for topic in topics:
            kind, _, number = topic.partition(":")
            if kind == "job":
                found.append((Action.READ_JOBS, asked.owner_of(connection, int(number))))
            elif kind == "jobset":
                found.append((Action.READ_JOBS, asked.jobset_owner(connection, int(number))))
            elif kind == "action":
                found += [
                    (Action.READ_ACTIONS, row["asked_by"])
                    for row in queries.facts(connection, ASKED_BY, {"action_id": int(number)})
                ]
        return found

    try:
        for action, owner in reader.ask(owners):
            policy.require(session.identity, action, owner)
    except PandaError:
        return False
    return True


class Stream(RequestHandler):
    """/events/stream?topics=overview,job:7 — server-sent events."""

    def initialize(self, hub: Hub, sessions: Sessions, reader: Reader) -> None:
        self._hub, self._sessions, self._reader = hub, sessions, reader

    async def get(self) -> None:
        loop = asyncio.get_running_loop()
        session = self._session() or await loop.run_in_executor(None, self._sessions.recall, self._key())
        if session is None:
            return self._refuse(401, "log in first")
        topics = topics_of(self.get_query_argument("topics", ""))
        if not topics:
            return self._refuse(400, "name topics: overview, job:NUMBER, jobset:NUMBER")
        try:
            may = await loop.run_in_executor(None, may_watch, self._reader, session, topics)
        except SQLAlchemyError:
            self.set_header("Retry-After", "15")
            return self._refuse(503, "the database does not answer; try again in a moment")
        if not may:
            return self._refuse(403, "these are not yours to watch, or there are none")
        watcher = Watcher(topics, loop, session.subject)
        if not self._hub.add(watcher, self.request.headers.get("Last-Event-ID")):
            self.set_header("Retry-After", "15")
            return self._refuse(503, "too many watch already; ask for the page instead")
        try:
            await loop.run_in_executor(None, self._hub.note, topics)
            await self._serve(watcher)
        except StreamClosedError:
            pass
        finally:
            self._hub.remove(watcher)

    async def _serve(self, watcher: Watcher) -> None:
        self.set_header("Content-Type", "text/event-stream; charset=utf-8")
        self.set_header("Cache-Control", "no-store")
        self.set_header("X-Accel-Buffering", "no")
        # Who comes back keeps its old id until it was told all that it missed.
        is_back = "Last-Event-ID" in self.request.headers
        place = "" if is_back else f"id: {self._hub.place}\nevent: hello\ndata: \n"
        self.write(f"retry: {RETRY_MS}\n{place}\n")
        await self.flush()
        while self._session() is not None:
            changed = await watcher.next(KEEP_ALIVE_S)
            self._hub.n_told += len(changed)
            for topic, number in changed.items():
                self.write(f"id: {self._hub.epoch}-{number}\nevent: changed\ndata: {topic}\n\n")
            if not changed:
                self.write(": still here\n\n")
            await self.flush()

    def _key(self) -> str | None:
        cookie = self.request.cookies.get(gate.COOKIE)
        return cookie.value if cookie else None

    def _session(self) -> Session | None:
        return self._sessions.get(self._key())

    def _refuse(self, status: int, why: str) -> None:
        self.set_status(status)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(why + "\n")

    def on_connection_close(self) -> None:
        """The browser went away: the next flush raises, which ends `_serve`."""
