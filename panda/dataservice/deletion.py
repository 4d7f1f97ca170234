"""Datasets that go: who may let them go, when nobody reads them any more, and how their bytes leave the storages.

A dataset that is `deleting` takes no file and no new reader. Jobs that are bound to it, those among them that may
still be retried, and job sets that write into it are waited for. Then, chunk by chunk, its files leave the
catalogue and their replicas become rows of `deletions`, which are carried out under a lease; the dataset's name is
free when the last one is gone. So nothing that is put later can meet a deletion that was meant for its predecessor.
"""

from collections.abc import Collection
from typing import Any

from sqlalchemy.engine import Connection, Row

from panda.dataservice import catalog
from panda.dataservice.movers.base import Place
from panda.dataservice.storage import mover_of
from panda.db.session import Begin, once, rows, run
from panda.errors import Conflict
from panda.logs import Log
from panda.names import split_did

log = Log("panda.deletion")

#: From the moment that a dataset takes no new reader until the first look for readers: longer than a stage may run,
#: so that every job that was bound to it is seen.
GRACE_S = 120.0
#: Jobs that one statement looks at, files that one transaction takes out, such chunks and replicas of one pass.
WINDOW, CHUNK, CHUNKS, PASS = 5_000, 1_000, 20, 200
LEASE_S = 60.0
#: Wait after a storage refused; twice as long after each further time, up to the longest.
BACK_OFF_S, LONGEST_BACK_OFF_S = 5.0, 3600.0

