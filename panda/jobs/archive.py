"""The last stage: what is left to do for jobs that ended, and their rows move to the archive.

Events, attempts and files of a job lie in partitions by PandaID from the start and stay where they are;
only the row of `jobs` moves, so the tables that every claim and every stage walks through stay small.
"""

from collections.abc import Sequence

from sqlalchemy.engine import Connection

from panda.db.session import rows, run
from panda.jobs import ending
from panda.states import JobStatus

COLUMNS = """panda_id, jobset_id, parent_id, seq, name, owner, share, priority, status, attempt_nr, max_attempts,
    from_stage, shape_id, n_inputs, n_outputs, computing_site, decision_id, pilot_id, node, failed_stage, error_code,
    error_message, exit_code, wall_s, cpu_s, max_rss_mb, kill_requested_at, kill_delivered_at, kill_by, kill_reason,
    created_at, changed_at, started_at, ended_at, spec"""
STATUS = "SELECT panda_id, status FROM jobs WHERE panda_id = ANY(%(panda_ids)s)"
MOVE = f"""
WITH gone AS (DELETE FROM jobs WHERE panda_id = ANY(%(panda_ids)s) RETURNING *),
kept AS (INSERT INTO jobs_archive ({COLUMNS}, archived_at) SELECT {COLUMNS}, panda_now() FROM gone),
done AS (DELETE FROM job_due WHERE panda_id = ANY(%(panda_ids)s))
INSERT INTO usage_deltas (day, owner, share, queue, n_finished, n_failed, n_cancelled, wall_s, cpu_s, core_s)
SELECT panda_now()::date, owner, share, coalesce(computing_site, ''), count(*) FILTER (WHERE status = 'finished'),
    count(*) FILTER (WHERE status = 'failed'), count(*) FILTER (WHERE status IN ('cancelled', 'closed')),
    coalesce(sum(wall_s), 0), coalesce(sum(cpu_s), 0), coalesce(sum(wall_s * s.cores), 0)
FROM gone JOIN shapes s USING (shape_id) GROUP BY 1, 2, 3, 4
"""


def archive_many(
    connection: Connection, panda_ids: Sequence[int], *, by: str, chain_id: str | None = None
) -> list[int]:
    """Finish the jobs whose outputs are registered, then move every one of these to the archive.

    The caller holds their rows of `job_due`, which go as well.

    Returns: the PandaIDs that are archived now, ascending.
    """
    ending.finish_many(connection, panda_ids, by=by, chain_id=chain_id)
    final = {JobStatus.FINISHED, JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.CLOSED}
    found = rows(connection, STATUS, {"panda_ids": list(panda_ids)})
    ended = sorted(row.panda_id for row in found if row.status in final)
    if ended:
        run(connection, MOVE, {"panda_ids": ended})
    return ended
