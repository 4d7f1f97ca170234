"""Every move of every job as it happens, for whoever listens: one reader per process, any number of listeners.

Events are numbered by a sequence, and transactions commit in another order: when number 12 is seen, 11 may still
be on its way. So the reader goes by number, remembers which numbers it has not seen yet, and asks for exactly
these until they come or `GAP_S` has passed, which is longer than any transaction of ours may take (a number whose
transaction rolled back never comes). The cursor that a listener gets with each event is a number below
which nothing is missing any more; going on from there repeats a few events, and misses none.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from panda.db.session import Begin, once, rows
from panda.logs import Log

log = Log("panda.events")

#: Between two looks at the database.
POLL_S = 0.5
#: Patience for a number that was given out and is not committed yet; transactions end within ten seconds.
GAP_S = 30.0
#: Numbers that are remembered as missing.
MAX_GAPS = 100_000
#: Events of one statement.
BATCH = 2_000
#: Events that a listener may be behind before it is given up; it may come again with its cursor.
MAX_BEHIND = 20_000
#: How far back a listener may begin.
MAX_REPLAY = 200_000

#: Numbers before the newest one that may still be on their way when the reader begins.
UNSETTLED = 20_000

LAST = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END AS event_id FROM job_event_seq"
SEEN = """
SELECT event_id FROM job_events WHERE event_id + 0 > %(after)s AND event_id + 0 <= %(last)s
ORDER BY event_id + 0 LIMIT %(limit)s
"""
#: `+ 0`: the index of the feed, which no question about one job may be tempted to walk through.
SINCE = f"""
SELECT event_id, panda_id, at, was, now, attempt_nr, stage, by, reason FROM job_events
WHERE event_id + 0 > %(after)s AND event_id + 0 <= %(last)s ORDER BY event_id + 0 LIMIT {BATCH}
"""
THESE = f"""
SELECT event_id, panda_id, at, was, now, attempt_nr, stage, by, reason FROM job_events
WHERE event_id + 0 = ANY(%(event_ids)s) LIMIT {BATCH}
"""
WHOSE = """
SELECT panda_id, jobset_id, owner FROM jobs WHERE panda_id = ANY(%(panda_ids)s)
UNION ALL SELECT panda_id, jobset_id, owner FROM jobs_archive WHERE panda_id = ANY(%(panda_ids)s)
"""


@dataclass(slots=True)
class Event:
    """A move. `cursor`: go on from here and nothing is missed."""

    event_id: int
    cursor: int
    panda_id: int
    jobset_id: int
    owner: str
    facts: Any
    """The row: at, was, now, attempt_nr, stage, by, reason."""
    frame: bytes = b""
    """How it is written; the first listener that sends it leaves it here for the others."""


@dataclass(frozen=True, slots=True)
class Wish:
    """Which events a listener wants; None: any."""

    panda_id: int | None = None
    jobset_id: int | None = None
    owner: str | None = None

    def fits(self, event: Event) -> bool:
        return (
            (self.panda_id is None or event.panda_id == self.panda_id)
            and (self.jobset_id is None or event.jobset_id == self.jobset_id)
            and (self.owner is None or event.owner == self.owner)
        )


@dataclass(eq=False)
class Listener:
    """Somebody's events, in a queue that has an end."""

    wish: Wish
    started_at: int = 0
    """The feed's position when it began: what is later comes by itself."""
    lost: bool = False
    """It is given no more: it was too slow, or the process ends."""
    _events: deque[Event] = field(default_factory=deque)
    _bell: threading.Condition = field(default_factory=threading.Condition)

    def give(self, events: Sequence[Event]) -> None:
        """Called by the feed."""
        with self._bell:
            if len(self._events) + len(events) > MAX_BEHIND:
                self.lost = True
            else:
                self._events.extend(events)
            self._bell.notify()

    def end(self) -> None:
        """No more comes."""
        with self._bell:
            self.lost = True
            self._bell.notify()

    def take(self, timeout_s: float) -> list[Event]:
        """What has come; waits for the first one. Empty: nothing came."""
        with self._bell:
            if not self._events and not self.lost:
                self._bell.wait(timeout_s)
            found = list(self._events)
            self._events.clear()
            return found