KEEP = """
UPDATE datasets SET pinned = %(pinned)s, expires_at = panda_now() + make_interval(secs => %(lifetime_s)s::float8)
WHERE scope = %(scope)s AND name = %(name)s AND status <> 'deleting'
"""
MARK = """
UPDATE datasets SET status = 'deleting', deleting_at = panda_now()
WHERE scope = %(scope)s AND name = %(name)s AND status <> 'deleting' AND NOT pinned
"""
EXPIRE = """
WITH late AS (
    SELECT dataset_id FROM datasets
    WHERE expires_at <= (SELECT panda_now()) AND status <> 'deleting' AND NOT pinned
    ORDER BY expires_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
UPDATE datasets SET status = 'deleting', deleting_at = panda_now()
WHERE dataset_id = ANY(ARRAY(SELECT dataset_id FROM late))
RETURNING scope || ':' || name AS dataset
"""
#: Nobody writes into these any more, and no job set is still being made from them.
UNWRITTEN = """
SELECT d.dataset_id FROM (
    SELECT dataset_id, scope, name FROM datasets WHERE status = 'deleting'
        AND deleting_at < (SELECT panda_now()) - make_interval(secs => %(grace_s)s)
    ORDER BY deleting_at LIMIT %(limit)s) d
WHERE NOT EXISTS (SELECT FROM jobsets s WHERE s.output_dataset_id = d.dataset_id AND s.ended_at IS NULL)
    AND NOT EXISTS (SELECT FROM jobsets s WHERE s.n_expanded < s.n_jobs
        AND position('"' || d.scope || ':' || d.name || '"' IN s.bindings::text) > 0)
"""
READ_BY_JOBS = """
WITH live AS MATERIALIZED (
    SELECT panda_id, status FROM jobs WHERE panda_id > %(after)s ORDER BY panda_id LIMIT %(window)s)
SELECT (SELECT max(panda_id) FROM live) AS last, ARRAY(
    SELECT DISTINCT f.dataset_id FROM live l, LATERAL (
        SELECT dataset_id FROM job_files WHERE panda_id = l.panda_id AND kind IN ('input', 'dataset')
            AND dataset_id = ANY(%(dataset_ids)s) OFFSET 0) f
    WHERE l.status NOT IN ('finished', 'cancelled', 'closed')) AS dataset_ids
"""
HOLD = "SELECT status FROM datasets WHERE dataset_id = %(dataset_id)s FOR UPDATE"
#: Files that no mover has in its hands.
NEXT_FILES = """
SELECT file_id FROM files f WHERE dataset_id = %(dataset_id)s AND NOT EXISTS (
    SELECT FROM (SELECT status FROM transfers WHERE file_id = f.file_id OFFSET 0) t WHERE t.status = 'moving')
ORDER BY dataset_id, lfn LIMIT %(limit)s
"""
#: Rows of transfers refer to files; a mover that took one since makes this fail, and the next pass comes later.
FORGET_TRANSFERS = "DELETE FROM transfers WHERE file_id = ANY(%(file_ids)s) AND status <> 'moving'"
FORGET_RECALLS = "DELETE FROM recalls WHERE file_id = ANY(%(file_ids)s)"
TAKE_OUT = """
WITH gone AS (DELETE FROM replicas WHERE file_id = ANY(%(file_ids)s) RETURNING file_id, storage, path, is_copy),
counted AS (
    INSERT INTO storage_use_deltas (storage, owner, n_files, n_bytes)
    SELECT g.storage, CASE WHEN g.is_copy THEN '' ELSE d.owner END, -count(*), -sum(f.size_bytes)
    FROM gone g, LATERAL (SELECT size_bytes FROM files WHERE file_id = g.file_id OFFSET 0) f,
        (SELECT owner FROM datasets WHERE dataset_id = %(dataset_id)s) d
    GROUP BY 1, 2)
INSERT INTO deletions (dataset_id, storage, path, due_at)
SELECT %(dataset_id)s, storage, path, panda_now() FROM gone
"""
FORGET_FILES = """
WITH gone AS (DELETE FROM files WHERE file_id = ANY(%(file_ids)s) RETURNING size_bytes)
UPDATE datasets SET n_files = n_files - g.n, size_bytes = datasets.size_bytes - g.bytes
FROM (SELECT count(*) AS n, coalesce(sum(size_bytes), 0) AS bytes FROM gone) g WHERE dataset_id = %(dataset_id)s
"""
FORGET_MEMBERS = """
DELETE FROM dataset_members WHERE container_id = ANY(%(dataset_ids)s) OR dataset_id = ANY(%(dataset_ids)s)
"""
FORGET_RULES = "DELETE FROM dataset_rules WHERE dataset_id = ANY(%(dataset_ids)s)"
#: The name is free when the bytes are gone.
FORGET_DATASETS = """
DELETE FROM datasets d WHERE dataset_id = ANY(%(dataset_ids)s) AND status = 'deleting'
    AND NOT EXISTS (SELECT FROM files WHERE dataset_id = d.dataset_id OFFSET 0)
    AND NOT EXISTS (SELECT FROM deletions WHERE dataset_id = d.dataset_id OFFSET 0)
"""
TAKE = """
WITH next AS (
    SELECT x.deletion_id FROM deletions x JOIN storages s ON s.name = x.storage AND s.status = 'online'
    WHERE x.due_at <= (SELECT panda_now()) ORDER BY x.due_at LIMIT %(n)s FOR UPDATE OF x SKIP LOCKED)
UPDATE deletions x SET tries = tries + 1, due_at = panda_now() + make_interval(secs => %(lease_s)s)
FROM storages s WHERE s.name = x.storage AND deletion_id = ANY(ARRAY(SELECT deletion_id FROM next))
RETURNING deletion_id, tries, kind, root, path, storage
"""
DONE = "DELETE FROM deletions WHERE deletion_id = ANY(%(deletion_ids)s)"
REFUSED = """
UPDATE deletions SET error = %(error)s, due_at = panda_now() + make_interval(secs => %(for_s)s)
WHERE deletion_id = %(deletion_id)s
"""


def keep(connection: Connection, did: str, *, lifetime_s: float | None, pinned: bool) -> None:
    """Let a dataset expire `lifetime_s` seconds from now (None: never), and pin it or not: what is pinned neither
    expires nor can be deleted.

    Raises:
        NotFound: no such dataset. Conflict: it is being deleted (`dataset_deleting`).
    """
    values = _halves(did) | {"lifetime_s": lifetime_s, "pinned": pinned}
    if catalog.show(connection, did).status == "deleting" or not run(connection, KEEP, values):
        raise Conflict(f"dataset {did} is being deleted", code="dataset_deleting")


