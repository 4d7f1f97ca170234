"""Debug mode: upstream's pilot sends the tail of what the payload prints with each report.

A native pilot sends its logs while it writes them, whatever this says.
"""

from sqlalchemy.engine import Connection

from panda.db.session import rows, run
from panda.errors import Conflict
from panda.jobs import queries

SET = """
INSERT INTO upstream_jobs (panda_id, is_debug) VALUES (%(panda_id)s, %(is_debug)s)
ON CONFLICT (panda_id) DO UPDATE SET is_debug = excluded.is_debug
"""
IS_ON = "SELECT is_debug FROM upstream_jobs WHERE panda_id = %(panda_id)s"


def is_on(connection: Connection, panda_id: int) -> bool:
    """Whether the job's pilot is told to send the tail."""
    found = rows(connection, IS_ON, {"panda_id": panda_id})
    return bool(found) and bool(found[0].is_debug)


def switch(connection: Connection, panda_id: int, is_debug: bool) -> None:
    """From its next report on the pilot sends the tail, or no longer; see the log `debug`.

    Raises:
        NotFound. Conflict: `cannot_debug`, the job has ended.
    """
    job = queries.job(connection, panda_id)
    if job.archived or job.ended_at is not None:
        raise Conflict(f"job {panda_id} has ended", code="cannot_debug")
    run(connection, SET, {"panda_id": panda_id, "is_debug": is_debug})
