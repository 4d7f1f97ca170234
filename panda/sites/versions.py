"""Every change of places is a version: who made it, when and why, and what each thing was before.

Whoever changes places does it within `changing`, which holds the one lock of all changes, looks at the tables
before and after, and writes down what became different. So a version tells what happened, whatever way it
came, and what was changed past us (by hand, in SQL) stands in a version of its own, by nobody.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import msgspec
from sqlalchemy.engine import Connection, Row

from panda.db.session import rows, run
from panda.errors import NotFound
from panda.sites.waking import lock_queues

#: Where a change can come from.
Source = Literal["file", "http", "import", "collector", "clock", "rule", "rollback", "found"]
Document = dict[str, Any]
State = dict[tuple[str, str], Document]
"""Documents by kind (site, storage, link, queue, downtime) and name."""

#: Columns that are made of others, or that tell of a moment, are no part of a document.
STATE = """
SELECT 'site' AS kind, name, to_jsonb(t) - 'name' AS document FROM sites t
UNION ALL SELECT 'storage', name, to_jsonb(t) - 'name' FROM storages t
UNION ALL SELECT 'link', name, to_jsonb(t) - 'name' FROM links t
UNION ALL SELECT 'queue', name, to_jsonb(t) - '{name,offers,status_at,empty_since}'::text[] FROM queues t
UNION ALL SELECT 'downtime', name, to_jsonb(t) - '{name,made_at,seen_end}'::text[] FROM downtimes t
"""
KNOWN = """
SELECT k.kind, k.name, r.document FROM unnest(%(kinds)s::text[], %(names)s::text[]) AS k(kind, name),
    LATERAL (SELECT document FROM site_revisions WHERE kind = k.kind AND name = k.name
        ORDER BY version_id DESC LIMIT 1) r
"""
STATE_AT = """
SELECT DISTINCT ON (kind, name) kind, name, document FROM site_revisions WHERE version_id <= %(version_id)s
ORDER BY kind, name, version_id DESC
"""
NEW_VERSION = """
INSERT INTO site_versions (at, who, source, why, n_changed, request_id)
VALUES (panda_now(), %(who)s, %(source)s, %(why)s, %(n)s, %(request_id)s) RETURNING version_id
"""
REVISE = """
INSERT INTO site_revisions (kind, name, version_id, document)
SELECT kind, name, %(version_id)s, document
FROM unnest(%(kinds)s::text[], %(names)s::text[], %(documents)s::jsonb[]) AS t(kind, name, document)
"""
VERSION = """
SELECT version_id, at, who, source, why, n_changed, request_id FROM site_versions WHERE version_id = %(version_id)s
"""
#: What a version wrote down, each with what was written down of it before.
REVISED = """
SELECT r.kind, r.name, r.document AS now, p.document AS was FROM site_revisions r
LEFT JOIN LATERAL (SELECT document FROM site_revisions
    WHERE kind = r.kind AND name = r.name AND version_id < r.version_id ORDER BY version_id DESC LIMIT 1) p ON true
WHERE r.version_id = %(version_id)s ORDER BY r.kind, r.name
"""


NEWEST_OF = """
SELECT v.version_id, v.at, v.who, v.source, v.why, r.kind, r.name, r.document AS now, p.document AS was
FROM (SELECT kind, name, version_id, document FROM site_revisions WHERE kind = %(kind)s AND name = ANY(%(names)s)
    ORDER BY version_id DESC LIMIT %(limit)s) r
JOIN site_versions v USING (version_id)
LEFT JOIN LATERAL (SELECT document FROM site_revisions
    WHERE kind = r.kind AND name = r.name AND version_id < r.version_id ORDER BY version_id DESC LIMIT 1) p ON true