def delete(connection: Connection, did: str) -> None:
    """Let a dataset go as soon as nobody reads it. One that goes already goes on.

    Raises:
        NotFound: no such dataset. Conflict: it is pinned (`dataset_pinned`).
    """
    if catalog.show(connection, did).status == "deleting" or run(connection, MARK, _halves(did)):
        return
    raise Conflict(f"dataset {did} is pinned", code="dataset_pinned")


def expire(connection: Connection, limit: int = 100) -> int:
    """Datasets whose lifetime is over begin to go. Returns how many."""
    gone = rows(connection, EXPIRE, {"limit": limit})
    for row in gone:
        log.info("dataset expired", dataset=row.dataset)
    return len(gone)


def take_out_unread(begin: Begin, *, grace_s: float = GRACE_S, limit: int = 100) -> int:
    """Take the files of datasets that nobody needs any more out of the catalogue, some chunks of each.

    Returns: how many files left it."""
    with once(begin) as connection:
        found = rows(connection, UNWRITTEN, {"grace_s": grace_s, "limit": limit})
    dataset_ids = {int(row.dataset_id) for row in found}
    dataset_ids -= _read(begin, dataset_ids)
    n = sum(_take_out(begin, dataset_id) for dataset_id in sorted(dataset_ids))
    with begin() as connection:
        for sql in (FORGET_MEMBERS, FORGET_RULES, FORGET_DATASETS):
            run(connection, sql, {"dataset_ids": sorted(dataset_ids)})
    return n


def carry_out(begin: Begin, n: int = PASS) -> int:
    """Remove the bytes of up to `n` replicas that are due. A pass that dies is taken up when its lease ends.

    Returns: how many are gone."""
    with begin() as connection:
        taken = rows(connection, TAKE, {"n": n, "lease_s": LEASE_S})
    done: list[int] = []
    for row in taken:
        problem = _remove(row)
        if problem is None:
            done.append(row.deletion_id)
        else:
            for_s = min(LONGEST_BACK_OFF_S, BACK_OFF_S * 2 ** min(row.tries - 1, 20))
            log.warning("replica cannot be removed", storage=row.storage, path=row.path, problem=problem)
            with once(begin) as connection:
                run(connection, REFUSED, {"deletion_id": row.deletion_id, "error": problem[:2000], "for_s": for_s})
    with once(begin) as connection:
        run(connection, DONE, {"deletion_ids": done})
    return len(done)


def _read(begin: Begin, dataset_ids: Collection[int]) -> set[int]:
    """Those of the datasets that a job still reads, or may after a retry."""
    read: set[int] = set()
    after: int | None = 0
    while after is not None and set(dataset_ids) - read:
        values = {"after": after, "window": WINDOW, "dataset_ids": sorted(set(dataset_ids) - read)}
        with once(begin) as connection:
            [found] = rows(connection, READ_BY_JOBS, values)
        read |= set(found.dataset_ids)
        after = found.last
    return read


def _take_out(begin: Begin, dataset_id: int) -> int:
    """Several chunks at once: the look for readers, which comes before, costs more than they do."""
    n = 0
    for _ in range(CHUNKS):
        taken = _take_out_chunk(begin, dataset_id)
        n += taken
        if not taken:
            break
    return n


def _take_out_chunk(begin: Begin, dataset_id: int) -> int:
    key = {"dataset_id": dataset_id}
    with begin() as connection:
        held = rows(connection, HOLD, key)
        if not held or held[0].status != "deleting":
            return 0
        file_ids = [row.file_id for row in rows(connection, NEXT_FILES, key | {"limit": CHUNK})]
        if not file_ids:
            return 0
        run(connection, FORGET_TRANSFERS, {"file_ids": file_ids})
        run(connection, FORGET_RECALLS, {"file_ids": file_ids})
        run(connection, TAKE_OUT, key | {"file_ids": file_ids})
        run(connection, FORGET_FILES, key | {"file_ids": file_ids})
    return len(file_ids)


def _remove(row: Row[Any]) -> str | None:
    """What is wrong; None: the bytes are gone."""
    try:
        mover_of(row.kind).remove(Place(row.root, row.path))
    except FileNotFoundError:
        return None
    except OSError as problem:
        return str(problem.strerror or problem)
    return None


def _halves(did: str) -> dict[str, Any]:
    scope, name = split_did(did, "dataset")
    return {"scope": scope, "name": name}
