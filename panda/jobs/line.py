"""Who comes before a job, and by which rule."""

from typing import NamedTuple

from sqlalchemy.engine import Connection

from panda.db.session import rows
from panda.jobs.share_usage import Position
from panda.names import counted

#: How far ahead of a job we count, in jobs of one shape.
MAX_POSITION = 1_000
#: Shares that are named one by one.
NAMED = 5

#: Ready jobs of the same share at the same queue with a better rank, by shape, and by owner where quotas bind them.
#: These kinds are found with a skip scan.
BEFORE = f"""
WITH RECURSIVE mine AS (SELECT * FROM ready WHERE panda_id = %(panda_id)s),
kinds AS (
    (SELECT n.who, n.shape_id, 1 AS nr FROM mine m, LATERAL (
        SELECT who, shape_id FROM ready WHERE queue = m.queue AND share = m.share
        ORDER BY queue, share, who, shape_id LIMIT 1) n)
    UNION ALL
    SELECT n.who, n.shape_id, k.nr + 1 FROM kinds k, mine m, LATERAL (
        SELECT who, shape_id FROM ready WHERE queue = m.queue AND share = m.share
            AND (who, shape_id) > (k.who, k.shape_id)
        ORDER BY queue, share, who, shape_id LIMIT 1) n
    WHERE k.nr < {MAX_POSITION})
SELECT k.shape_id = m.shape_id AS is_alike, a.n
FROM mine m, kinds k, LATERAL (
    SELECT count(*)::int AS n FROM (
        SELECT 1 FROM ready WHERE queue = m.queue AND share = m.share AND who = k.who AND shape_id = k.shape_id
            AND rank <= m.rank AND (rank, panda_id) < (m.rank, m.panda_id) LIMIT {MAX_POSITION}) others) a
"""
#: Runnable rows that are due before a job's.
DUE_BEFORE = f"""
SELECT count(*)::int AS n FROM (
    SELECT 1 FROM job_due WHERE waits_for IS NULL AND NOT final AND due_at < %(due_at)s ORDER BY due_at
    LIMIT {MAX_POSITION}) others
"""
#: Queued transfers to a storage that are due before the first one of the job's.
TRANSFERS_BEFORE = f"""
SELECT m.destination, a.n
FROM (SELECT t.destination, min(t.due_at) AS due_at
        FROM (SELECT transfer_id FROM transfer_waiters WHERE panda_id = %(panda_id)s OFFSET 0) w,
            LATERAL (SELECT * FROM transfers WHERE transfer_id = w.transfer_id OFFSET 0) t
        WHERE t.status = 'queued' GROUP BY t.destination) m, LATERAL (
    SELECT count(*)::int AS n FROM (
        SELECT 1 FROM transfers WHERE destination = m.destination AND status = 'queued' AND due_at < m.due_at
        ORDER BY destination, due_at LIMIT {MAX_POSITION}) others) a
"""


class Ahead(NamedTuple):
    """Others that come first."""

    rule: str
    """`share`: their share is further below its part; `rank`: submitted earlier, or of higher priority; `turn`: due
    earlier in the engine; `transfers`: their files are queued before."""
    who: str
    n: int | None
    """How many; None: they are not counted one by one."""
    say: str


class Place(NamedTuple):
    """A ready job among those of its share at its queue; of each kind at most `MAX_POSITION` are counted."""

    n_alike: int
    """Of its own shape."""
    n_others: int
    """Of other shapes."""


def place_of(connection: Connection, panda_id: int) -> Place:
    """How many jobs a pilot with room for all would take before this one."""
    alike = others = 0
    for row in rows(connection, BEFORE, {"panda_id": panda_id}):
        if row.is_alike:
            alike += row.n
        else:
            others += row.n
    return Place(alike, others)


def before_ready(share: str, place: Place, position: Position) -> list[Ahead]:
    """Who comes before a job that waits for a pilot."""
    found = [
        Ahead("share", other, None, f"share {other} goes first: it is further below its part than {share}")
        for other in position.ahead[:NAMED]
    ]
    if len(position.ahead) > NAMED:
        more = len(position.ahead) - NAMED
        found.append(Ahead("share", f"{more} more shares", None, f"{more} more shares go first"))
    for n, kind in ((place.n_alike, "like it"), (place.n_others, "of another size")):
        if n:
            verbs = ("was", "has") if n == 1 else ("were", "have")
            jobs = f"{_counted(n, 'job')} {kind} of share {share}"
            say = f"{jobs} {verbs[0]} submitted earlier, or {verbs[1]} a higher priority"
            found.append(Ahead("rank", share, n, say))
    return found


def before_due(connection: Connection, due_at: object) -> list[Ahead]:
    """Who comes before a job that is runnable."""
    n = rows(connection, DUE_BEFORE, {"due_at": due_at})[0].n
    return [Ahead("turn", "jobs", n, f"{_counted(n, 'job')} {_are(n)} due before it")] if n else []


def before_transfers(connection: Connection, panda_id: int) -> list[Ahead]:
    """Whose files are queued before those of a job that waits for data."""
    return [
        Ahead("transfers", row.destination, row.n,
              f"{_counted(row.n, 'file')} for {row.destination} {_are(row.n)} queued before its own")
        for row in rows(connection, TRANSFERS_BEFORE, {"panda_id": panda_id}) if row.n
    ]  # fmt: skip


def _counted(n: int, noun: str) -> str:
    return counted(n, noun, at_least=n >= MAX_POSITION)


def _are(n: int) -> str:
    return "is" if n == 1 else "are"
