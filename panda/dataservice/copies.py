"""Copies that were brought for jobs, and go again when no job needs them: dispatch data, in PanDA's words.

A copy that nobody is known to have needed for a while is looked at: whether a live job that was sent to a queue of
its storage has it as an input. If none has, it is *going*: stage_in passes it over from then on. After longer than a
stage may run, whoever saw it before has been bound to it and can be seen; so if still nobody has, it leaves the
catalogue, and its bytes follow as any deletion. A job that asks for it meanwhile keeps it (`salvage`). The last
replica of a file never goes, and a storage that is full lets go at once what nobody needs now.
"""

from collections.abc import Sequence

from sqlalchemy.engine import Connection

from panda.db.session import Begin, once, rows, run

#: From the moment that no job is told of a copy until the last look: longer than a stage may run.
GRACE_S = 120.0
#: Copies that one pass looks at, and live jobs that one statement goes through.
PASS, WINDOW = 2_000, 5_000

UNNEEDED = """
SELECT r.file_id, r.storage FROM (
    SELECT file_id, storage, needed_at FROM replicas WHERE is_copy AND going_at IS NULL
        AND needed_at < (SELECT panda_now()) - make_interval(secs => %(stay_s)s) ORDER BY needed_at LIMIT %(limit)s) r
"""
#: On a storage that is full no copy stays for the case that somebody comes.
ON_FULL = """
SELECT r.file_id, r.storage FROM (
    SELECT file_id, storage FROM replicas WHERE is_copy AND going_at IS NULL
        AND needed_at < (SELECT panda_now()) - make_interval(secs => %(grace_s)s) ORDER BY needed_at LIMIT %(limit)s) r
JOIN storage_space s ON s.storage = r.storage AND s.full_because IS NOT NULL
"""
GOING = """
SELECT file_id, storage FROM replicas WHERE going_at IS NOT NULL
    AND going_at < (SELECT panda_now()) - make_interval(secs => %(grace_s)s) ORDER BY going_at LIMIT %(limit)s
"""
#: Of the copies (file_ids, storages), those that a job which was sent there still reads.
NEEDED = """
WITH live AS MATERIALIZED (
    SELECT panda_id, status, computing_site FROM jobs WHERE panda_id > %(after)s ORDER BY panda_id LIMIT %(window)s)
SELECT (SELECT max(panda_id) FROM live) AS last, ARRAY(
    SELECT DISTINCT f.file_id || ' ' || s.storage FROM live l JOIN queues q ON q.name = l.computing_site
    CROSS JOIN LATERAL unnest(q.storage || q.read_storages) AS s(storage) CROSS JOIN LATERAL (
        SELECT file_id FROM job_files WHERE panda_id = l.panda_id AND kind = 'input'
            AND file_id = ANY(%(file_ids)s) OFFSET 0) f
    WHERE l.status IN ('assigned', 'activated', 'sent', 'starting', 'running')) AS needed
"""
#: Rows of replicas (file_ids, storages), locked in one order, so that two passes that want the same ones do not wait
#: for each other in a ring; then seen as they are under the lock. `has_other`: a replica that is none of these copies.
_HELD = """
held AS MATERIALIZED (
    SELECT r.*, EXISTS (SELECT FROM replicas o WHERE o.file_id = r.file_id AND NOT o.is_copy OFFSET 0) AS has_other
    FROM (SELECT * FROM unnest(%(file_ids)s::bigint[], %(storages)s::text[]) AS w(file_id, storage) ORDER BY 1, 2) w,
        LATERAL (SELECT * FROM replicas WHERE file_id = w.file_id AND storage = w.storage FOR UPDATE) r)
"""
_OF_THESE = "r.file_id = ANY(%(file_ids)s) AND r.file_id = h.file_id AND r.storage = h.storage"
STAY = f"""
WITH {_HELD}
UPDATE replicas r SET needed_at = panda_now(), going_at = NULL FROM held h WHERE {_OF_THESE} AND h.is_copy
"""
#: The last replica stays.
SEND_OFF = f"""
WITH {_HELD}
UPDATE replicas r SET going_at = panda_now() FROM held h
WHERE {_OF_THESE} AND h.is_copy AND h.going_at IS NULL AND h.has_other
"""
TAKE_OUT = f"""
WITH {_HELD},
gone AS (
    DELETE FROM replicas r USING held h
    WHERE {_OF_THESE} AND h.is_copy AND h.going_at IS NOT NULL AND h.has_other
    RETURNING r.file_id, r.storage, r.path),
facts AS (
    SELECT g.storage, g.path, f.dataset_id, f.size_bytes
    FROM gone g, LATERAL (SELECT dataset_id, size_bytes FROM files WHERE file_id = g.file_id OFFSET 0) f),
counted AS (
    INSERT INTO storage_use_deltas (storage, owner, n_files, n_bytes)
    SELECT storage, '', -count(*), -sum(size_bytes) FROM facts GROUP BY storage)
INSERT INTO deletions (dataset_id, storage, path, due_at) SELECT dataset_id, storage, path, panda_now() FROM facts
"""
SALVAGE = f"""
WITH {_HELD}
UPDATE replicas r SET going_at = NULL, needed_at = panda_now() FROM held h WHERE {_OF_THESE} AND h.going_at IS NOT NULL
"""
PROMOTE = f"""
WITH {_HELD},
kept AS (
    UPDATE replicas r SET is_copy = false, needed_at = NULL, going_at = NULL FROM held h WHERE {_OF_THESE} AND h.is_copy
    RETURNING r.file_id, r.storage),
facts AS (
    SELECT k.storage, d.owner, f.size_bytes
    FROM kept k, LATERAL (SELECT dataset_id, size_bytes FROM files WHERE file_id = k.file_id OFFSET 0) f,
        LATERAL (SELECT owner FROM datasets WHERE dataset_id = f.dataset_id OFFSET 0) d)
INSERT INTO storage_use_deltas (storage, owner, n_files, n_bytes)
SELECT storage, '', -count(*), -sum(size_bytes) FROM facts GROUP BY storage
UNION ALL SELECT storage, owner, count(*), sum(size_bytes) FROM facts GROUP BY storage, owner
"""