class Gaps:
    """Numbers that are missing, and since when. Pure."""

    def __init__(self) -> None:
        self._since: dict[int, float] = {}

    def note(self, after: int, seen: Sequence[int], now_s: float) -> None:
        """Between `after` and the last one of `seen` (ascending) these came and the others did not."""
        expected = after + 1
        for event_id in seen:
            for missing in range(max(expected, event_id - MAX_GAPS), event_id):
                self._since[missing] = now_s
            expected = event_id + 1
        while len(self._since) > MAX_GAPS:
            del self._since[next(iter(self._since))]

    def close(self, seen: Sequence[int], now_s: float) -> None:
        """These came after all; those that are missing for too long never will."""
        for event_id in seen:
            self._since.pop(event_id, None)
        for event_id in [each for each, since in self._since.items() if now_s - since > GAP_S]:
            del self._since[event_id]

    def missing(self) -> list[int]:
        return sorted(self._since)

    def cursor(self, position: int) -> int:
        """A number up to which nothing is missing."""
        return min(self._since, default=position + 1) - 1


class Feed:
    """The one reader of a process. It runs while somebody listens."""

    def __init__(self, begin: Begin, clock: Callable[[], float] = time.monotonic) -> None:
        self._begin, self._clock = begin, clock
        self._listeners: set[Listener] = set()
        self._guard = threading.Lock()
        self._position = 0
        self._gaps = Gaps()
        self._runs = False

    def listen(self, wish: Wish) -> Listener:
        """From now on. Raises DBAPIError: the database is away."""
        with self._guard:
            if not self._runs:
                self._begin_at_the_end()
                self._runs = True
                threading.Thread(target=self._run, name="event-feed", daemon=True).start()
            listener = Listener(wish, self._position)
            self._listeners.add(listener)
        return listener

    def _begin_at_the_end(self) -> None:
        with once(self._begin) as connection:
            last = rows(connection, LAST)[0].event_id
            after = max(0, last - UNSETTLED)
            seen = rows(connection, SEEN, {"after": after, "last": last, "limit": UNSETTLED})
        self._position, self._gaps = last, Gaps()
        self._gaps.note(after, [*(row.event_id for row in seen), last + 1], self._clock())

    def leave(self, listener: Listener) -> None:
        """No more of it."""
        with self._guard:
            self._listeners.discard(listener)

    def end(self) -> None:
        """Send everybody away: the process ends."""
        with self._guard:
            listeners = list(self._listeners)
        for listener in listeners:
            listener.end()

    def turn(self) -> bool:
        """Read what is new and give it out. Returns whether there may be more at once."""
        with once(self._begin) as connection:
            late = rows(connection, THESE, {"event_ids": missing}) if (missing := self._gaps.missing()[:BATCH]) else []
            new = rows(connection, SINCE, {"after": self._position, "last": 2**62})
            now_s = self._clock()
            self._gaps.close([row.event_id for row in late], now_s)
            self._gaps.note(self._position, [row.event_id for row in new], now_s)
            if new:
                self._position = new[-1].event_id
            events = with_owners(connection, [*late, *new], self._gaps.cursor(self._position))
        with self._guard:
            listeners = list(self._listeners)
        for listener in listeners if events else ():
            wanted = [event for event in events if listener.wish.fits(event)]
            if wanted:
                listener.give(wanted)
        return len(new) == BATCH

    def _run(self) -> None:
        while True:
            try:
                more = self.turn()
            except SQLAlchemyError as problem:
                log.warning("the feed of events cannot read", problem=type(problem).__name__)
                more = False
            with self._guard:
                if not self._listeners:
                    self._runs = False
                    return
            if not more:
                time.sleep(POLL_S)


def with_owners(connection: Connection, found: Sequence[Any], cursor: int) -> list[Event]:
    """Rows of events with the job set and the owner of each job."""
    if not found:
        return []
    whose = {row.panda_id: row for row in rows(connection, WHOSE, {"panda_ids": list({r.panda_id for r in found})})}
    return [
        Event(row.event_id, min(cursor, row.event_id), row.panda_id, whose[row.panda_id].jobset_id,
              whose[row.panda_id].owner, row)
        for row in found if row.panda_id in whose
    ]  # fmt: skip


def replay(begin: Begin, wish: Wish, after: int, last: int) -> tuple[list[Event], int]:
    """A batch of what happened after `after`, up to `last`: what fits, and the number to go on from.

    Nothing is left when that number is `last`."""
    with once(begin) as connection:
        found = rows(connection, SINCE, {"after": after, "last": last})
        reached = found[-1].event_id if len(found) == BATCH else last
        events = with_owners(connection, found, max(after, last - UNSETTLED))
    return [event for event in events if wish.fits(event)], reached
