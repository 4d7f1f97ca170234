"""What the pages of sites, queues, pilots and nodes ask: roll-ups, or the newest rows of one queue."""

from panda.jobs import pilots_alive

SITES = """
SELECT s.name, s.cloud, s.description FROM sites s ORDER BY s.name LIMIT 2000
"""
SITE = "SELECT name, cloud, description, max_running FROM sites WHERE name = %(site)s"
#: What was done to places, of the newest deeds of all.
DEEDS_OF = """
SELECT audit_id, at, who, action, target, reason FROM (
    SELECT * FROM audit_log ORDER BY audit_id DESC LIMIT 5000) AS newest
WHERE target = ANY(%(targets)s::text[]) ORDER BY audit_id DESC LIMIT 8
"""
NAMES_OF_QUEUES = "SELECT name FROM queues WHERE name = ANY(%(ids)s)"
QUEUES_OF = """
SELECT q.*, s.cloud, s.description FROM queues q JOIN sites s ON s.name = q.site
WHERE q.site = %(site)s ORDER BY q.name LIMIT 500
"""
QUEUE = """
SELECT q.*, s.cloud, s.description FROM queues q JOIN sites s ON s.name = q.site WHERE q.name = %(queue)s
"""
#: The last test jobs of a queue.
TESTS_OF = """
SELECT t.jobset_id, t.rule, t.n_jobs, t.sent_at, t.judged_at, s.n_finished, s.n_open, s.ended_at
FROM queue_tests t, LATERAL (SELECT n_finished, n_open, ended_at FROM jobsets WHERE jobset_id = t.jobset_id OFFSET 0) s
WHERE t.queue = %(queue)s ORDER BY t.sent_at DESC LIMIT 3
"""
#: Downtimes that are planned or going on, of queues, their sites and the storages that they use by default.
DOWNTIMES_OF = """
SELECT name, kind, target, starts_at, ends_at, reason, made_by, starts_at <= (SELECT panda_now()) AS is_now
FROM downtimes d WHERE ends_at > (SELECT panda_now()) AND EXISTS (
    SELECT FROM queues q WHERE q.name = ANY(%(queues)s) AND ((d.kind = 'queue' AND d.target = q.name)
        OR (d.kind = 'site' AND d.target = q.site)
        OR (d.kind = 'storage' AND d.target IN (q.storage, q.write_storage))))
ORDER BY starts_at, name LIMIT 20
"""
#: Failures of the last day, and how many jobs ended, by queue: from roll-ups.
FAILED_BY_QUEUE = """
SELECT queue, sum(n)::bigint AS n FROM error_hours
WHERE hour > (SELECT panda_now()) - interval '24 hours' GROUP BY queue
"""
ENDED_BY_QUEUE = """
SELECT queue, sum(n_finished)::bigint AS n_finished, sum(n_failed)::bigint AS n_failed, sum(wall_s)::float8 AS wall_s,
    sum(cpu_s)::float8 AS cpu_s, sum(core_s)::float8 AS core_s
FROM usage_all WHERE day >= ((SELECT panda_now()) - interval '24 hours')::date GROUP BY queue
"""
ERRORS_OF_QUEUE = """
SELECT error_code, failed_stage, sum(n)::bigint AS n, max(hour) AS last_at FROM error_hours
WHERE hour > (SELECT panda_now()) - interval '24 hours' AND queue = ANY(%(queues)s)
GROUP BY error_code, failed_stage ORDER BY n DESC LIMIT 10
"""
#: Oldest ready jobs of a queue: by rank, share by share and shape by shape, so only a bounded look.
READY = """
SELECT share, count(*) AS n FROM (SELECT share FROM ready WHERE queue = %(queue)s ORDER BY queue, share LIMIT 10001)
    AS looked_at GROUP BY share ORDER BY n DESC
"""
PILOTS_OF = """
SELECT pilot_id, queue, node, version, cores, memory_mb, started_at, last_seen_at, n_jobs, nothing_because,
    extract(epoch FROM panda_now() - last_seen_at)::float8 AS silent_s
FROM pilots WHERE queue = %(queue)s AND last_seen_at > (SELECT panda_now()) - interval '1 day'
ORDER BY queue, last_seen_at DESC LIMIT 1000
"""
#: What became of jobs by node in a day: attempts that failed, from their roll-up, and of each queue the newest
#: jobs that finished. Black holes stand out.
NODES = """
WITH finished AS (
    SELECT q.queue, f.node, count(*) AS n, percentile_cont(0.5) WITHIN GROUP (ORDER BY f.wall_s) AS p50_wall_s,
        max(f.ended_at) AS last_at
    FROM unnest(%(queues)s::text[]) AS q(queue), LATERAL (
        SELECT node, wall_s, ended_at FROM jobs_archive WHERE computing_site = q.queue AND status = 'finished'
            AND ended_at > (SELECT panda_now()) - interval '24 hours'
        ORDER BY computing_site, ended_at DESC LIMIT 5000) AS f
    WHERE f.node IS NOT NULL GROUP BY 1, 2),
failed AS (
    SELECT queue, node, sum(n)::bigint AS n, sum(wall_s) / sum(n) AS mean_wall_s, min(hour) AS first_at,
        max(hour) AS last_at
    FROM node_failures WHERE queue = ANY(%(queues)s::text[]) AND hour > (SELECT panda_now()) - interval '24 hours'
    GROUP BY 1, 2)
SELECT queue, node, coalesce(f.n, 0) + coalesce(x.n, 0) AS n, coalesce(x.n, 0) AS n_failed, f.p50_wall_s,
    x.mean_wall_s AS failed_wall_s, x.first_at, greatest(f.last_at, x.last_at) AS last_at
FROM finished f FULL JOIN failed x USING (queue, node) ORDER BY n_failed DESC, n DESC LIMIT 400
"""
JOBS_OF_NODE = """
SELECT panda_id, jobset_id, name, owner, status, attempt_nr, max_attempts, computing_site, failed_stage, error_code,
    error_message, wall_s, created_at, changed_at, started_at, ended_at
FROM (
    (SELECT * FROM jobs_archive WHERE computing_site = %(queue)s
        AND ended_at > (SELECT panda_now()) - interval '24 hours' ORDER BY computing_site, ended_at DESC LIMIT 5000)
    ) AS newest
WHERE node = %(node)s ORDER BY ended_at DESC LIMIT 50
"""
RESTING_OF_NODE = """
SELECT f.* FROM (
    SELECT panda_id FROM job_due WHERE waits_for IS NOT NULL AND waits_for = 'operator'
    AND due_at > (SELECT panda_now()) + make_interval(secs => %(window_s)s - 86400) ORDER BY due_at DESC LIMIT 5000
    ) AS resting CROSS JOIN LATERAL (
    SELECT panda_id, jobset_id, name, owner, status, attempt_nr, max_attempts, computing_site, failed_stage, error_code,
        error_message, wall_s, created_at, changed_at, started_at, ended_at, node
    FROM jobs WHERE panda_id = resting.panda_id OFFSET 0) AS f
WHERE f.status = 'failed' AND f.computing_site = %(queue)s AND f.node = %(node)s LIMIT 50
"""
#: By queue: pilots that asked within the hour, and those that hold a job, however long ago they asked.
PILOTS = f"""
WITH holders AS MATERIALIZED ({pilots_alive.HOLDERS}),
lately AS (
    SELECT pilot_id, queue, cores, last_seen_at, nothing_because, n_jobs FROM pilots
    WHERE last_seen_at > (SELECT panda_now()) - interval '1 hour' LIMIT 50000),
known AS (
    SELECT queue, cores, nothing_because, n_jobs,
        last_seen_at > (SELECT panda_now()) - interval '2 minutes'
        OR pilot_id IN (SELECT pilot_id FROM holders) AS is_alive
    FROM lately
    UNION ALL
    SELECT p.queue, p.cores, p.nothing_because, p.n_jobs, true FROM holders h, LATERAL (
        SELECT * FROM pilots WHERE pilot_id = h.pilot_id OFFSET 0) AS p
    WHERE p.last_seen_at <= (SELECT panda_now()) - interval '1 hour')
SELECT queue, count(*) AS n, sum(cores)::bigint AS cores, count(*) FILTER (WHERE is_alive) AS n_alive,
    count(*) FILTER (WHERE is_alive AND nothing_because IS NOT NULL) AS n_idle,
    count(*) FILTER (WHERE n_jobs = 0) AS n_without, sum(n_jobs)::bigint AS n_jobs
FROM known GROUP BY queue ORDER BY queue
"""
#: By queue, state and how long ago they were heard of: asks, and heartbeats of the jobs that they hold. The same pilots
#: as above; a pilot that asked lately and holds a job comes twice, which costs less than a join of the two. `starting`:
#: it has just come and took nothing yet.
FLEET = """
WITH holders AS MATERIALIZED (
    SELECT pilot_id, max(reported_at) AS reported_at
    FROM (SELECT pilot_id, lease_until, reported_at FROM leases ORDER BY panda_id DESC LIMIT 20000) AS newest
    WHERE lease_until > (SELECT panda_now()) GROUP BY pilot_id),
lately AS (
    SELECT pilot_id, queue, cores, started_at, last_seen_at, n_jobs FROM pilots
    WHERE last_seen_at > (SELECT panda_now()) - interval '1 hour' LIMIT 50000),
known AS (
    SELECT max(queue) AS queue, max(cores) AS cores, max(started_at) AS started_at, max(n_jobs) AS n_jobs,
        max(heard_at) AS heard_at, bool_or(holds) AS holds
    FROM (
        SELECT pilot_id, queue, cores, started_at, n_jobs, last_seen_at AS heard_at, false AS holds FROM lately
        UNION ALL
        SELECT h.pilot_id, p.queue, p.cores, p.started_at, p.n_jobs, greatest(p.last_seen_at, h.reported_at), true
        FROM holders h, LATERAL (SELECT * FROM pilots WHERE pilot_id = h.pilot_id OFFSET 0) AS p) AS both_kinds
    GROUP BY pilot_id)
SELECT queue, state, width_bucket(age_s, ARRAY[15, 60, 120, 600, 3600]::float8[]) AS bucket, count(*) AS n,
    sum(cores)::bigint AS cores
FROM (SELECT queue, cores, extract(epoch FROM (SELECT panda_now()) - heard_at)::float8 AS age_s,
        CASE WHEN holds THEN 'running'
            WHEN heard_at <= (SELECT panda_now()) - interval '2 minutes' THEN 'silent'
            WHEN n_jobs = 0 AND started_at > (SELECT panda_now()) - interval '2 minutes' THEN 'starting'
            ELSE 'idle' END AS state
    FROM known) AS seen
GROUP BY queue, state, bucket
"""
#: How asks of pilots ended in a day, by queue.
ASKS = """
SELECT queue, sum(n)::bigint AS n, coalesce(sum(n) FILTER (WHERE word = 'got'), 0)::bigint AS n_got
FROM dispatch_counts WHERE shape_id = 0 AND hour > (SELECT panda_now()) - interval '24 hours' GROUP BY queue
"""
#: Who starts pilots, for how many queues, and how many at most.
SUBMITTERS = """
SELECT submitter, count(*) AS n_queues, sum(max_pilots)::bigint AS max_pilots, array_agg(name ORDER BY name) AS queues
FROM queues WHERE removed_at IS NULL GROUP BY submitter ORDER BY submitter
"""
PILOTS_SHOWN = """
SELECT pilot_id, queue, node, version, cores, memory_mb, started_at, last_seen_at, n_jobs, nothing_because,
    extract(epoch FROM panda_now() - last_seen_at)::float8 AS silent_s
FROM pilots WHERE pilot_id = ANY(%(ids)s)
"""
VERSIONS = """
SELECT version, count(*) AS n FROM (SELECT version FROM pilots
    WHERE last_seen_at > (SELECT panda_now()) - interval '1 hour' LIMIT 50000) AS lately
GROUP BY version ORDER BY n DESC LIMIT 20
"""
PILOT = """
SELECT pilot_id, queue, node, version, cores, memory_mb, started_at, last_seen_at, n_jobs, nothing_because,
    last_panda_ids, extract(epoch FROM panda_now() - last_seen_at)::float8 AS silent_s
FROM pilots WHERE pilot_id = %(pilot_id)s
"""
#: What a pilot holds now: of the jobs that it took last.
HELD = """
SELECT panda_id, attempt_nr, lease_until, reported_at, cpu_s, rss_mb FROM leases
WHERE panda_id = ANY(%(panda_ids)s) AND pilot_id = %(pilot_id)s ORDER BY panda_id LIMIT 200
"""

