"""Incidents: what an operator should know. Repeats are folded, and somebody answers for each.

A component reports through the logging handler (`panda.incident_log`) or `POST /v1/incidents`. The same key
of the same component within ten minutes is one incident with a higher count, and with the worst level that was
reported; a closed one is not opened again, a new one begins.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
from sqlalchemy.engine import Connection, Row

from panda.auth.audit_log import record
from panda.db.session import rows, run
from panda.errors import Conflict, NotFound

FOLD_S = 600
LEVELS = ("info", "warning", "error", "critical")

#: Of those that report something new at once the first one writes it, the others find it. In the order of the keys, so
#: that two never wait for each other in a ring.
ONE_AT_A_TIME = """
SELECT pg_advisory_xact_lock(hashtextextended(said, 7000015)) FROM unnest(%(said)s::text[]) AS t(said)
"""
OPEN = """
SELECT DISTINCT ON (component, key) component, key, incident_id FROM incidents
WHERE key = ANY(%(keys)s) AND component = ANY(%(components)s)
    AND last_at > (SELECT panda_now()) - make_interval(secs => %(fold_s)s) AND closed_at IS NULL
ORDER BY component, key, last_at DESC
"""
LOCK = "SELECT incident_id FROM incidents WHERE incident_id = ANY(%(ids)s) ORDER BY incident_id FOR UPDATE"
FOLD = """
UPDATE incidents i SET n = i.n + t.n, last_at = panda_now(), message = t.message, context = t.context,
    level = CASE WHEN array_position(%(worse)s::text[], t.level) > array_position(%(worse)s::text[], i.level)
        THEN t.level ELSE i.level END
FROM unnest(%(ids)s::bigint[], %(levels)s::text[], %(counts)s::bigint[], %(messages)s::text[], %(contexts)s::jsonb[])
    AS t(incident_id, level, n, message, context)
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
#: Whoever says last that they look after it does. What people say stays, a line for each.
ANSWER = """
UPDATE incidents SET acknowledged_at = coalesce(acknowledged_at, panda_now()),
    acknowledged_by = CASE WHEN %(closes)s THEN coalesce(acknowledged_by, %(by)s) ELSE %(by)s END,
    closed_at = CASE WHEN %(closes)s THEN panda_now() END, closed_by = CASE WHEN %(closes)s THEN %(by)s END,
    comment = CASE WHEN %(comment)s::text = '' THEN comment
        ELSE right(concat_ws(E'\n', nullif(comment, ''), %(by)s::text || ': ' || %(comment)s::text), 20000) END
WHERE incident_id = %(incident_id)s AND closed_at IS NULL RETURNING incident_id
"""


@dataclass(frozen=True)
class Incident:
    """Something that happened `n` times. `component` and `key` tell what counts as the same."""

    component: str
    level: str
    key: str
    message: str
    n: int = 1
    context: Any = field(default_factory=dict)
    """What JSON can hold; for machines and for who looks closer."""


def report(connection: Connection, found: Sequence[Incident]) -> int:
    """Write incidents down, folding what is known. Returns how many are new."""
    found = sorted(_by_key(found).values(), key=_same)
    rows(connection, ONE_AT_A_TIME, {"said": ["\n".join(_same(each)) for each in found]})
    names = {"keys": [each.key for each in found], "components": sorted({each.component for each in found})}
    known = {(r.component, r.key): r.incident_id for r in rows(connection, OPEN, names | {"fold_s": FOLD_S})}
    old = [each for each in found if _same(each) in known]
    if old:
        ids = [known[_same(each)] for each in old]
        rows(connection, LOCK, {"ids": ids})
        run(connection, FOLD, {"ids": ids, "worse": list(LEVELS), **_columns(old)})
    new = [each for each in found if _same(each) not in known]
    if new:
        run(
            connection,
            ADD,
            {"components": [i.component for i in new], "keys": [i.key for i in new], **_columns(new)},
        )  # fmt: skip
    return len(new)


def tell(connection: Connection, component: str, key: str, message: str, facts: Any, *, level: str = "error") -> None:
    """One incident of ours."""
    report(connection, [Incident(component, level, key, message, 1, facts)])


def _same(each: Incident) -> tuple[str, str]:
    return each.component, each.key


def _by_key(found: Sequence[Incident]) -> dict[tuple[str, str], Incident]:
    """One for each component and key: the last one's words, everybody's count, the worst level."""
    known: dict[tuple[str, str], Incident] = {}
    for each in found:
        before = known.get(_same(each))
        if before is not None:
            level = max(before.level, each.level, key=LEVELS.index)
            each = replace(each, n=before.n + each.n, level=level)
        known[_same(each)] = each
    return known


def _columns(found: Sequence[Incident]) -> dict[str, list[Any]]:
    return {
        "levels": [each.level for each in found],
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
