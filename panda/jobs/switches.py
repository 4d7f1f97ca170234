"""What operators paused: brokerage or the handing out of jobs, everywhere, at a site, at a queue, on one node.

A pause is a row; whoever obeys it knows the rows from a picture that is at most `TRUST_S` old, so that neither a claim
nor a pass of brokerage asks for it. A paused queue keeps what it has: nothing is failed, nothing is moved.
"""

import time
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from threading import Lock
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from sqlalchemy.engine import Connection, Engine

from panda.auth.audit_log import record
from panda.db.session import rows, run
from panda.errors import Invalid, NotFound, UnknownName

#: Seconds that a process trusts its picture.
TRUST_S = 0.5
MAX_REASON = 2_000

ALL = """
SELECT what, site, queue, node, set_by, reason, set_at, until FROM switches
WHERE until IS NULL OR until > (SELECT panda_now()) ORDER BY set_at DESC, what, site, queue, node LIMIT 5000
"""
SET = """
INSERT INTO switches (what, site, queue, node, set_by, reason, set_at, until)
VALUES (%(what)s, %(site)s, %(queue)s, %(node)s, %(by)s, %(reason)s, panda_now(),
    panda_now() + make_interval(secs => %(for_s)s))
ON CONFLICT (what, site, queue, node) DO UPDATE SET set_by = excluded.set_by, reason = excluded.reason,
    set_at = excluded.set_at, until = excluded.until
"""
TAKE_BACK = """
DELETE FROM switches WHERE what = %(what)s AND site = %(site)s AND queue = %(queue)s AND node = %(node)s
RETURNING reason
"""
SITE = "SELECT 1 FROM sites WHERE name = %(name)s"
QUEUE = "SELECT 1 FROM queues WHERE name = %(name)s"


class What(StrEnum):
    """What can be paused."""

    BROKERAGE = "brokerage"  #: no job is sent to the queues
    DISPATCH = "dispatch"  #: no pilot gets a job


class Place(NamedTuple):
    """Where: a site, a queue, a node of a queue; nothing: everywhere."""

    site: str = ""
    queue: str = ""
    node: str = ""

    @property
    def words(self) -> str:
        """For people and for the audit log."""
        if self.node:
            return f"node {self.node} of queue {self.queue}"
        if self.queue:
            return f"queue {self.queue}"
        return f"site {self.site}" if self.site else "everywhere"


class Pause(NamedTuple):
    """A row."""

    what: What
    place: Place
    by: str
    reason: str
    at: datetime
    until: datetime | None

    @property
    def words(self) -> str:
        """Who stopped what, and why."""
        whose = f"{self.what} is paused" if not self.place.node else f"node {self.place.node} is taken out"
        return f"{whose} by {self.by}: {self.reason}"

    @property
    def end_command(self) -> str:
        """What an operator types to end it."""
        named = "".join(f" --{kind} {name}" for kind, name in self.place._asdict().items() if name)
        return f"panda resume {self.what}{named} --reason …"


class Picture(NamedTuple):
    """Everything that is paused, the newest first; `seen_at` in monotonic seconds."""

    pauses: Sequence[Pause] = ()
    seen_at: float = float("-inf")

    def why(self, what: What, *, site: str, queue: str, node: str = "") -> str | None:
        """Why this queue (or this node of it) gets nothing now; None: it is not paused."""
        pause = self.pause_of(what, site=site, queue=queue, node=node)
        return pause.words if pause is not None else None

    def pause_of(self, what: What, *, site: str, queue: str, node: str = "") -> Pause | None:
        """The newest pause that is for this queue (or this node of it)."""
        machine = node.rpartition("@")[2]  # a slot of a node, `slot1@node`, is out with its node
        for pause in self.pauses:
            place = pause.place
            is_here = place.site in ("", site) and place.queue in ("", queue) and place.node in ("", node, machine)
            if pause.what is what and is_here:
                return pause
        return None


_known: "WeakKeyDictionary[Engine, Picture]" = WeakKeyDictionary()
_guard = Lock()


def current(connection: Connection) -> list[Pause]:
    """What is paused at this moment, the newest first."""
    return [
        Pause(What(row.what), Place(row.site, row.queue, row.node), row.set_by, row.reason, row.set_at, row.until)
        for row in rows(connection, ALL)
    ]


def picture(connection: Connection) -> Picture:
    """The same, at most `TRUST_S` old."""
    known = _known.get(connection.engine)
    if known is not None and time.monotonic() - known.seen_at < TRUST_S:
        return known
    fresh = Picture(current(connection), time.monotonic())
    with _guard:
        _known[connection.engine] = fresh
    return fresh


def forget() -> None:
    """Drop this process's picture: something changed that must be seen at once."""
    with _guard:
        _known.clear()


def pause(
    connection: Connection,
    what: str,
    place: Place,
    *,
    by: str,
    reason: str,
    for_s: float | None = None,
    request_id: str | None = None,
) -> None:
    """Pause it, or give a pause that there is another reason; who and why goes to the audit log.

    Args:
        for_s: seconds until it ends by itself; None: until somebody resumes it.
    Raises:
        UnknownName: there is no such thing to pause. NotFound: no such site, no such queue.
        Invalid: `no_reason`, `bad_place`, or a time that is none.
    """
    values = _values(connection, what, place)
    if not reason.strip():
        raise Invalid("say why: the next shifter will ask", where="reason", code="no_reason")
    if len(reason) > MAX_REASON:
        raise Invalid(f"longer than {MAX_REASON} characters", where="reason")
    if for_s is not None and not 0 < for_s <= 366 * 86_400:
        raise Invalid("must be above 0, and at most a year", where="for_s")
    run(connection, SET, {**values, "by": by, "reason": reason.strip(), "for_s": for_s})
    facts = {"for_s": for_s} if for_s else {}
    record(connection, by, f"pause_{what}", place.words, reason=reason, facts=facts, request_id=request_id)
    forget()


def resume(
    connection: Connection, what: str, place: Place, *, by: str, reason: str, request_id: str | None = None
) -> None:
    """End a pause. Whoever resumes brokerage lets waiting jobs look again (`siteinfo.queues_changed`).

    Raises:
        UnknownName, Invalid: as for `pause`. NotFound: it is not paused.
    """
    values = _values(connection, what, place, is_known=False)
    gone = rows(connection, TAKE_BACK, values)
    if not gone:
        raise NotFound("pause of " + what, place.words)
    facts = {"because": gone[0].reason}
    record(connection, by, f"resume_{what}", place.words, reason=reason, facts=facts, request_id=request_id)
    forget()


def _values(connection: Connection, what: str, place: Place, *, is_known: bool = True) -> dict[str, Any]:
    if what not in set(What):
        raise UnknownName("switch", what, list(What), where="what")
    if (place.site and place.queue) or (place.node and (not place.queue or what != What.DISPATCH)):
        message = "a pause is for a site, for a queue, or for a node of a queue, which has no brokerage"
        raise Invalid(message, where="place", code="bad_place")
    if len(place.node) > 200 or not place.node.isprintable():
        raise Invalid("is no name of a node", where="node")
    if is_known and place.site and not rows(connection, SITE, {"name": place.site}):
        raise NotFound("site", place.site)
    if is_known and place.queue and not rows(connection, QUEUE, {"name": place.queue}):
        raise NotFound("queue", place.queue)
    return {"what": what, **place._asdict()}
