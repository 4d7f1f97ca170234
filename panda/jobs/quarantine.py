"""Outputs that were written and count for nothing: of attempts that failed, were cancelled or superseded.

They stay for a while, for whoever wants to look at them. Then, when their job is in the archive, where no retry takes
them up again, their bytes go the way of all that is deleted.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy.engine import Connection, Row

from panda.db.session import Begin, rows
from panda.logs import Log

log = Log("panda.quarantine")

#: Outputs that one transaction looks at.
CHUNK = 1_000

NEWEST = """
SELECT panda_id, attempt_nr, lfn, storage, path, size_bytes, adler32, reason, at FROM quarantine
WHERE panda_id < %(before)s ORDER BY panda_id DESC, attempt_nr DESC, lfn LIMIT %(limit)s
"""
OLD = """
SELECT count(*) AS n, (array_agg(lfn ORDER BY at))[:%(n_named)s] AS named FROM quarantine
WHERE at < (SELECT panda_now()) - make_interval(secs => %(stay_s)s)
"""
#: Of a chunk of the oldest: those whose job has ended for good leave the list. What a retry from `stage_out` published
#: after all keeps its bytes; what nobody knows the place of has none that we could remove. A place that an earlier
#: release did not write down stays on the list.
LET_GO = """
WITH old AS MATERIALIZED (
    SELECT panda_id, attempt_nr, lfn, storage, path, at FROM quarantine
    WHERE at < (SELECT panda_now()) - make_interval(secs => %(stay_s)s)
        AND (at, panda_id, attempt_nr, lfn) > (%(at)s, %(panda_id)s, %(attempt_nr)s, %(lfn)s)
    ORDER BY at, panda_id, attempt_nr, lfn LIMIT %(limit)s),
ended AS MATERIALIZED (
    SELECT o.* FROM old o WHERE (o.storage IS NOT NULL OR o.path = '')
        AND NOT EXISTS (SELECT FROM jobs WHERE panda_id = o.panda_id OFFSET 0)),
gone AS (
    DELETE FROM quarantine q
    WHERE q.panda_id = ANY(ARRAY(SELECT panda_id FROM ended))
        AND (q.panda_id, q.attempt_nr, q.lfn) IN (SELECT panda_id, attempt_nr, lfn FROM ended)
    RETURNING q.panda_id, q.lfn, q.storage, q.path),
removed AS (
    INSERT INTO deletions (storage, path, due_at)
    SELECT g.storage, g.path, panda_now() FROM gone g JOIN storages s ON s.name = g.storage
    WHERE NOT EXISTS (SELECT FROM job_files
        WHERE panda_id = g.panda_id AND kind = 'output' AND lfn = g.lfn AND path = g.path AND status = 'registered'
        OFFSET 0)
    RETURNING deletion_id)
SELECT (SELECT count(*) FROM old) AS n_seen, (SELECT count(*) FROM removed) AS n_removed, l.*
FROM (SELECT) AS always LEFT JOIN (
    SELECT at, panda_id, attempt_nr, lfn FROM old ORDER BY at DESC, panda_id DESC, attempt_nr DESC, lfn DESC LIMIT 1)
    AS l ON true
"""
_BEFORE_ALL = {"at": datetime(1, 1, 1, tzinfo=UTC), "panda_id": 0, "attempt_nr": 0, "lfn": ""}


def newest(connection: Connection, *, before: int = 2**62, limit: int = 1000) -> list[Row[Any]]:
    """Quarantined outputs of jobs below `before`, highest PandaID first."""
    return rows(connection, NEWEST, {"before": before, "limit": limit})


def old(connection: Connection, *, stay_s: float, n_named: int = 5) -> tuple[int, list[str]]:
    """Outputs that were quarantined `stay_s` seconds ago, of which `let_go` takes those of archived jobs: how many, and
    the names of the oldest."""
    [row] = rows(connection, OLD, {"stay_s": stay_s, "n_named": n_named})
    return int(row.n), list(row.named or ())


def let_go(begin: Begin, *, stay_s: float, chunk: int = CHUNK) -> int:
    """Outputs that were quarantined `stay_s` seconds ago and whose job is archived leave the list.

    Returns: how many of them have bytes that the deletion service removes now."""
    n_removed: int = 0
    last = _BEFORE_ALL
    while True:
        with begin() as connection:
            [done] = rows(connection, LET_GO, {"stay_s": stay_s, "limit": chunk, **last})
        n_removed += int(done.n_removed)
        if done.n_seen < chunk:
            break
        last = {name: getattr(done, name) for name in _BEFORE_ALL}
    if n_removed:
        log.info("quarantined outputs let go", n=n_removed)
    return n_removed