#: A replica: file_id, storage.
Copy = tuple[int, str]


def salvage(connection: Connection, copies: Sequence[Copy]) -> int:
    """Jobs want these files there: copies among them that are going stay. Returns how many do."""
    return run(connection, SALVAGE, _columns(copies))


def promote(connection: Connection, copies: Sequence[Copy]) -> int:
    """Copies among these are kept from now on, for the owners of their datasets. Returns 0: there was none."""
    return run(connection, PROMOTE, _columns(copies))


def let_go(begin: Begin, *, stay_s: float, grace_s: float = GRACE_S, limit: int = PASS) -> int:
    """Copies that no job has needed for `stay_s` seconds begin to go; those that have been going for `grace_s` seconds
    and are needed by nobody leave the catalogue. Returns how many left it."""
    with once(begin) as connection:
        found = rows(connection, UNNEEDED, {"stay_s": stay_s, "limit": limit})
        found += rows(connection, ON_FULL, {"grace_s": grace_s, "limit": limit})
        going = [(row.file_id, row.storage) for row in rows(connection, GOING, {"grace_s": grace_s, "limit": limit})]
    old = sorted({(row.file_id, row.storage) for row in found})
    if not old and not going:
        return 0
    needed = _needed(begin, [*old, *going])
    with begin() as connection:
        run(connection, STAY, _columns(sorted(needed)))
        run(connection, SEND_OFF, _columns([copy for copy in old if copy not in needed]))
        return run(connection, TAKE_OUT, _columns([copy for copy in going if copy not in needed]))


def _needed(begin: Begin, copies: Sequence[Copy]) -> set[Copy]:
    """Those that a live job reads where they are: one walk through all live jobs, a window at a time."""
    needed: set[Copy] = set()
    after: int | None = 0
    file_ids = sorted({file_id for file_id, _ in copies})
    while after is not None:
        with once(begin) as connection:
            [found] = rows(connection, NEEDED, {"after": after, "window": WINDOW, "file_ids": file_ids})
        needed |= {(int(file_id), storage) for file_id, _, storage in (text.partition(" ") for text in found.needed)}
        after = found.last
    return needed & set(copies)


def _columns(copies: Sequence[Copy]) -> dict[str, list[int] | list[str]]:
    return {"file_ids": [file_id for file_id, _ in copies], "storages": [storage for _, storage in copies]}
