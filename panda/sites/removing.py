"""A queue is taken away, also while jobs are in it.

From the moment somebody asks for it, it is offline, so nothing new comes and no pilot gets a job. What no pilot has
taken goes to brokerage again, with that reason; what runs is left to end. The row goes once nothing is under way there,
and a retry window later: until then a failed job may be retried at the place where its inputs are.
"""

from typing import Any, NamedTuple

from sqlalchemy.engine import Connection

from panda.auth.audit_log import record
from panda.db.session import Begin, rows, run
from panda.errors import Conflict, Invalid, NotFound
from panda.sites import moving_off
from panda.sites.status import CLOCK, write_status
from panda.sites.versions import Deed, changing
from panda.sites.waking import look_again
from panda.states import FINAL, QueueStatus

QUEUE = "SELECT status, removed_at FROM queues WHERE name = %(name)s FOR UPDATE"
REMOVE = "UPDATE queues SET removed_at = panda_now(), empty_since = NULL WHERE name = %(name)s"
#: Jobs under way at queues that are on their way out; no row: nothing was ever there.
REMOVED = """
SELECT q.name, q.empty_since, coalesce(sum(c.n) FILTER (WHERE c.status <> ALL(%(final)s)), 0)::bigint AS n_live,
    coalesce(sum(c.n) FILTER (WHERE c.status = 'assigned'), 0)::bigint AS n_assigned, count(c.status) > 0 AS was_used
FROM queues q LEFT JOIN (SELECT queue, status, n FROM job_counts
    UNION ALL SELECT queue, status, n FROM job_count_deltas) c ON c.queue = q.name
WHERE q.removed_at IS NOT NULL GROUP BY q.name, q.empty_since ORDER BY q.name
"""
EMPTY = """
UPDATE queues SET empty_since = CASE WHEN name = ANY(%(empty)s) THEN coalesce(empty_since, panda_now()) END
WHERE removed_at IS NOT NULL AND (empty_since IS NULL) = (name = ANY(%(empty)s))
"""
GONE = """
SELECT name FROM queues WHERE removed_at IS NOT NULL AND (name = ANY(%(unused)s)
    OR empty_since < panda_now() - make_interval(secs => %(window_s)s)) ORDER BY name
"""
DELETE = "DELETE FROM queues WHERE name = ANY(%(names)s)"


class Removal(NamedTuple):
    """`n_live`: jobs under way there, which leave or end before it goes."""

    queue: str
    n_live: int


def remove_queue(connection: Connection, name: str, *, by: str, reason: str, request_id: str | None = None) -> Removal:
    """Ask for a queue's end.

    Raises:
        NotFound: no such queue. Invalid: `no_reason`. Conflict: `queue_removed`: somebody did already.
    """
    if not reason.strip():
        raise Invalid("say why: the next shifter will ask", where="reason", code="no_reason")
    with changing(connection, Deed(by, "http", reason, request_id)):
        take_away(connection, name, by=by, reason=reason, request_id=request_id)
    [found] = [row for row in _removed(connection) if row.name == name]
    return Removal(name, found.n_live)


def take_away(connection: Connection, name: str, *, by: str, reason: str, request_id: str | None = None) -> None:
    """The same within somebody's change of places."""
    found = rows(connection, QUEUE, {"name": name})
    if not found:
        raise NotFound("queue", name)
    if found[0].removed_at is not None:
        raise Conflict(f"queue {name} is on its way out already", code="queue_removed")
    why = f"it is taken away: {reason}"
    write_status(connection, name, QueueStatus.OFFLINE, by=by, reason=why)
    run(connection, REMOVE, {"name": name})
    facts = {"was": found[0].status}
    record(connection, by, "remove_queue", f"queue {name}", reason=reason, facts=facts, request_id=request_id)


def carry_out(begin: Begin, retry_window_s: float) -> int:
    """Bring jobs away from queues that are on their way out, and take away those that are empty. Called by the clock.

    Returns: how many jobs went to brokerage again.
    """
    with begin() as connection:
        removed = _removed(connection)
    if not removed:
        return 0
    n = 0
    for row in removed:
        why = f"queue {row.name} is taken away"
        while row.n_live and (n_ready := moving_off.ready_jobs(begin, [row.name], by=CLOCK, reason=why)):
            n += n_ready
        if row.n_assigned > 0:
            n += moving_off.assigned_jobs(begin, [row.name], by=CLOCK, reason=why)
    with begin() as connection:
        _take_the_empty(connection, retry_window_s)
    return n


def _take_the_empty(connection: Connection, retry_window_s: float) -> None:
    removed = _removed(connection)
    run(connection, EMPTY, {"empty": [row.name for row in removed if not row.n_live]})
    values = {"unused": [row.name for row in removed if not row.was_used], "window_s": float(retry_window_s)}
    gone = [row.name for row in rows(connection, GONE, values)]
    if gone:
        with changing(connection, Deed(CLOCK, "clock", "no job speaks of it any more")):
            run(connection, DELETE, {"names": gone})
        look_again(connection)


def _removed(connection: Connection) -> list[Any]:
    return rows(connection, REMOVED, {"final": [str(status) for status in FINAL]})
