"""Transfers as they can be listed, and how much goes from each storage to each other."""

from typing import Any

from sqlalchemy.engine import Connection, Row

from panda.dataservice.admission import MOST_COUNTED
from panda.db.lists import Noun, Order, Walk
from panda.db.session import rows
from panda.jobs.why import HELD_BECAUSE
from panda.query import Cost, Expression, Field, Fields, Kind, words_of

#: Links are told of the last so many seconds, and of no more transfers than this in each state.
FLOW_S, FLOW_MOST = 600, 50_000

_WAITING = f"""
(SELECT count(*) FROM (SELECT FROM transfer_waiters WHERE (transfer_id, panda_id) > (t.transfer_id, -1)
    AND transfer_id <= t.transfer_id ORDER BY transfer_id, panda_id LIMIT {MOST_COUNTED}) w)::int
"""
SHOWN = f"""
SELECT t.transfer_id, t.status, d.scope || ':' || d.name AS dataset, f.lfn, f.size_bytes,
    coalesce(nullif(t.source, ''), t.planned) AS source, t.destination, t.tries, {_WAITING} AS n_waiting, t.error,
    t.due_at, t.created_at, t.ended_at, t.owner, {HELD_BECAUSE} AS held_because
FROM (SELECT * FROM transfers WHERE transfer_id = ANY(%(ids)s) OFFSET 0) t
CROSS JOIN LATERAL (SELECT dataset_id, lfn, size_bytes FROM files WHERE file_id = t.file_id OFFSET 0) f
CROSS JOIN LATERAL (SELECT scope, name FROM datasets WHERE dataset_id = f.dataset_id OFFSET 0) d
LEFT JOIN storage_space s ON s.storage = t.destination
"""
#: What the page of transfers shows: those that move, the next ones, and the last ones that failed.
ON_PAGE = """
(SELECT transfer_id FROM transfers WHERE status = 'moving' ORDER BY lease_until LIMIT %(n)s)
UNION ALL (SELECT transfer_id FROM transfers WHERE status = 'queued' ORDER BY due_at LIMIT %(n)s)
UNION ALL (SELECT transfer_id FROM (
    SELECT transfer_id, status FROM transfers WHERE ended_at IS NOT NULL ORDER BY ended_at DESC LIMIT 1000) t
    WHERE status = 'failed' LIMIT %(n)s)
"""
LINKS = f"""
WITH open AS (
    SELECT planned AS source, destination, status FROM transfers WHERE status = 'moving'
    UNION ALL (SELECT planned, destination, status FROM transfers WHERE status = 'queued'
        ORDER BY due_at LIMIT {FLOW_MOST})),
ended AS (
    SELECT coalesce(nullif(t.source, ''), t.planned) AS source, t.destination, t.status, f.size_bytes
    FROM (SELECT * FROM transfers WHERE ended_at IS NOT NULL
            AND ended_at > (SELECT panda_now()) - make_interval(secs => %(flow_s)s)
        ORDER BY ended_at DESC LIMIT {FLOW_MOST}) t,
        LATERAL (SELECT size_bytes FROM files WHERE file_id = t.file_id OFFSET 0) f),
every AS (
    SELECT source, destination, status, 0 AS size_bytes FROM open UNION ALL SELECT * FROM ended)
SELECT source, destination,
    count(*) FILTER (WHERE status = 'queued')::int AS n_queued,
    count(*) FILTER (WHERE status = 'moving')::int AS n_moving,
    count(*) FILTER (WHERE status = 'done')::int AS n_done,
    count(*) FILTER (WHERE status = 'failed')::int AS n_failed,
    coalesce(sum(size_bytes) FILTER (WHERE status = 'done'), 0)::bigint AS bytes_done
FROM every GROUP BY source, destination ORDER BY destination, source NULLS FIRST
"""


#: Those under way, by the indexes that have nothing else in them: those that move, and the next ones that are due.
_OPEN = """transfer_id = ANY(ARRAY(
    (SELECT transfer_id FROM transfers WHERE status = 'moving' ORDER BY lease_until LIMIT {window})
    UNION ALL (SELECT transfer_id FROM transfers WHERE status = 'queued' ORDER BY due_at LIMIT {window})))"""


def walk_transfers(expression: Expression) -> Walk:
    """By their ids, by what is on its way, or through all, the newest first."""
    ids, statuses = words_of(expression, "transfer"), words_of(expression, "status")
    if ids is not None:
        return Walk(("transfers",), where="transfer_id = ANY(%(w_ids)s::bigint[])", values={"w_ids": list(ids)})
    if statuses is not None and set(statuses) <= {"queued", "moving"}:
        return Walk(("transfers",), where=_OPEN)
    return Walk(("transfers",))


TRANSFERS = Noun(
    name="transfer",
    fields=Fields(
        Field("transfer", Kind.WHOLE, "r.transfer_id", cost=Cost.INDEX, aliases=("id", "transfer_id")),
        Field("status", Kind.WORD, "r.status", words=("queued", "moving", "done", "failed"), aliases=("state",)),
        Field("source", Kind.TEXT, "coalesce(nullif(r.source, ''), r.planned)", "a storage", is_nullable=True),
        Field("destination", Kind.TEXT, "r.destination", "a storage"),
        Field("file", Kind.WHOLE, "r.file_id", "its file_id", aliases=("file_id",)),
        Field("owner", Kind.TEXT, "r.owner", "for whom", is_nullable=True, aliases=("user",)),
        Field("tries", Kind.WHOLE, "r.tries"),
        Field("error", Kind.TEXT, "r.error", is_nullable=True),
        Field("due", Kind.TIME, "r.due_at", aliases=("due_at",)),
        Field("created", Kind.TIME, "r.created_at", aliases=("created_at",)),
        Field("ended", Kind.TIME, "r.ended_at", is_nullable=True, aliases=("ended_at",)),
    ),
    columns="transfer_id, file_id, status, source, planned, destination, owner, tries, error, due_at, created_at,"
    " ended_at",
    identity=("transfer_id",),
    orders={"created": Order(("transfer_id",))},
    walk=walk_transfers,
    show=SHOWN,
)


def on_page(connection: Connection, n: int = 50) -> list[Row[Any]]:
    """Up to `n` transfers that move, that come next, and that failed lately; columns as in `SHOWN`."""
    ids = [row.transfer_id for row in rows(connection, ON_PAGE, {"n": n})]
    found = {row.transfer_id: row for row in rows(connection, SHOWN, {"ids": ids})} if ids else {}
    return [found[transfer_id] for transfer_id in ids if transfer_id in found]


def links(connection: Connection) -> list[Row[Any]]:
    """What goes from each storage to each other: source, destination, n_queued, n_moving; and of the last
    `FLOW_S` seconds n_done, n_failed, bytes_done. By destination and source; those that are idle are left out."""
    return rows(connection, LINKS, {"flow_s": float(FLOW_S)})
