"""Containers: datasets of datasets. They hold no file of their own, and nothing holds a container."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy.engine import Connection, Row

from panda.dataservice import catalog
from panda.db.session import rows, run
from panda.errors import Conflict, NotFound
from panda.names import split_did

CREATE = """
INSERT INTO datasets (scope, name, owner, kind, created_at)
VALUES (%(scope)s, %(name)s, %(owner)s, 'container', panda_now())
ON CONFLICT (scope, name) DO NOTHING RETURNING dataset_id
"""
HOLD = """
SELECT dataset_id, status, kind FROM datasets WHERE scope = %(scope)s AND name = %(name)s FOR NO KEY UPDATE
"""
#: A dataset that is let go waits for whoever makes it a member.
FOUND = """
SELECT dataset_id, scope || ':' || name AS dataset, status, kind FROM datasets
WHERE (scope, name) IN (SELECT * FROM unnest(%(scopes)s::text[], %(names)s::text[]))
ORDER BY dataset_id FOR KEY SHARE
"""
ADD = """
INSERT INTO dataset_members (container_id, dataset_id)
SELECT %(container_id)s, unnest(%(dataset_ids)s::bigint[]) ON CONFLICT DO NOTHING
"""
REMOVE = """
DELETE FROM dataset_members m USING datasets d
WHERE m.container_id = %(container_id)s AND d.dataset_id = m.dataset_id AND d.scope = %(scope)s AND d.name = %(name)s
"""
MEMBERS = """
SELECT d.scope || ':' || d.name AS dataset, d.status, d.owner, d.jobset_id, d.n_files, d.size_bytes, d.created_at,
    d.pinned, d.expires_at, d.kind
FROM dataset_members m JOIN datasets d ON d.dataset_id = m.dataset_id
WHERE m.container_id = (SELECT dataset_id FROM datasets WHERE scope = %(scope)s AND name = %(name)s)
ORDER BY d.scope, d.name
"""


def create(connection: Connection, did: str, *, owner: str) -> None:
    """Make an empty container; making one's own again is no error.

    Raises:
        Invalid: `did` is no `scope:name`.
        Conflict: it is a dataset (`dataset_exists`), somebody else's, or closed.
    """
    scope, name = split_did(did, "dataset")
    if rows(connection, CREATE, {"scope": scope, "name": name, "owner": owner}):
        return
    found = catalog.show(connection, did)
    if found.owner != owner or found.kind != "container":
        raise Conflict(f"{found.kind} {did} belongs to {found.owner}", code="dataset_exists")
    if found.status != "open":
        raise catalog.closed(did, found.status)


def add(connection: Connection, did: str, datasets: Sequence[str]) -> None:
    """Make datasets members; those that are stay so.

    Raises:
        Invalid: a name that is none. NotFound: the container or a dataset does not exist.
        Conflict: `did` is no container (`no_container`) or not open (`dataset_closed`); or one of the datasets is a
            container (`is_container`) or being deleted.
    """
    container = _held(connection, did)
    halves = [split_did(each, "datasets") for each in datasets]
    names = {"scopes": [scope for scope, _ in halves], "names": [name for _, name in halves]}
    found = {row.dataset: row for row in rows(connection, FOUND, names)}
    for each in datasets:
        if each not in found:
            raise NotFound("dataset", each)
        if found[each].kind == "container":
            raise Conflict(f"{each} is a container itself", code="is_container")
        if found[each].status == "deleting":
            raise catalog.closed(each, "deleting")
    ids = [row.dataset_id for row in found.values()]
    run(connection, ADD, {"container_id": container.dataset_id, "dataset_ids": ids})


def remove(connection: Connection, did: str, dataset: str) -> None:
    """Make a dataset no member any more. Raises as `add`, and NotFound: it is none."""
    container = _held(connection, did)
    scope, name = split_did(dataset, "dataset")
    if not run(connection, REMOVE, {"container_id": container.dataset_id, "scope": scope, "name": name}):
        raise NotFound("member", dataset)


def members(connection: Connection, did: str) -> list[Row[Any]]:
    """The datasets of a container by name; columns as in `catalog.show`.

    Raises:
        NotFound: no such container. Conflict: it is a dataset (`no_container`).
    """
    _check(did, catalog.show(connection, did).kind)
    scope, name = split_did(did, "dataset")
    return rows(connection, MEMBERS, {"scope": scope, "name": name})


def _held(connection: Connection, did: str) -> Row[Any]:
    scope, name = split_did(did, "dataset")
    found = rows(connection, HOLD, {"scope": scope, "name": name})
    if not found:
        raise NotFound("container", did)
    _check(did, found[0].kind)
    if found[0].status != "open":
        raise catalog.closed(did, found[0].status)
    return found[0]


def _check(did: str, kind: str) -> None:
    if kind != "container":
        raise Conflict(f"{did} is a dataset, no container", code="no_container")
