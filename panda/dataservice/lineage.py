"""Where a file comes from, and who read it."""

from typing import Any, NamedTuple

from sqlalchemy.engine import Connection, Row

from panda.db.session import rows
from panda.errors import NotFound
from panda.names import checked, split_did

#: Readers that are told, the newest first.
MOST_READERS = 500

FILE = """
SELECT f.file_id, f.panda_id, f.attempt_nr, f.created_at
FROM (SELECT dataset_id FROM datasets WHERE scope = %(scope)s AND name = %(name)s OFFSET 0) d,
    LATERAL (SELECT * FROM files WHERE dataset_id = d.dataset_id AND lfn = %(lfn)s OFFSET 0) f
"""
MADE_FROM = """
SELECT did AS dataset, lfn, file_id FROM job_files WHERE panda_id = %(panda_id)s AND kind = 'input' ORDER BY did, lfn
"""
#: Jobs that were bound to the file, whether live or archived, and what came of them.
READ_BY = """
SELECT r.panda_id, coalesce(j.status, a.status) AS status, coalesce(j.jobset_id, a.jobset_id) AS jobset_id,
    coalesce(j.owner, a.owner) AS owner
FROM (SELECT panda_id FROM job_files WHERE file_id + 0 = %(file_id)s AND kind = 'input'
        ORDER BY -panda_id LIMIT %(limit)s) r
LEFT JOIN LATERAL (SELECT status, jobset_id, owner FROM jobs WHERE panda_id = r.panda_id OFFSET 0) j ON true
LEFT JOIN LATERAL (SELECT status, jobset_id, owner FROM jobs_archive WHERE panda_id = r.panda_id OFFSET 0) a ON true
ORDER BY r.panda_id DESC
"""


class Lineage(NamedTuple):
    """A file's past and what was made with it."""

    file: Row[Any]
    """file_id, panda_id and attempt_nr of the job that wrote it (None: a person put it), created_at."""
    made_from: list[Row[Any]]
    """Inputs of that job: dataset, lfn, file_id."""
    read_by: list[Row[Any]]
    """Jobs that it is an input of: panda_id, status, jobset_id, owner; the newest `MOST_READERS`."""


def lineage(connection: Connection, did: str, lfn: str) -> Lineage:
    """Raises Invalid: a bad name. NotFound: no such file."""
    scope, name = split_did(did, "dataset")
    found = rows(connection, FILE, {"scope": scope, "name": name, "lfn": checked(lfn, "lfn")})
    if not found:
        raise NotFound("file", f"{did}/{lfn}")
    file = found[0]
    made_from = rows(connection, MADE_FROM, {"panda_id": file.panda_id}) if file.panda_id is not None else []
    read_by = rows(connection, READ_BY, {"file_id": file.file_id, "limit": MOST_READERS})
    return Lineage(file, made_from, read_by)
