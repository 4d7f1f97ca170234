"""Datasets that are wanted on a storage: said of one, or of all whose name fits when they close (`storage.toml`).

A rule looks through the files of its dataset, a window at a time, asks for what lacks, and comes back until all of it
is there and nothing joins the dataset any more. Its transfers are wanted also when no job waits for them, and what they
bring is kept. A rule never gives up: it comes back ever less often.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy.engine import Connection, Row

from panda.dataservice import catalog, copies
from panda.db.session import Begin, rows, run
from panda.errors import Conflict, NotFound
from panda.logs import Log
from panda.names import split_did

log = Log("panda.rules")

#: Files that one look takes, and rules that one pass looks at.
WINDOW, PASS = 1_000, 50
#: Between two looks at a whole dataset; as long again as it took so far, within these bounds, in seconds.
FIRST_S, LONGEST_S = 10.0, 3600.0

#: Datasets that closed, and that nobody looked at since.
CLOSED = """
WITH closed AS (
    SELECT dataset_id, scope || ':' || name AS did, kind, status FROM datasets
    WHERE has_rules IS NULL AND closed_at IS NOT NULL ORDER BY closed_at LIMIT %(limit)s FOR NO KEY UPDATE SKIP LOCKED),
meant AS (
    SELECT c.dataset_id, a.storage, min(a.name) AS name FROM closed c JOIN archiving a ON c.did LIKE a.datasets
    WHERE c.kind = 'dataset' AND c.status <> 'deleting' GROUP BY 1, 2),
made AS (
    INSERT INTO dataset_rules (dataset_id, storage, made_by, created_at, due_at)
    SELECT dataset_id, storage, 'storage.toml [archiving.' || name || ']', panda_now(), panda_now() FROM meant
    ON CONFLICT DO NOTHING)
UPDATE datasets d SET has_rules = d.dataset_id IN (SELECT dataset_id FROM meant)
WHERE d.dataset_id = ANY(ARRAY(SELECT dataset_id FROM closed))
"""
MAKE = """
INSERT INTO dataset_rules (dataset_id, storage, made_by, created_at, due_at)
SELECT dataset_id, %(storage)s, %(by)s, panda_now(), panda_now() FROM datasets
WHERE scope = %(scope)s AND name = %(name)s AND status <> 'deleting' AND kind = 'dataset'
ON CONFLICT (dataset_id, storage) DO UPDATE SET due_at = panda_now(), done_at = NULL
RETURNING dataset_id
"""
DROP = """
DELETE FROM dataset_rules r USING datasets d
WHERE d.dataset_id = r.dataset_id AND d.scope = %(scope)s AND d.name = %(name)s AND r.storage = %(storage)s
"""
OF_DATASET = """
SELECT r.storage, r.made_by, r.created_at, r.n_lacking, r.error, r.done_at
FROM dataset_rules r JOIN datasets d ON d.dataset_id = r.dataset_id
WHERE d.scope = %(scope)s AND d.name = %(name)s ORDER BY r.storage
"""
STORAGE = "SELECT FROM storages WHERE name = %(storage)s"
TAKE = """
WITH next AS (
    SELECT dataset_id, storage FROM dataset_rules WHERE done_at IS NULL AND due_at <= (SELECT panda_now())
    ORDER BY due_at LIMIT %(n)s FOR UPDATE SKIP LOCKED)
UPDATE dataset_rules r SET due_at = panda_now() + interval '1 min' FROM next n, datasets d
WHERE r.dataset_id = n.dataset_id AND r.storage = n.storage AND d.dataset_id = n.dataset_id
RETURNING r.dataset_id, r.storage, r.after_lfn, r.n_lacking, d.status, d.closed_at, d.owner
"""
FILES = """
SELECT f.file_id, f.lfn, EXISTS (SELECT FROM replicas r
    WHERE r.file_id = f.file_id AND r.storage = %(storage)s AND NOT r.is_copy OFFSET 0) AS is_there
FROM (SELECT file_id, lfn FROM files WHERE dataset_id = %(dataset_id)s AND lfn > %(after)s
    ORDER BY dataset_id, lfn LIMIT %(limit)s) f
ORDER BY f.lfn
"""
REQUEST = """
INSERT INTO transfers (file_id, destination, owner, is_ruled, due_at, created_at)
SELECT file_id, %(storage)s, %(owner)s, true, panda_now(), panda_now()
FROM unnest(%(file_ids)s::bigint[]) AS file_id ORDER BY file_id
ON CONFLICT (file_id, destination) WHERE status IN ('queued', 'moving') DO NOTHING
"""
#: Those that jobs asked for already are the rule's as well.
ADOPT = """
WITH found AS (
    SELECT t.transfer_id FROM unnest(%(file_ids)s::bigint[]) AS w(file_id), LATERAL (
        SELECT transfer_id, is_ruled FROM transfers WHERE file_id = w.file_id AND destination = %(storage)s
            AND status IN ('queued', 'moving') OFFSET 0) t
    WHERE NOT t.is_ruled),