#: Jobs under way at queues in a day, by status; a value for each bin.
HISTORY = """
SELECT bin, status, sum(n)::float8 AS n FROM (
    SELECT h.queue, date_bin(make_interval(secs => %(bin_s)s), h.at, timestamptz 'epoch') AS bin, c.key AS status,
        avg(c.value::float8) AS n
    FROM queue_history h, jsonb_each_text(h.counts) AS c
    WHERE h.queue = ANY(%(queues)s::text[]) AND h.at > (SELECT panda_now()) - interval '24 hours'
    GROUP BY h.queue, bin, c.key) AS by_queue
GROUP BY bin, status ORDER BY bin
"""
#: Files that came to storages and left them in an hour, of the newest 20,000 that ended.
FLOWS = """
SELECT way, count(*) AS n, count(*) FILTER (WHERE status = 'failed') AS n_failed,
    coalesce(sum(size_bytes) FILTER (WHERE status = 'done'), 0)::bigint AS n_bytes,
    (array_agg(error ORDER BY ended_at DESC) FILTER (WHERE status = 'failed'))[1] AS error
FROM (
    SELECT CASE WHEN destination = ANY(%(storages)s::text[]) THEN 'in' ELSE 'out' END AS way, t.status, t.ended_at,
        t.error, f.size_bytes
    FROM (SELECT file_id, source, destination, status, ended_at, error FROM transfers
        WHERE ended_at > (SELECT panda_now()) - interval '1 hour' ORDER BY ended_at DESC LIMIT 20000) AS t,
        LATERAL (SELECT size_bytes FROM files WHERE file_id = t.file_id OFFSET 0) AS f
    WHERE t.destination = ANY(%(storages)s::text[]) OR t.source = ANY(%(storages)s::text[])) AS moved
GROUP BY way
"""
