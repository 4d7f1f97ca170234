"""The promise, as queries: invariants that hold at every commit, whatever died.

"After HTTP 201 a job is never lost; it reaches exactly one final state." Each query answers with the rows
that break an invariant (at most 20). Beat runs them over the newest jobs, `panda audit` and the tests over
all; a finding becomes an incident.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy.engine import Connection

from panda.db.session import rows, unhurried
from panda.jobs import incidents
from panda.jobs.incidents import Incident
from panda.states import ENTRY_STATUS, MOVES

#: Jobs that the clock looks back at; `panda audit` looks at all.
RECENT_JOBS = 20_000
#: Deeds of one kind, and datasets, that the clock looks back at.
RECENT_DEEDS = 1_000

_ARROWS = ", ".join(f"('{was}', '{to}')" for was, targets in MOVES.items() for to in sorted(targets))
_ENTRIES = ", ".join(
    f"('{stage}', '{status}')" for stage, statuses in ENTRY_STATUS.items() for status in sorted(statuses)
)
_FINAL = "('finished', 'failed', 'cancelled', 'closed')"
_ALL_JOBS = """(SELECT panda_id, jobset_id, status, attempt_nr, max_attempts, n_outputs, false AS archived FROM jobs
    WHERE panda_id > %(since)s
    UNION ALL SELECT panda_id, jobset_id, status, attempt_nr, max_attempts, n_outputs, true FROM jobs_archive
    WHERE panda_id > %(since)s)"""

INVARIANTS: dict[str, tuple[str, str]] = {
    "I1": (
        "accepted = unexpanded + open + finished + failed + cancelled, for every job set",
        f"""
        SELECT s.jobset_id, s.n_jobs, s.n_expanded, coalesce(j.n, 0) AS rows_there,
            ARRAY[s.n_open, s.n_finished, s.n_failed, s.n_cancelled] AS ledger,
            ARRAY[s.n_jobs - s.n_expanded + coalesce(j.n_open, 0), coalesce(j.n_finished, 0), coalesce(j.n_failed, 0),
                coalesce(j.n_cancelled, 0)] AS counted
        FROM jobsets s LEFT JOIN (
            SELECT jobset_id, count(*) AS n, count(*) FILTER (WHERE status NOT IN {_FINAL}) AS n_open,
                count(*) FILTER (WHERE status = 'finished') AS n_finished,
                count(*) FILTER (WHERE status = 'failed') AS n_failed,
                count(*) FILTER (WHERE status IN ('cancelled', 'closed')) AS n_cancelled
            FROM {_ALL_JOBS} a GROUP BY jobset_id) j USING (jobset_id)
        WHERE s.first_panda_id > %(since)s AND (coalesce(j.n, 0) <> s.n_expanded
            OR s.n_open <> s.n_jobs - s.n_expanded + coalesce(j.n_open, 0)
            OR (s.n_finished, s.n_failed, s.n_cancelled)
                <> (coalesce(j.n_finished, 0), coalesce(j.n_failed, 0), coalesce(j.n_cancelled, 0)))
        """,
    ),
    "I2": (
        "a job is in one of jobs and the archive; in the archive only if final",
        f"""
        SELECT panda_id, 'in both' AS what FROM jobs JOIN jobs_archive USING (panda_id) WHERE panda_id > %(since)s
        UNION ALL SELECT panda_id, status FROM jobs_archive WHERE status NOT IN {_FINAL} AND panda_id > %(since)s
        """,
    ),
    "I3": (
        "every move is in the table, each starts where the last one ended, times never go back",
        f"""
        WITH arrows(was, now) AS (VALUES {_ARROWS}), told AS (
            SELECT panda_id, event_id, was, now, at, lag(now) OVER w AS before, lag(at) OVER w AS before_at
            FROM job_events WHERE panda_id > %(since)s WINDOW w AS (PARTITION BY panda_id ORDER BY event_id))
        SELECT panda_id, event_id, was, now, before FROM told
        WHERE was IS DISTINCT FROM before OR at < before_at
            OR (was IS NULL AND now <> 'pending')
            OR (was IS NOT NULL AND (was, now) NOT IN (SELECT was, now FROM arrows))
        """,
    ),
    "I3b": (
        "a job's status is where its last move led",
        f"""
        SELECT j.panda_id, j.status, e.now FROM {_ALL_JOBS} j
        JOIN LATERAL (SELECT now FROM job_events e WHERE e.panda_id = j.panda_id
            ORDER BY event_id DESC LIMIT 1) e ON true
        WHERE e.now <> j.status
        """,
    ),
    "I4": (
        "a lease belongs to the newest attempt of a job that a pilot has",
        """
        SELECT l.panda_id, l.attempt_nr, j.attempt_nr AS newest, j.status
        FROM leases l LEFT JOIN jobs j USING (panda_id)
        WHERE j.panda_id IS NULL OR l.attempt_nr <> j.attempt_nr OR j.status NOT IN ('sent', 'starting', 'running')
        UNION ALL
        SELECT j.panda_id, j.attempt_nr, j.attempt_nr, j.status FROM jobs j LEFT JOIN leases l USING (panda_id)
        WHERE j.status IN ('sent', 'starting', 'running') AND l.panda_id IS NULL AND j.panda_id > %(since)s
        """,
    ),
    "I5": (
        "attempts are 1..n without gaps, n at most max_attempts; only the newest is open",
        f"""
        SELECT j.panda_id, j.attempt_nr, a.n, a.top FROM {_ALL_JOBS} j JOIN (
            SELECT panda_id, count(*) AS n, max(attempt_nr) AS top, count(*) FILTER (WHERE ended_at IS NULL) AS n_open
            FROM attempts WHERE panda_id > %(since)s GROUP BY panda_id) a USING (panda_id)
        WHERE a.n <> a.top OR a.top > j.attempt_nr OR j.attempt_nr > j.max_attempts OR a.n_open > 1
            OR (j.status IN {_FINAL} AND (a.top <> j.attempt_nr OR a.n_open > 0))
        """,
    ),
    "I6": (
        "a job reopens only by a new attempt, and the end of an attempt is the one that was told",
        f"""
        SELECT j.panda_id, j.attempt_nr, coalesce(e.n, 0)::text AS what FROM {_ALL_JOBS} j LEFT JOIN (
            SELECT panda_id, count(*) AS n FROM job_events WHERE was = 'failed' AND panda_id > %(since)s
            GROUP BY panda_id) e USING (panda_id)
        WHERE coalesce(e.n, 0) <> j.attempt_nr - 1
        UNION ALL
        SELECT a.panda_id, a.attempt_nr, a.outcome FROM attempts a
        WHERE a.panda_id > %(since)s AND a.ended_at IS NOT NULL AND NOT EXISTS (SELECT FROM job_events e
            WHERE e.panda_id = a.panda_id AND e.attempt_nr = a.attempt_nr AND e.now = a.outcome)
        """,
    ),
    "I7": (
        "a finished job has every output registered; no file of a job that did not finish is published",
        f"""
        SELECT j.panda_id, f.lfn, f.status FROM {_ALL_JOBS} j JOIN job_files f USING (panda_id)
        WHERE f.kind = 'output' AND ((j.status = 'finished') <> (f.status = 'registered'))
            AND j.status IN ('finished', 'cancelled', 'closed', 'activated', 'sent', 'running')
        UNION ALL
        SELECT j.panda_id, f.lfn, f.status FROM jobs j JOIN job_files f USING (panda_id)
        WHERE f.kind = 'input' AND f.status <> 'ready' AND j.status IN ('activated', 'sent', 'running')
            AND j.panda_id > %(since)s
        """,
    ),
    "I8": (
        "a dataset's counters are those of its files",
        f"""
        SELECT d.dataset_id, d.n_files, count(f.file_id) AS there, d.size_bytes, coalesce(sum(f.size_bytes), 0) AS bytes
        FROM datasets d LEFT JOIN files f USING (dataset_id)
        WHERE %(since)s < 0 OR d.dataset_id > (SELECT max(dataset_id) FROM datasets) - {RECENT_DEEDS}
        GROUP BY d.dataset_id
        HAVING d.n_files <> count(f.file_id) OR d.size_bytes <> coalesce(sum(f.size_bytes), 0)
        """,
    ),
    "I8b": (
        "what is counted on a storage is what lies there",
        """
        SELECT storage, owner, sum(n_files) AS n_files, sum(n_bytes) AS n_bytes FROM (
            SELECT storage, owner, n_files, n_bytes FROM storage_use
            UNION ALL SELECT storage, owner, n_files, n_bytes FROM storage_use_deltas
            UNION ALL SELECT r.storage, CASE WHEN r.is_copy THEN '' ELSE d.owner END, -count(*), -sum(f.size_bytes)
            FROM replicas r JOIN files f USING (file_id) JOIN datasets d USING (dataset_id)
            GROUP BY 1, 2) told_and_there
        WHERE %(since)s < 0 GROUP BY storage, owner HAVING sum(n_files) <> 0 OR sum(n_bytes) <> 0
        """,
    ),
    "I9": (
        "no published file belongs to a superseded attempt: what came later inherited it",
        f"""
        SELECT f.panda_id, f.lfn, f.attempt_nr, j.attempt_nr AS newest FROM {_ALL_JOBS} j
        JOIN job_files o ON o.panda_id = j.panda_id AND o.kind = 'output' AND o.status = 'registered'
        JOIN files f ON f.file_id = o.file_id AND f.panda_id = o.panda_id
        WHERE f.attempt_nr > j.attempt_nr OR EXISTS (
            SELECT FROM attempts a WHERE a.panda_id = f.panda_id AND a.attempt_nr > f.attempt_nr
                AND a.from_stage <> 'stage_out')
        """,
    ),
    "I10": (
        "each job that is not archived has its row of job_due, and none is overdue for long",
        """
        SELECT j.panda_id, j.status, 'no row' AS what FROM jobs j LEFT JOIN job_due d USING (panda_id)
        WHERE d.panda_id IS NULL AND j.panda_id > %(since)s
        UNION ALL SELECT d.panda_id, d.stage, 'no job' FROM job_due d LEFT JOIN jobs j USING (panda_id)
        WHERE j.panda_id IS NULL AND d.panda_id > %(since)s
        UNION ALL SELECT panda_id, stage, 'overdue' FROM job_due
        WHERE waits_for IS NOT NULL AND due_at < (SELECT panda_now()) - interval '5 minutes'
        """,
    ),
    "I10b": (
        "a job that waits for data has transfers on their way, or is about to be told that they were given up",
        """
        SELECT d.panda_id, d.missing, count(t.transfer_id) AS active FROM job_due d
        LEFT JOIN transfer_waiters w USING (panda_id)
        LEFT JOIN transfers t ON t.transfer_id = w.transfer_id AND t.status IN ('queued', 'moving')
        WHERE d.waits_for = 'data' AND d.error IS NULL AND d.panda_id > %(since)s
        GROUP BY d.panda_id, d.missing HAVING count(t.transfer_id) <> d.missing
        """,
    ),
    "I11": (
        "the stage that a job needs next follows from its status",
        f"""
        SELECT j.panda_id, j.status, d.stage FROM job_due d JOIN jobs j USING (panda_id)
        WHERE (d.stage, j.status) NOT IN (VALUES {_ENTRIES}) AND j.panda_id > %(since)s
        """,
    ),
    "I11b": (
        "what pilots may claim is activated and waits for one",
        """
        SELECT r.panda_id, j.status, d.stage FROM ready r LEFT JOIN jobs j USING (panda_id)
        LEFT JOIN job_due d USING (panda_id)
        WHERE j.status IS DISTINCT FROM 'activated' OR d.stage IS DISTINCT FROM 'dispatch'
        UNION ALL
        SELECT j.panda_id, j.status, d.stage
        FROM jobs j JOIN job_due d USING (panda_id) LEFT JOIN ready r USING (panda_id)
        WHERE d.waits_for = 'pilot' AND r.panda_id IS NULL AND j.panda_id > %(since)s
        """,
    ),
    "I12": (
        "a kill is confirmed within ten minutes",
        """
        SELECT panda_id, status, pilot_id, kill_requested_at, kill_delivered_at FROM jobs
        WHERE kill_requested_at < (SELECT panda_now()) - interval '10 minutes'
            AND status IN ('sent', 'starting', 'running') AND panda_id > %(since)s
        """,
    ),
    "I13": (
        "the use that is accounted is that of the archived jobs and of the attempts that failed",
        """
        SELECT owner, share, sum(n_finished) AS finished, sum(n_failed) AS failed, sum(n_cancelled) AS cancelled
        FROM (
            SELECT owner, share, n_finished, n_failed, n_cancelled FROM usage_all
            UNION ALL SELECT owner, share, n_finished, n_failed, n_cancelled FROM usage_deltas
            UNION ALL SELECT owner, share, -count(*) FILTER (WHERE status = 'finished'), 0,
                -count(*) FILTER (WHERE status IN ('cancelled', 'closed'))
            FROM jobs_archive GROUP BY owner, share
            UNION ALL SELECT j.owner, j.share, 0, -count(*), 0
            FROM attempts a JOIN (SELECT panda_id, owner, share FROM jobs
                UNION ALL SELECT panda_id, owner, share FROM jobs_archive) j USING (panda_id)
            WHERE a.outcome = 'failed' GROUP BY j.owner, j.share) told_and_there
        WHERE %(since)s < 0 GROUP BY owner, share
        HAVING sum(n_finished) <> 0 OR sum(n_failed) <> 0 OR sum(n_cancelled) <> 0
        """,
    ),
    "I13b": (
        "the counters of the pages are the jobs that there are",
        """
        SELECT status, sum(n)::bigint AS too_many FROM (
            SELECT status, n FROM job_counts UNION ALL SELECT status, n FROM job_count_deltas
            UNION ALL SELECT status, -count(*) FROM jobs GROUP BY status
            UNION ALL SELECT status, -count(*) FROM jobs_archive GROUP BY status) told_and_there
        WHERE %(since)s < 0 GROUP BY status HAVING sum(n) <> 0
        """,
    ),
    "I14": (
        "no attempt used less than nothing, ended before it began, or began before the one before it had ended",
        """
        SELECT panda_id, attempt_nr, wall_s, cpu_s, created_at, ended_at, before FROM (
            SELECT *, lag(ended_at) OVER (PARTITION BY panda_id ORDER BY attempt_nr) AS before
            FROM attempts WHERE panda_id > %(since)s) told
        WHERE wall_s < 0 OR cpu_s < 0 OR ended_at < created_at OR created_at < before
        """,
    ),
    "I15": (
        "no two job sets share a PandaID, none was given twice, and each job lies within its own set",
        f"""
        SELECT jobset_id, first_panda_id AS panda_id FROM (
            SELECT jobset_id, first_panda_id, lead(first_panda_id) OVER (ORDER BY first_panda_id) AS next, n_jobs
            FROM jobsets WHERE first_panda_id > %(since)s) ranges WHERE first_panda_id + n_jobs > next
        UNION ALL
        SELECT jobset_id, first_panda_id + n_jobs - 1 FROM jobsets, panda_id_seq
        WHERE first_panda_id > %(since)s AND first_panda_id + n_jobs - 1 > last_value
        UNION ALL
        SELECT s.jobset_id, j.panda_id FROM {_ALL_JOBS} j JOIN jobsets s USING (jobset_id)
        WHERE j.panda_id NOT BETWEEN s.first_panda_id AND s.first_panda_id + s.n_jobs - 1
        """,
    ),
    "I16": (
        "a job belongs to the owner and the share of its set, and so does what it writes",
        """
        SELECT j.panda_id, j.owner, s.owner AS set_owner, j.share, s.share AS set_share FROM (
            SELECT panda_id, jobset_id, owner, share FROM jobs WHERE panda_id > %(since)s
            UNION ALL SELECT panda_id, jobset_id, owner, share FROM jobs_archive WHERE panda_id > %(since)s) j
        JOIN jobsets s USING (jobset_id) WHERE j.owner <> s.owner OR j.share <> s.share
        UNION ALL
        SELECT s.first_panda_id, d.owner, s.owner, d.scope || ':' || d.name, s.share
        FROM jobsets s JOIN datasets d ON d.dataset_id = s.output_dataset_id
        WHERE s.first_panda_id > %(since)s AND d.owner <> s.owner
        """,
    ),
    "I17": (
        "every log belongs to an attempt that there was",
        f"""
        SELECT l.panda_id, l.attempt_nr, l.name, l.size_bytes, j.attempt_nr AS newest
        FROM job_logs l LEFT JOIN {_ALL_JOBS} j USING (panda_id)
        WHERE l.panda_id > %(since)s
            AND (j.panda_id IS NULL OR l.attempt_nr NOT BETWEEN 1 AND j.attempt_nr OR l.size_bytes < 0)
        """,
    ),
    "I18": (
        "what people of power changed stands in the audit log",
        f"""
        WITH changed(target) AS (
            SELECT 'queue ' || name FROM queues WHERE status_reason <> '' AND %(since)s IS NOT NULL
            UNION ALL SELECT 'share ' || name FROM shares WHERE weight <> file_weight
            UNION ALL SELECT name FROM users WHERE banned_at IS NOT NULL
            UNION ALL (SELECT 'action ' || action_id FROM bulk_actions
                WHERE confirmed_at IS NOT NULL AND token_hash IS NOT NULL ORDER BY action_id DESC LIMIT {RECENT_DEEDS})
            UNION ALL (SELECT 'incident ' || incident_id FROM incidents
                WHERE acknowledged_at IS NOT NULL OR closed_at IS NOT NULL
                ORDER BY incident_id DESC LIMIT {RECENT_DEEDS}))
        SELECT target FROM changed WHERE NOT EXISTS (SELECT FROM audit_log a WHERE a.target = changed.target)
        UNION ALL
        SELECT 'token ' || token_id FROM tokens t WHERE revoked_at IS NOT NULL AND NOT EXISTS (
            SELECT FROM audit_log a WHERE a.target = 'token ' || t.token_id
                OR (a.target = t.owner AND a.action = 'revoke_tokens' AND a.at >= t.revoked_at - interval '1 minute'))
        """,
    ),
}

NEWEST = "SELECT last_value AS newest FROM panda_id_seq"


#: The planner shall not hope to meet twenty broken rows soon: there are none, and a plan for that takes minutes.
FIRST = "WITH broken AS MATERIALIZED ({}) SELECT * FROM broken LIMIT 20"


class Finding(NamedTuple):
    """An invariant that does not hold, and the rows that break it."""

    invariant: str
    sentence: str
    rows: list[dict[str, Any]]


def audit(connection: Connection, *, everything: bool = False, only: Sequence[str] = ()) -> list[Finding]:
    """The invariants that do not hold. `everything`: over all jobs, not only the newest ones."""
    unhurried(connection)
    since = -1 if everything else max(0, rows(connection, NEWEST)[0].newest - RECENT_JOBS)
    findings = []
    for name, (sentence, sql) in INVARIANTS.items():
        if only and name not in only:
            continue
        found = rows(connection, FIRST.format(sql), {"since": since})
        if found:
            findings.append(Finding(name, sentence, [row._asdict() for row in found]))
    return findings


def report(connection: Connection, findings: Sequence[Finding]) -> None:
    """Findings become incidents, with the rows named; the same one within ten minutes is folded."""
    incidents.report(
        connection,
        [
            Incident("audit", "error", f"audit:{finding.invariant}", finding.sentence, context={"rows": finding.rows})
            for finding in findings
        ],
    )
