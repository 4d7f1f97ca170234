"""What the pages of one job and one job set ask. Everything follows a primary key or an index."""

from typing import Any

from sqlalchemy.engine import Connection

from monitoring.reads.queries import JOBSET_COLUMNS, Facts, facts
from panda.jobs.queries import KILL_STATE

COLUMNS = f"""j.panda_id, j.jobset_id, j.parent_id, j.seq, j.name, j.owner, j.share, j.priority, j.status, j.attempt_nr,
    j.max_attempts, j.from_stage, j.n_inputs, j.n_outputs, j.computing_site, j.decision_id, j.pilot_id, j.node,
    j.failed_stage, j.error_code, j.error_message, j.exit_code, j.wall_s, j.cpu_s, j.max_rss_mb, j.kill_requested_at,
    j.kill_delivered_at, j.kill_confirmed_at, {KILL_STATE} AS kill_state, j.kill_by, j.kill_reason,
    j.created_at, j.changed_at, j.started_at, j.ended_at, j.spec,
    s.cores, s.memory_mb, s.disk_mb, s.walltime_s, s.gpus, s.tags, q.site"""
JOB = f"""
SELECT {COLUMNS}, NULL::timestamptz AS archived_at FROM (SELECT * FROM jobs WHERE panda_id = %(panda_id)s OFFSET 0) j
LEFT JOIN shapes s USING (shape_id) LEFT JOIN queues q ON q.name = j.computing_site
"""
ARCHIVED_JOB = f"""
SELECT {COLUMNS}, j.archived_at FROM (SELECT * FROM jobs_archive WHERE panda_id = %(panda_id)s OFFSET 0) j
LEFT JOIN shapes s USING (shape_id) LEFT JOIN queues q ON q.name = j.computing_site
"""
DUE = "SELECT stage, waits_for, due_at, deliveries, tries, error FROM job_due WHERE panda_id = %(panda_id)s"
LEASE = "SELECT pilot_id, lease_until, reported_at, cpu_s, rss_mb FROM leases WHERE panda_id = %(panda_id)s"
HOLD = "SELECT held_by, reason, held_at FROM holds WHERE panda_id = %(panda_id)s"
SITES_OF = "SELECT name, site FROM queues WHERE name = ANY(%(queues)s)"
#: How often a code came in a day, and where.
ALIKE = """
SELECT queue, sum(n)::bigint AS n FROM error_hours
WHERE error_code = %(code)s AND hour > (SELECT panda_now()) - interval '24 hours'
GROUP BY queue ORDER BY n DESC LIMIT 200
"""
#: What the job's set said for all of its jobs; and what upstream's client said besides.
SAID = """
SELECT document->>'kind' AS kind, document->>'vo' AS vo, document->>'working_group' AS working_group,
    document->'brokerage' AS wishes,
    (SELECT attributes FROM upstream_jobs WHERE panda_id = %(panda_id)s) AS upstream
FROM jobsets WHERE jobset_id = %(jobset_id)s
"""
JOBSET = f"""
SELECT {JOBSET_COLUMNS}, on_parent_failure, output_storage, cancel_by, cancel_reason, document,
    (SELECT scope || ':' || name FROM datasets WHERE dataset_id = output_dataset_id) AS output_dataset
FROM jobsets WHERE jobset_id = %(jobset_id)s
"""
PARENTS = """
SELECT s.jobset_id, s.name FROM jobset_parents p JOIN jobsets s ON s.jobset_id = p.parent_id
WHERE p.jobset_id = %(jobset_id)s ORDER BY 1 LIMIT 100
"""
CHILDREN = """
SELECT s.jobset_id, s.name FROM jobset_parents p JOIN jobsets s ON s.jobset_id = p.jobset_id
WHERE p.parent_id = %(jobset_id)s ORDER BY 1 LIMIT 100
"""
#: How many of the set's open and resting jobs a page looks at.
SET_SAMPLE = 20_000
SET_STATUSES = """
SELECT status, coalesce(computing_site, '') AS queue, failed_stage, error_code, count(*) AS n,
    max(error_message) AS message
FROM (SELECT status, computing_site, failed_stage, error_code, error_message FROM jobs
    WHERE jobset_id = %(jobset_id)s ORDER BY -panda_id LIMIT %(sample)s) AS sample
GROUP BY 1, 2, 3, 4 ORDER BY n DESC
"""


def job(connection: Connection, panda_id: int) -> Facts | None:
    """A job, live or archived, with its shape; None when there is no such row."""
    asked = {"panda_id": panda_id}
    found = facts(connection, JOB, asked) or facts(connection, ARCHIVED_JOB, asked)
    return found[0] if found else None


def one(connection: Connection, sql: str, values: dict[str, Any]) -> Facts | None:
    """The first row, if there is one."""
    found = facts(connection, sql, values)
    return found[0] if found else None
