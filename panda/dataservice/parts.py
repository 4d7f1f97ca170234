"""The data of a job set, part by part: what it reads, what was dispatched to which site for it, what it writes, and
what of that is on its way to its destination. PanDA calls these parts sub-datasets; here they are told, not stored."""

from typing import Any, Literal, NamedTuple

from sqlalchemy.engine import Connection

from panda.db.session import rows
from panda.errors import NotFound

#: Transfers of one set that are looked at.
MOST = 50_000

JOBSET = """
SELECT s.bindings, d.scope || ':' || d.name AS did, d.status, d.n_files,
    d.size_bytes
FROM jobsets s LEFT JOIN datasets d ON d.dataset_id = s.output_dataset_id WHERE s.jobset_id = %(jobset_id)s
"""
#: What the jobs of a list read: whole datasets, or files of them.
NAMED = """
SELECT split_part(reference, '/', 1) AS did, count(*) FILTER (WHERE reference LIKE '%%/%%')::int AS n_files
FROM jobsets, LATERAL (
    SELECT each #>> '{}' AS reference FROM jsonb_path_query(document, '$.jobs[*].inputs[*]') AS each OFFSET 0) r
WHERE jobset_id = %(jobset_id)s GROUP BY 1 ORDER BY 1
"""
#: What was brought somewhere since a job of the set was the first to ask for it.
MOVED = f"""
SELECT t.destination, t.owner IS NOT NULL AS is_kept, count(*)::int AS n_files, sum(f.size_bytes)::bigint AS size_bytes,
    count(*) FILTER (WHERE t.status = 'done')::int AS n_there,
    count(*) FILTER (WHERE t.status IN ('queued', 'moving'))::int AS n_moving,
    count(*) FILTER (WHERE t.status = 'failed')::int AS n_failed
FROM (SELECT * FROM transfers WHERE jobset_id = %(jobset_id)s LIMIT {MOST}) t,
    LATERAL (SELECT size_bytes FROM files WHERE file_id = t.file_id OFFSET 0) f
GROUP BY 1, 2 ORDER BY 2, 1
"""


class Part(NamedTuple):
    """A part. Numbers are None where they are not kept."""

    role: Literal["input", "dispatch", "output", "destination"]
    dataset: str | None
    """For `input` and `output`."""
    storage: str | None
    """For `dispatch` and `destination`."""
    status: str | None
    """Of the output dataset."""
    n_files: int | None
    size_bytes: int | None
    n_there: int | None = None
    n_moving: int | None = None
    n_failed: int | None = None


def parts(connection: Connection, jobset_id: int) -> list[Part]:
    """The parts of a job set. Transfers are remembered for a week after their end.

    Raises:
        NotFound: no such job set.
    """
    found = rows(connection, JOBSET, {"jobset_id": jobset_id})
    if not found:
        raise NotFound("job set", jobset_id)
    jobset = found[0]
    told = [
        Part("input", did, None, None, n_files if size else None, None)
        for did, _match, size, n_files, *_rest in jobset.bindings.values()
    ]
    named = rows(connection, NAMED, {"jobset_id": jobset_id})
    told += [Part("input", row.did, None, None, row.n_files or None, None) for row in named]
    moved = rows(connection, MOVED, {"jobset_id": jobset_id})
    told += [_moved("dispatch", row) for row in moved if not row.is_kept]
    if jobset.did is not None:
        told.append(Part("output", jobset.did, None, jobset.status, jobset.n_files, jobset.size_bytes))
    told += [_moved("destination", row) for row in moved if row.is_kept]
    return told


def _moved(role: Literal["dispatch", "destination"], row: Any) -> Part:
    return Part(
        role, None, row.destination, None, row.n_files, row.size_bytes, row.n_there, row.n_moving, row.n_failed
    )  # fmt: skip
