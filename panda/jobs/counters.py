"""Counters for pages: deltas are appended in each move's transaction, and folded here by one process.

A reader adds what is not folded yet (`counts`), so the numbers are right at every moment and no row is hot.
"""

from sqlalchemy.engine import Connection

from panda.db.session import rows, run
from panda.jobs import meters

FOLD_COUNTS = """
WITH gone AS (DELETE FROM job_count_deltas RETURNING status, queue, n),
started AS (
    INSERT INTO queue_starts AS s (queue, bucket, n)
    SELECT queue, date_bin('5 minutes', panda_now(), 'epoch'), sum(n) FROM gone WHERE status = 'sent' AND n > 0
    GROUP BY queue ORDER BY queue
    ON CONFLICT (queue, bucket) DO UPDATE SET n = s.n + excluded.n)
INSERT INTO job_counts AS c (status, queue, n) SELECT status, queue, sum(n) FROM gone GROUP BY status, queue
ON CONFLICT (status, queue) DO UPDATE SET n = c.n + excluded.n
"""
FOLD_RUNS = f"""
WITH gone AS (DELETE FROM stage_run_deltas RETURNING *),
{meters.STAGE_BUCKETS}
INSERT INTO stage_runs AS r (minute, stage, n, n_failed, busy_ms, max_ms)
SELECT date_trunc('minute', at), stage, sum(n), sum(n_failed), sum(busy_ms), max(busy_ms) FROM gone GROUP BY 1, 2
ON CONFLICT (minute, stage) DO UPDATE SET n = r.n + excluded.n, n_failed = r.n_failed + excluded.n_failed,
    busy_ms = r.busy_ms + excluded.busy_ms, max_ms = greatest(r.max_ms, excluded.max_ms)
"""
#: Sums of bytes stop here: the sizes of files come from outside, and none may keep the fold from going on.
MOST_BYTES = 2**62
#: A delta names its job set, and here it gets what that one is of: the statements that end jobs need not look it up.
FOLD_USAGE = f"""
WITH gone AS (DELETE FROM usage_deltas RETURNING *),
by_owner AS (
    INSERT INTO owner_days AS o (day, owner, core_s) SELECT day, owner, sum(core_s) FROM gone GROUP BY day, owner
    ON CONFLICT (day, owner) DO UPDATE SET core_s = o.core_s + excluded.core_s)
INSERT INTO usage_days AS u (day, owner, share, queue, working_group, kind, n_finished, n_failed, n_cancelled, wall_s,
    cpu_s, core_s, in_bytes, out_bytes)
SELECT day, owner, share, queue, coalesce(s.working_group, ''), coalesce(s.kind, ''), sum(n_finished), sum(n_failed),
    sum(n_cancelled), sum(wall_s), sum(cpu_s), sum(core_s), least(sum(in_bytes), {MOST_BYTES}),
    least(sum(out_bytes), {MOST_BYTES})
FROM gone LEFT JOIN (
    SELECT jobset_id, coalesce(working_group, document->>'working_group') AS working_group,
        coalesce(kind, document->>'kind', 'analysis') AS kind
    FROM jobsets WHERE jobset_id = ANY(ARRAY(SELECT jobset_id FROM gone))) s USING (jobset_id)
GROUP BY 1, 2, 3, 4, 5, 6
ON CONFLICT (day, owner, share, queue, working_group, kind) DO UPDATE SET
    n_finished = u.n_finished + excluded.n_finished, n_failed = u.n_failed + excluded.n_failed,
    n_cancelled = u.n_cancelled + excluded.n_cancelled,
    wall_s = u.wall_s + excluded.wall_s, cpu_s = u.cpu_s + excluded.cpu_s, core_s = u.core_s + excluded.core_s,
    in_bytes = least(u.in_bytes::numeric + excluded.in_bytes, {MOST_BYTES}),
    out_bytes = least(u.out_bytes::numeric + excluded.out_bytes, {MOST_BYTES})
"""
FOLD_ERRORS = f"""
WITH gone AS (DELETE FROM error_deltas RETURNING *),
{meters.STAGE_FAILURES},
nodes AS (
    INSERT INTO node_failures AS f (hour, queue, node, n, wall_s)
    SELECT hour, queue, node, sum(n), sum(wall_s) FROM gone WHERE node <> '' GROUP BY 1, 2, 3
    ON CONFLICT (queue, hour, node) DO UPDATE SET n = f.n + excluded.n, wall_s = f.wall_s + excluded.wall_s)
INSERT INTO error_hours AS e (hour, error_code, failed_stage, queue, n, wall_s)
SELECT hour, error_code, failed_stage, queue, sum(n), sum(wall_s) FROM gone GROUP BY 1, 2, 3, 4
ON CONFLICT (hour, error_code, failed_stage, queue) DO UPDATE SET n = e.n + excluded.n,
    wall_s = e.wall_s + excluded.wall_s
"""
COUNTS = """
SELECT status, queue, sum(n)::bigint AS n
FROM (SELECT status, queue, n FROM job_counts UNION ALL SELECT status, queue, n FROM job_count_deltas) both_kinds
GROUP BY status, queue HAVING sum(n) <> 0
"""
REMEMBER = f"""
INSERT INTO count_history (at, status, n)
SELECT date_trunc('minute', panda_now()), status, sum(n) FROM ({COUNTS}) now GROUP BY status ON CONFLICT DO NOTHING
"""
#: A point of each queue's chart.
REMEMBER_QUEUES = f"""
INSERT INTO queue_history (queue, at, counts)
SELECT queue, date_bin('5 minutes', panda_now(), timestamptz 'epoch'), jsonb_object_agg(status, n)
FROM ({COUNTS}) now
WHERE queue <> '' AND n > 0 AND status NOT IN ('finished', 'failed', 'cancelled', 'closed') GROUP BY queue
ON CONFLICT DO NOTHING
"""
TIDY = """
DELETE FROM count_history WHERE at < panda_now() - interval '90 days';
DELETE FROM stage_runs WHERE minute < panda_now() - interval '30 days';
DELETE FROM queue_starts WHERE bucket < panda_now() - interval '30 days';
DELETE FROM job_avoids WHERE at < panda_now() - interval '60 days';
DELETE FROM brokerage_decisions WHERE at < panda_now() - interval '30 days';
DELETE FROM room_groups WHERE seen_at < panda_now() - interval '1 day';
DELETE FROM transfer_waiters WHERE transfer_id = ANY(ARRAY(
    SELECT transfer_id FROM transfers WHERE ended_at < (SELECT panda_now()) - interval '7 days'));
DELETE FROM transfers WHERE ended_at < (SELECT panda_now()) - interval '7 days';
DELETE FROM stage_starts WHERE at < panda_now() - interval '10 minutes';
DELETE FROM node_failures WHERE hour < panda_now() - interval '14 days';
DELETE FROM error_hours WHERE hour < panda_now() - interval '90 days';
DELETE FROM meters WHERE changed_at < panda_now() - interval '90 days';
DELETE FROM incidents WHERE last_at < panda_now() - interval '90 days';
DELETE FROM page_deeds WHERE at < panda_now() - interval '7 days';
DELETE FROM page_sessions WHERE until < panda_now();
DELETE FROM fair_clock WHERE at < panda_now();
DELETE FROM switches WHERE until < panda_now() - interval '1 day';
DELETE FROM queue_history WHERE at < panda_now() - interval '14 days';
DELETE FROM notices WHERE at < panda_now() - interval '90 days';
SELECT panda_ensure_partitions((SELECT last_value FROM panda_id_seq) + 5000000)
"""


def fold(connection: Connection) -> None:
    """Fold what was appended so far."""
    run(connection, FOLD_COUNTS)
    run(connection, FOLD_RUNS)
    run(connection, FOLD_USAGE)
    run(connection, FOLD_ERRORS)
    meters.fold(connection)


def counts(connection: Connection) -> dict[tuple[str, str], int]:
    """Jobs by (status, queue); the queue is empty before brokerage."""
    return {(row.status, row.queue): row.n for row in rows(connection, COUNTS)}


def remember(connection: Connection) -> None:
    """One point per status for the charts, once a minute; one per queue every five."""
    run(connection, REMEMBER)
    run(connection, REMEMBER_QUEUES)


def tidy(connection: Connection) -> None:
    """Drop what is too old for any page; make partitions ahead of the ids."""
    for statement in TIDY.split(";"):
        rows(connection, statement) if statement.strip().startswith("SELECT") else run(connection, statement)
