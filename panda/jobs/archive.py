"""The last stage: what is left to do for jobs that ended, and their rows move to the archive.

Events, attempts and files of a job lie in partitions by PandaID from the start and stay where they are;
only the row of `jobs` moves, so the tables that every claim and every stage walks through stay small. A job
whose outputs are registered becomes `finished` on the way: the one move that is not written to `jobs`.
What failed attempts used was accounted when they ended. The files of a job are looked at for their bytes only if it
finished and has some.
"""

from collections.abc import Sequence

from sqlalchemy.engine import Connection

from panda.db.session import rows
from panda.jobs import jobsets
from panda.jobs.counters import MOST_BYTES
from panda.states import JobStatus

_AS_THEY_ARE = """panda_id, jobset_id, parent_id, seq, name, owner, share, priority, attempt_nr, max_attempts,
    from_stage, shape_id, n_inputs, n_outputs, computing_site, decision_id, pilot_id, node, failed_stage, error_code,
    error_message, exit_code, wall_s, cpu_s, max_rss_mb, kill_requested_at, kill_delivered_at,
    kill_confirmed_at, kill_by, kill_reason,
    created_at, sent_at, started_at, spec"""
MOVE = f"""
WITH gone AS (
    DELETE FROM jobs WHERE panda_id = ANY(%(panda_ids)s)
        AND status IN ('holding', 'transferring', 'finished', 'failed', 'cancelled', 'closed')
    RETURNING *, status IN ('holding', 'transferring') AS is_new),
kept AS (
    INSERT INTO jobs_archive ({_AS_THEY_ARE}, status, changed_at, ended_at, archived_at)
    SELECT {_AS_THEY_ARE}, CASE WHEN is_new THEN 'finished' ELSE status END,
        CASE WHEN is_new THEN panda_now() ELSE changed_at END, coalesce(ended_at, panda_now()), panda_now()
    FROM gone),
done AS (DELETE FROM job_due WHERE panda_id = ANY(ARRAY(SELECT panda_id FROM gone))),
attempted AS (
    INSERT INTO attempts (panda_id, attempt_nr, from_stage, queue, pilot_id, node, created_at, started_at, ended_at,
        outcome, exit_code, wall_s, cpu_s, max_rss_mb)
    SELECT panda_id, attempt_nr, from_stage, computing_site, pilot_id, node, coalesce(sent_at, changed_at), started_at,
        panda_now(), 'finished', exit_code, wall_s, cpu_s, max_rss_mb
    FROM gone WHERE is_new),
events AS (
    INSERT INTO job_events (panda_id, at, was, now, attempt_nr, stage, by, chain_id)
    SELECT panda_id, panda_now(), status, 'finished', attempt_nr, 'archive', %(by)s::text, %(chain_id)s::text
    FROM gone WHERE is_new),
counted AS (
    INSERT INTO job_count_deltas (status, queue, n)
    SELECT status, coalesce(computing_site, ''), -count(*) FROM gone WHERE is_new GROUP BY 1, 2
    UNION ALL SELECT 'finished', coalesce(computing_site, ''), count(*) FROM gone WHERE is_new GROUP BY 1, 2),
used AS (
    INSERT INTO usage_deltas (day, owner, share, queue, jobset_id, n_finished, n_failed, n_cancelled, wall_s, cpu_s,
        core_s, in_bytes, out_bytes)
    SELECT panda_now()::date, owner, share, coalesce(computing_site, ''), jobset_id,
        count(*) FILTER (WHERE is_new OR status = 'finished'), 0,
        count(*) FILTER (WHERE status IN ('cancelled', 'closed')),
        sum(s.wall_s), coalesce(sum(cpu_s), 0), sum(s.wall_s * s.cores),
        least(coalesce(sum(f.in_bytes), 0), {MOST_BYTES}), least(coalesce(sum(f.out_bytes), 0), {MOST_BYTES})
    FROM gone, LATERAL (SELECT cores, coalesce(gone.wall_s,
        greatest(extract(epoch FROM gone.changed_at - gone.started_at), 0)) AS wall_s
        FROM shapes WHERE shape_id = gone.shape_id OFFSET 0) s,
    LATERAL (SELECT sum(size_bytes) FILTER (WHERE kind = 'input') AS in_bytes,
            sum(size_bytes) FILTER (WHERE kind = 'output' AND status = 'registered') AS out_bytes
        FROM job_files WHERE panda_id = gone.panda_id AND gone.n_inputs + gone.n_outputs > 0
            AND (gone.is_new OR gone.status = 'finished') OFFSET 0) f
    WHERE status <> 'failed' GROUP BY 1, 2, 3, 4, 5)
SELECT jobset_id, array_agg(panda_id) AS panda_ids, count(*) FILTER (WHERE is_new)::int AS n_new
FROM gone GROUP BY jobset_id
"""


def archive_many(
    connection: Connection, panda_ids: Sequence[int], *, by: str, chain_id: str | None = None
) -> list[int]:
    """Finish the jobs whose outputs are registered, and move every one of these that ended to the archive.

    The caller holds their rows of `job_due`, which go as well.

    Returns: the PandaIDs that are archived now, ascending.
    """
    if not panda_ids:
        return []
    moved = rows(connection, MOVE, {"panda_ids": list(panda_ids), "by": by, "chain_id": chain_id})
    jobsets.settle_counted(connection, {row.jobset_id: row.n_new for row in moved if row.n_new}, JobStatus.FINISHED)
    return sorted(panda_id for row in moved for panda_id in row.panda_ids)
