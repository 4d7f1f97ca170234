"""Numbers about the engine for `/metrics` and `/readyz`.

Each costs the same whatever the tables hold: folded counters, the ends of indexes, counts that stop at a cap.
"""

from sqlalchemy.engine import Connection

from panda.db.session import rows
from panda.jobs import counters, meters
from panda.jobs.pilots_alive import PILOTS
from panda.metrics import Family
from panda.states import LEASED

#: Counts stop here: more are shown as one more than this.
CAP = 10_000

BEHIND = f"""
SELECT 'final' AS lane,
    (SELECT count(*) FROM (SELECT 1 FROM job_due WHERE waits_for IS NULL AND final
        AND due_at <= (SELECT panda_now()) LIMIT {CAP + 1}) AS due) AS n_due,
    coalesce(extract(epoch FROM panda_now() - (SELECT due_at FROM job_due WHERE waits_for IS NULL AND final
        ORDER BY due_at LIMIT 1)), 0)::float8 AS behind_s
UNION ALL SELECT 'stages',
    (SELECT count(*) FROM (SELECT 1 FROM job_due WHERE waits_for IS NULL AND NOT final
        AND due_at <= (SELECT panda_now()) LIMIT {CAP + 1}) AS due),
    coalesce(extract(epoch FROM panda_now() - (SELECT due_at FROM job_due WHERE waits_for IS NULL AND NOT final
        ORDER BY due_at LIMIT 1)), 0)::float8
UNION ALL SELECT 'waits',
    (SELECT count(*) FROM (SELECT 1 FROM job_due WHERE waits_for IS NOT NULL
        AND due_at <= (SELECT panda_now()) LIMIT {CAP + 1}) AS due),
    coalesce(extract(epoch FROM panda_now() - (SELECT due_at FROM job_due WHERE waits_for IS NOT NULL
        ORDER BY due_at LIMIT 1)), 0)::float8
"""
STAGES = """
SELECT stage, sum(n)::float8 AS n, sum(n_failed)::float8 AS n_failed
FROM stage_runs WHERE minute > (SELECT panda_now()) - interval '5 minutes' GROUP BY stage
"""
TRANSFERS = f"""
SELECT 'queued' AS status, (SELECT count(*) FROM (SELECT 1 FROM transfers WHERE status = 'queued'
    LIMIT {CAP + 1}) AS counted) AS n
UNION ALL SELECT 'moving', (SELECT count(*) FROM (SELECT 1 FROM transfers WHERE status = 'moving'
    LIMIT {CAP + 1}) AS counted)
"""
INCIDENTS = f"""
SELECT level, count(*) FILTER (WHERE is_new)::float8 AS n_new, count(*) FILTER (WHERE is_open)::float8 AS n_open
FROM (SELECT level, closed_at IS NULL AS is_open, last_at > (SELECT panda_now()) - interval '1 hour' AS is_new
    FROM incidents ORDER BY last_at DESC LIMIT {CAP}) AS newest
GROUP BY level
"""
#: Of each queue the jobs that may go next, and the oldest ones of all: who waits longest is among these, or nearly.
OLDEST = """
SELECT r.queue, extract(epoch FROM panda_now() - min(j.changed_at))::float8 AS age_s FROM (
    SELECT q.queue, n.panda_id FROM (SELECT DISTINCT queue FROM job_counts WHERE status = 'activated' AND n > 0) AS q,
        LATERAL (SELECT panda_id FROM ready WHERE queue = q.queue ORDER BY queue, share, who, shape_id, rank LIMIT 10)
        AS n
    UNION (SELECT queue, panda_id FROM ready ORDER BY panda_id LIMIT 1000)) AS r,
    LATERAL (SELECT changed_at FROM jobs WHERE panda_id = r.panda_id OFFSET 0) AS j
GROUP BY r.queue
"""
TICKS = """
SELECT name, extract(epoch FROM panda_now() - last_run_at)::float8 AS age_s FROM tick_leases
WHERE last_run_at IS NOT NULL
"""
CANARIES = """
SELECT substr(key, 8) AS lane, extract(epoch FROM panda_now() - value::timestamptz)::float8 AS age_s
FROM engine_state WHERE key IN ('canary.final', 'canary.stages')
"""

