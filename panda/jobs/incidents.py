"""Incidents: what an operator should know. Repeats are folded, and somebody answers for each.

A component reports through the logging handler (`panda.incident_log`) or `POST /v1/incidents`. The same key
within ten minutes is one incident with a higher count; a closed one is not opened again, a new one begins.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from sqlalchemy.engine import Connection, Row

from panda.auth.audit_log import record
from panda.db.session import rows, run
from panda.errors import Conflict, NotFound

FOLD_S = 600
LEVELS = ("info", "warning", "error", "critical")

#: Locked in one order, so that two components that fold the same keys never wait for each other in a ring.
OPEN = """
SELECT DISTINCT ON (key) key, incident_id FROM incidents
WHERE key = ANY(%(keys)s) AND last_at > (SELECT panda_now()) - make_interval(secs => %(fold_s)s) AND closed_at IS NULL
ORDER BY key, last_at DESC
"""
LOCK = "SELECT incident_id FROM incidents WHERE incident_id = ANY(%(ids)s) ORDER BY incident_id FOR UPDATE"
FOLD = """
UPDATE incidents i SET n = i.n + t.n, last_at = panda_now(), message = t.message, context = t.context
FROM unnest(%(ids)s::bigint[], %(counts)s::bigint[], %(messages)s::text[], %(contexts)s::jsonb[])
    AS t(incident_id, n, message, context)
WHERE i.incident_id = t.incident_id AND i.incident_id = ANY(%(ids)s)
"""
ADD = """
INSERT INTO incidents (component, level, key, message, context, n, first_at, last_at)
SELECT component, level, key, message, context, n, panda_now(), panda_now()
FROM unnest(%(components)s::text[], %(levels)s::text[], %(keys)s::text[], %(messages)s::text[], %(contexts)s::jsonb[],
    %(counts)s::bigint[]) AS t(component, level, key, message, context, n)
"""
NEWEST = """
SELECT incident_id, component, level, key, message, context, n, first_at, last_at, acknowledged_at, acknowledged_by,
    closed_at, closed_by, comment
FROM incidents WHERE incident_id < %(before)s ORDER BY incident_id DESC LIMIT %(limit)s
"""
ONE = """
SELECT incident_id, component, level, key, message, context, n, first_at, last_at, acknowledged_at, acknowledged_by,
    closed_at, closed_by, comment
FROM incidents WHERE incident_id = %(incident_id)s
"""
ANSWER = """
UPDATE incidents SET
    acknowledged_at = coalesce(acknowledged_at, panda_now()), acknowledged_by = coalesce(acknowledged_by, %(by)s),
    closed_at = CASE WHEN %(closes)s THEN panda_now() END, closed_by = CASE WHEN %(closes)s THEN %(by)s END,
    comment = CASE WHEN %(comment)s::text = '' THEN comment ELSE %(comment)s END
WHERE incident_id = %(incident_id)s AND closed_at IS NULL RETURNING incident_id
"""


@dataclass(frozen=True)
class Incident:
    """Something that happened `n` times. `key` tells what counts as the same."""

    component: str
    level: str
    key: str
    message: str
    n: int = 1
    context: Any = field(default_factory=dict)
    """What JSON can hold; for machines and for who looks closer."""


def report(connection: Connection, found: Sequence[Incident]) -> int:
    """Write incidents down, folding what is known. Returns how many are new."""
    found = sorted(_by_key(found).values(), key=lambda each: each.key)
    known = {r.key: r.incident_id for r in rows(connection, OPEN, {"keys": [i.key for i in found], "fold_s": FOLD_S})}
    old = [each for each in found if each.key in known]
    if old:
        ids = [known[each.key] for each in old]
        rows(connection, LOCK, {"ids": ids})
        run(connection, FOLD, {"ids": ids, **_columns(old)})
    new = [each for each in found if each.key not in known]
    if new:
        run(
            connection,
            ADD,
            {"components": [i.component for i in new], "levels": [i.level for i in new],
             "keys": [i.key for i in new], **_columns(new)},
        )  # fmt: skip
    return len(new)


def tell(connection: Connection, component: str, key: str, message: str, facts: Any, *, level: str = "error") -> None:
    """One incident of ours."""
    report(connection, [Incident(component, level, key, message, 1, facts)])


def _by_key(found: Sequence[Incident]) -> dict[str, Incident]:
    """One for each key: the last one's words, everybody's count."""
    known: dict[str, Incident] = {}
    for each in found:
        n = each.n + (known[each.key].n if each.key in known else 0)
        known[each.key] = Incident(each.component, each.level, each.key, each.message, n, each.context)
    return known


def _columns(found: Sequence[Incident]) -> dict[str, list[Any]]:
    return {
        "counts": [each.n for each in found],
        "messages": [each.message for each in found],
        "contexts": [msgspec.json.encode(each.context, enc_hook=str).decode() for each in found],
    }


def newest(connection: Connection, *, before: int = 2**62, limit: int = 50) -> list[Row[Any]]:
    """Incidents below `before`, newest first."""
    return rows(connection, NEWEST, {"before": before, "limit": limit})


def one(connection: Connection, incident_id: int) -> Row[Any]:
    """One incident. Raises NotFound."""
    found = rows(connection, ONE, {"incident_id": incident_id})
    if not found:
        raise NotFound("incident", incident_id)
    return found[0]


def answer(
    connection: Connection, incident_id: int, *, closes: bool, by: str, comment: str, request_id: str | None = None
) -> None:
    """Acknowledge an incident, or close it; the deed is in the audit log.

    Raises:
        NotFound: there is none. Conflict: `incident_closed`.
    """
    one(connection, incident_id)
    if not rows(connection, ANSWER, {"incident_id": incident_id, "closes": closes, "by": by, "comment": comment}):
        raise Conflict(f"incident {incident_id} is closed already", code="incident_closed")
    word = "close_incident" if closes else "acknowledge_incident"
    record(connection, by, word, f"incident {incident_id}", reason=comment, request_id=request_id)
