"""Outputs that were written and count for nothing: of attempts that failed, were cancelled or superseded."""

from typing import Any

from sqlalchemy.engine import Connection, Row

from panda.db.session import rows

NEWEST = """
SELECT panda_id, attempt_nr, lfn, path, size_bytes, adler32, reason, at FROM quarantine
WHERE panda_id < %(before)s ORDER BY panda_id DESC, attempt_nr DESC, lfn LIMIT %(limit)s
"""


def newest(connection: Connection, *, before: int = 2**62, limit: int = 1000) -> list[Row[Any]]:
    """Quarantined outputs of jobs below `before`, highest PandaID first. Nothing is removed by us."""
    return rows(connection, NEWEST, {"before": before, "limit": limit})