ORDER BY r.version_id DESC, r.name
"""


@dataclass(frozen=True)
class Deed:
    """Who changes something, and why."""

    who: str
    source: Source
    why: str = ""
    request_id: str | None = None


class Change(NamedTuple):
    """One difference. `field` is None where a whole thing came or went; then its document stands in `now` or `was`."""

    kind: str
    name: str
    change: Literal["added", "removed", "changed"]
    field: str | None
    was: Any
    now: Any


@dataclass
class Recorded:
    """What a change did; `version_id` is None if nothing is different."""

    before: State
    version_id: int | None = None
    changes: list[Change] = field(default_factory=list)


@contextmanager
def changing(connection: Connection, deed: Deed) -> Iterator[Recorded]:
    """Changes of places, one at a time; at the end of the block they are a version."""
    lock_queues(connection)
    recorded = Recorded(state(connection))
    _catch_up(connection, recorded.before)
    yield recorded
    after = state(connection)
    recorded.changes = compared(recorded.before, after)
    recorded.version_id = _write(connection, deed, {key: after.get(key) for key in _touched(recorded.changes)})


def state(connection: Connection) -> State:
    """Everything as it is now."""
    return {(row.kind, row.name): row.document for row in rows(connection, STATE)}


def state_at(connection: Connection, version_id: int) -> State:
    """Everything as it was when this version had been made. Raises NotFound."""
    one(connection, version_id)
    found = rows(connection, STATE_AT, {"version_id": version_id})
    return {(row.kind, row.name): row.document for row in found if row.document is not None}


def one(connection: Connection, version_id: int) -> Row[Any]:
    """Who, when, why. Raises NotFound."""
    found = rows(connection, VERSION, {"version_id": version_id})
    if not found:
        raise NotFound("version", version_id)
    return found[0]


def changes_of(connection: Connection, version_id: int) -> list[Change]:
    """What one version changed. Raises NotFound."""
    one(connection, version_id)
    revised = rows(connection, REVISED, {"version_id": version_id})
    was = {(row.kind, row.name): row.was for row in revised if row.was is not None}
    return compared(was, {(row.kind, row.name): row.now for row in revised if row.now is not None})


def diff(connection: Connection, since: int, until: int) -> list[Change]:
    """What is different at version `until` from what was at version `since`. Raises NotFound."""
    return compared(state_at(connection, since), state_at(connection, until))


def newest_of(
    connection: Connection, kind: str, names: Sequence[str], limit: int
) -> list[tuple[Row[Any], list[Change]]]:
    """The last changes of things of a kind, newest first: who, when, why (`at`, `who`, `source`, `why`, `name`), and
    what became different."""
    found = rows(connection, NEWEST_OF, {"kind": kind, "names": list(names), "limit": limit})
    return [
        (row, compared(*({} if each is None else {(row.kind, row.name): each} for each in (row.was, row.now))))
        for row in found
    ]


def compared(was: Mapping[tuple[str, str], Document], now: Mapping[tuple[str, str], Document]) -> list[Change]:
    """Differences, by kind and name. What both lack says nothing; a field that only one has is one."""
    changes: list[Change] = []
    for kind, name in sorted(was.keys() | now.keys()):
        before, after = was.get((kind, name)), now.get((kind, name))
        if before is None or after is None:
            word: Literal["added", "removed"] = "added" if before is None else "removed"
            changes.append(Change(kind, name, word, None, before, after))
            continue
        changes += [
            Change(kind, name, "changed", key, before.get(key), after.get(key))
            for key in sorted(before.keys() | after.keys())
            if before.get(key) != after.get(key)
        ]
    return changes


def _catch_up(connection: Connection, now: State) -> None:
    """Write down what was changed past us, or before there were versions. What a document does not speak of, because
    the column is younger, is no change."""
    keys = sorted(now)
    found = rows(connection, KNOWN, {"kinds": [kind for kind, _ in keys], "names": [name for _, name in keys]})
    known = {(row.kind, row.name): row.document for row in found}
    strange = [key for key in keys if not _agree(known.get(key), now[key])]
    _write(connection, Deed("", "found", "as it was found"), {key: now[key] for key in strange})


def _agree(known: Document | None, now: Document) -> bool:
    return known is not None and all(known[key] == now[key] for key in known.keys() & now.keys())


def _touched(changes: Sequence[Change]) -> list[tuple[str, str]]:
    return sorted({(change.kind, change.name) for change in changes})


def _write(connection: Connection, deed: Deed, documents: Mapping[tuple[str, str], Document | None]) -> int | None:
    if not documents:
        return None
    values = {"who": deed.who, "source": deed.source, "why": deed.why[:2000], "n": len(documents)}
    version_id: int = rows(connection, NEW_VERSION, values | {"request_id": deed.request_id})[0].version_id
    texts = [None if each is None else msgspec.json.encode(each).decode() for each in documents.values()]
    run(
        connection,
        REVISE,
        {"version_id": version_id, "kinds": [kind for kind, _ in documents], "names": [name for _, name in documents],
         "documents": texts},
    )  # fmt: skip
    return version_id
