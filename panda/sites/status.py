"""The status of a queue: set by a person or a rule, with a reason and, if wanted, an end; put back by the clock."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection, Row

from panda.auth.audit_log import record
from panda.db.session import rows, run
from panda.errors import Conflict, Invalid, NotFound, UnknownName
from panda.sites.versions import Deed, changing
from panda.sites.waking import look_again
from panda.states import QueueStatus

#: Who puts back what had an end.
CLOCK = "clock"
#: Stands for a rule where an operator wants a queue tried.
TRIED = "tests"

QUEUE = """
SELECT status, status_reason, status_by, status_until, status_then, removed_at FROM queues WHERE name = %(name)s
FOR NO KEY UPDATE
"""
SET = """
UPDATE queues SET status = %(status)s, status_reason = %(reason)s, status_by = %(by)s, status_rule = %(rule)s,
    status_at = panda_now(), status_until = %(until)s, status_then = %(then)s
WHERE name = %(name)s
"""
IS_AHEAD = """
SELECT %(until)s::timestamptz > panda_now() AS is_ahead,
    %(until)s::timestamptz < panda_now() + interval '10 years' AS is_near
"""
FROM_NOW = "SELECT panda_now() + make_interval(secs => %(for_s)s) AS at"
OVER = """
SELECT name, status, status_reason, status_by, status_until, status_then FROM queues
WHERE status_until <= panda_now() ORDER BY name
"""


def set_queue_status(
    connection: Connection,
    name: str,
    status: str,
    *,
    by: str,
    reason: str,
    request_id: str | None = None,
    until: datetime | None = None,
    then: str | None = None,
    tried: bool = False,
) -> int:
    """Open or close a queue for new jobs, write down who did it, and let waiting jobs look again.

    Args:
        until: when it goes over to `then` by itself; None: it stays.
        then: unset, the status that it had before, or `online` if that is the same.
        tried: only with `test`: test jobs are sent, and when enough succeed it goes online (`trying`).
    Returns: how many waiting jobs are runnable now; `wake_waiting_for_queue` brings the rest.
    Raises:
        NotFound: no such queue.
        UnknownName: no such status.
        Invalid: `no_reason`; `bad_until`: a time that has passed, or `then` without one; `not_in_test`.
        Conflict: `queue_removed`: its end was asked for.
    """
    for word in (status, then):
        if word is not None and word not in set(QueueStatus):
            raise UnknownName("queue status", word, list(QueueStatus))
    if not reason.strip():
        raise Invalid("say why: the next shifter will ask", where="reason", code="no_reason")
    if tried and status != QueueStatus.TEST:
        raise Invalid(f"goes with the status test, not with {status}", where="tried", code="not_in_test")
    _check_until(connection, until, then)
    with changing(connection, Deed(by, "http", reason, request_id)):
        found = rows(connection, QUEUE, {"name": name})
        if not found:
            raise NotFound("queue", name)
        if found[0].removed_at is not None:
            raise Conflict(f"queue {name} is on its way out; import it again, or roll back", code="queue_removed")
        values = {"until": until, "then": None if until is None else then or _before(found[0], status)}
        write_status(connection, name, status, by=by, reason=reason, rule=TRIED if tried else "", ends=values)
        facts: dict[str, Any] = {"was": found[0].status, "now": status}
        if until is not None:
            facts |= {"until": until, "then": values["then"]}
        record(connection, by, "set_queue_status", f"queue {name}", reason=reason, facts=facts, request_id=request_id)
    return look_again(connection)


def write_status(
    connection: Connection,
    name: str,
    status: str,
    *,
    by: str,
    reason: str,
    rule: str = "",
    ends: Mapping[str, Any] | None = None,
) -> None:
    """The row alone; the caller changes places and leaves the row of the audit log. `ends`: `until` and `then`."""
    values = {"name": name, "status": status, "reason": reason, "by": by, "rule": rule, "until": None, "then": None}
    run(connection, SET, values | dict(ends or {}))


def from_now(connection: Connection, for_s: float) -> datetime:
    """The moment so many seconds from now, by the one clock."""
    at: datetime = rows(connection, FROM_NOW, {"for_s": for_s})[0].at
    return at


def put_back(connection: Connection) -> int:
    """Queues whose status has reached its end go over to the next one. Returns how many did.

    Called by the clock."""
    if not rows(connection, OVER):
        return 0
    with changing(connection, Deed(CLOCK, "clock", "the end of a status")):
        over = rows(connection, OVER)
        for queue in over:
            reason = f"back by itself: {queue.status_by or 'somebody'} set it {queue.status} until"
            reason += f" {queue.status_until:%Y-%m-%d %H:%M} ({queue.status_reason})"
            write_status(connection, queue.name, queue.status_then, by=CLOCK, reason=reason)
            facts = {"was": queue.status, "now": queue.status_then}
            record(connection, CLOCK, "set_queue_status", f"queue {queue.name}", reason=reason, facts=facts)
    look_again(connection)
    return len(over)


def _check_until(connection: Connection, until: datetime | None, then: str | None) -> None:
    if until is None:
        if then is not None:
            raise Invalid("wants an `until`: when is it to be that?", where="then", code="bad_until")
        return
    if until.tzinfo is None:
        raise Invalid("wants a time zone, as in 2026-01-31T18:00Z", where="until", code="bad_until")
    check_ahead(connection, until, "until", "bad_until")


def check_ahead(connection: Connection, at: datetime, where: str, code: str) -> None:
    """Raises Invalid: the time has passed, or is not within ten years."""
    [found] = rows(connection, IS_AHEAD, {"until": at})
    if not found.is_ahead:
        raise Invalid(f"{at:%Y-%m-%d %H:%M %Z} has passed", where=where, code=code)
    if not found.is_near:
        raise Invalid(f"{at:%Y-%m-%d %H:%M %Z} is more than ten years away", where=where, code=code)


def _before(queue: Row[Any], status: str) -> str:
    """What a queue goes back to: what it had before, beneath whatever had an end."""
    before: str = queue.status_then or queue.status
    return QueueStatus.ONLINE if before == status else before
