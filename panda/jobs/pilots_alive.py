"""Which pilots are alive: they asked within two minutes, or hold a job. A busy one asks for nothing for hours."""

#: Pilots that hold a job, of the newest leases.
HOLDERS = """
SELECT DISTINCT pilot_id FROM (SELECT pilot_id, lease_until FROM leases ORDER BY panda_id DESC LIMIT 20000) AS newest
WHERE lease_until > (SELECT panda_now())
"""
#: By queue: all of them, those that hold a job, and their cores.
PILOTS = f"""
WITH holders AS MATERIALIZED ({HOLDERS})
SELECT queue, count(*) AS n, count(*) FILTER (WHERE is_busy) AS n_busy, sum(cores)::bigint AS cores FROM (
    SELECT queue, cores, pilot_id IN (SELECT pilot_id FROM holders) AS is_busy FROM pilots
    WHERE last_seen_at > (SELECT panda_now()) - interval '2 minutes'
    UNION ALL
    SELECT p.queue, p.cores, true FROM holders AS h, LATERAL (
        SELECT queue, cores, last_seen_at FROM pilots WHERE pilot_id = h.pilot_id OFFSET 0) AS p
    WHERE p.last_seen_at <= (SELECT panda_now()) - interval '2 minutes') AS alive
GROUP BY queue
"""