#: Silence after which a part counts as gone, and the relay as late, in seconds.
BEAT_SILENT_S, WORKERS_SILENT_S, RELAY_LATE_S = 30.0, 200.0, 30.0


def families(connection: Connection) -> list[Family]:
    """Everything that the database tells."""
    counts = counters.counts(connection)
    leased = sum(n for (status, _), n in counts.items() if status in LEASED)
    due, stages, transfers = rows(connection, BEHIND), rows(connection, STAGES), rows(connection, TRANSFERS)
    pilots, ticks, canaries = rows(connection, PILOTS), rows(connection, TICKS), rows(connection, CANARIES)
    incidents, oldest = rows(connection, INCIDENTS), rows(connection, OLDEST)
    return [
        Family("panda_jobs", "Jobs by status and queue; no queue before brokerage.",
               [({"status": status, "queue": queue}, n) for (status, queue), n in sorted(counts.items())]),
        Family("panda_leases", "Attempts that pilots have.", [({}, leased)]),
        Family("panda_due_jobs", f"Rows that are due now, by lane; {CAP + 1} stands for more.",
               [({"lane": row.lane}, row.n_due) for row in due]),
        Family("panda_oldest_due_seconds", "Age of the oldest row that is due, by lane.",
               [({"lane": row.lane}, max(0.0, row.behind_s)) for row in due]),
        Family("panda_stage_jobs_5m", "Jobs that a stage handled in the last five minutes.",
               [({"stage": row.stage}, row.n) for row in stages]),
        Family("panda_stage_failed_5m", "Jobs that made a stage raise in the last five minutes.",
               [({"stage": row.stage}, row.n_failed) for row in stages]),
        Family("panda_transfers", f"Transfers under way, by status; {CAP + 1} stands for more.",
               [({"status": row.status}, row.n) for row in transfers]),
        Family("panda_pilots", "Pilots that asked within two minutes, or hold a job (busy), by queue.",
               [({"queue": row.queue, "state": state}, n) for row in pilots
                for state, n in (("busy", row.n_busy), ("idle", row.n - row.n_busy))]),
        Family("panda_pilot_cores", "Their cores.", [({"queue": row.queue}, row.cores) for row in pilots]),
        Family("panda_queue_oldest_seconds", "How long the oldest of the first ready jobs of a queue is ready.",
               [({"queue": row.queue}, max(0.0, row.age_s)) for row in oldest]),
        Family("panda_incidents_1h", "Incidents of the last hour, by level.",
               [({"level": row.level}, row.n_new) for row in incidents]),
        Family("panda_incidents_open", f"Incidents that nobody closed, by level, of the newest {CAP}.",
               [({"level": row.level}, row.n_open) for row in incidents]),
        Family("panda_tick_age_seconds", "Since a tick of the clock ran last.",
               [({"tick": row.name}, row.age_s) for row in ticks]),
        Family("panda_canary_age_seconds", "Since a worker of a lane consumed its canary.",
               [({"lane": row.lane}, row.age_s) for row in canaries]),
        *meters.families(connection),
    ]  # fmt: skip


def parts(connection: Connection) -> dict[str, str]:
    """relay, beat, workers: `ok`, `late`, `silent`, or `not seen` as long as there is no trace of them."""
    ticks = [row.age_s for row in rows(connection, TICKS)]
    canaries = [row.age_s for row in rows(connection, CANARIES)]
    behind = max(row.behind_s for row in rows(connection, BEHIND) if row.lane != "waits")
    return {
        "relay": "late" if behind > RELAY_LATE_S else "ok",
        "beat": _heard(ticks and min(ticks), BEAT_SILENT_S),
        "workers": _heard(canaries and max(canaries), WORKERS_SILENT_S),
    }


def _heard(age_s: "float | list[float]", silent_s: float) -> str:
    if isinstance(age_s, list):
        return "not seen"
    return "silent" if age_s > silent_s else "ok"
