"""The kind of jobs (analysis, production, …), which their job set says."""

from collections.abc import Sequence

from sqlalchemy.engine import Connection

from panda.db.session import rows

#: Of a job set `s`. One that a release before 0015 accepted has it in its document alone.
KIND = "coalesce(s.kind, s.document->>'kind', 'analysis')"
KINDS = f"SELECT jobset_id, {KIND} AS kind FROM jobsets s WHERE jobset_id = ANY(%(jobset_ids)s)"


def kinds_of(connection: Connection, jobset_ids: Sequence[int]) -> dict[int, str]:
    """The kind of each of these job sets that is there."""
    found = rows(connection, KINDS, {"jobset_ids": list(jobset_ids)}) if jobset_ids else []
    return {row.jobset_id: row.kind for row in found}