held AS (
    SELECT transfer_id FROM transfers WHERE transfer_id = ANY(ARRAY(SELECT transfer_id FROM found))
    ORDER BY transfer_id FOR UPDATE)
UPDATE transfers SET is_ruled = true, owner = coalesce(owner, %(owner)s)
WHERE transfer_id = ANY(ARRAY(SELECT transfer_id FROM held))
"""
ONWARD = """
UPDATE dataset_rules SET after_lfn = %(after)s, n_lacking = %(n_lacking)s, due_at = panda_now()
WHERE dataset_id = %(dataset_id)s AND storage = %(storage)s
"""
#: It is done if all was there and the dataset is still closed as it was when the look began.
ROUND = """
WITH held AS (SELECT closed_at FROM datasets WHERE dataset_id = %(dataset_id)s FOR SHARE)
UPDATE dataset_rules SET after_lfn = '', n_lacking = %(n_lacking)s::bigint, error = %(error)s,
    done_at = CASE WHEN %(n_lacking)s::bigint = 0 AND %(closed_at)s = (SELECT closed_at FROM held) THEN panda_now() END,
    due_at = panda_now() + least(%(longest_s)s * interval '1 s',
        greatest(%(first_s)s * interval '1 s', panda_now() - created_at))
WHERE dataset_id = %(dataset_id)s AND storage = %(storage)s
RETURNING done_at
"""
FORGET = "DELETE FROM dataset_rules WHERE dataset_id = %(dataset_id)s AND storage = %(storage)s"


def make(connection: Connection, did: str, storage: str, *, by: str) -> None:
    """Have all files of a dataset on `storage`, also those that join it later, until it closes.

    Raises:
        NotFound: no such dataset or storage. Conflict: it is being deleted, or a container.
    """
    if not rows(connection, STORAGE, {"storage": storage}):
        raise NotFound("storage", storage)
    found = catalog.show(connection, did)
    if found.kind == "container":
        raise Conflict(f"{did} is a container: name its datasets", code="is_container")
    if not rows(connection, MAKE, _halves(did) | {"storage": storage, "by": by}):
        raise catalog.closed(did, "deleting")


def drop(connection: Connection, did: str, storage: str) -> None:
    """Want it there no more; what is there stays, and what is on its way arrives. Raises NotFound: there is no such
    rule."""
    catalog.show(connection, did)
    if not run(connection, DROP, _halves(did) | {"storage": storage}):
        raise NotFound("rule", f"{did} {storage}")


def of_dataset(connection: Connection, did: str) -> list[Row[Any]]:
    """Where a dataset is wanted, by storage: storage, made_by, created_at, n_lacking (files that the last look found
    lacking, or the one under way so far), error, done_at. Raises NotFound: no such dataset."""
    catalog.show(connection, did)
    return rows(connection, OF_DATASET, _halves(did))


def advance(begin: Begin, limit: int = PASS) -> int:
    """Make rules for datasets that closed, and take a look for each rule that is due. Returns how many it looked at."""
    with begin() as connection:
        run(connection, CLOSED, {"limit": limit})
    with begin() as connection:
        taken = rows(connection, TAKE, {"n": limit})
    for rule in taken:
        with begin() as connection:
            _look(connection, rule)
    return len(taken)


def _look(connection: Connection, rule: Row[Any]) -> None:
    key = {"dataset_id": rule.dataset_id, "storage": rule.storage}
    if rule.status == "deleting":
        run(connection, FORGET, key)
        return
    window = key | {"after": rule.after_lfn, "limit": WINDOW}
    found = rows(connection, FILES, window)
    if copies.promote(connection, [(row.file_id, rule.storage) for row in found if not row.is_there]):
        found = rows(connection, FILES, window)
    lacking = [row.file_id for row in found if not row.is_there]
    _ask(connection, rule, lacking)
    n_lacking = len(lacking) + (rule.n_lacking if rule.after_lfn else 0)
    if len(found) == WINDOW:
        run(connection, ONWARD, key | {"after": found[-1].lfn, "n_lacking": n_lacking})
        return
    told = f"{n_lacking} of its files are not there yet" if n_lacking else None
    values = {
        "closed_at": rule.closed_at, "n_lacking": n_lacking, "error": told, "first_s": FIRST_S, "longest_s": LONGEST_S,
    }  # fmt: skip
    if any(row.done_at for row in rows(connection, ROUND, key | values)):
        log.info("a dataset is where it is wanted", dataset_id=rule.dataset_id, storage=rule.storage)


def _ask(connection: Connection, rule: Row[Any], lacking: Sequence[int]) -> None:
    if not lacking:
        return
    values = {"file_ids": sorted(lacking), "storage": rule.storage, "owner": rule.owner}
    run(connection, REQUEST, values)
    run(connection, ADOPT, values)


def _halves(did: str) -> dict[str, Any]:
    scope, name = split_did(did, "dataset")
    return {"scope": scope, "name": name}
