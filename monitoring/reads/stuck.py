"""Jobs that stay in a status far longer than others did: longer than 99 % of the newest that ended, twice over."""

from sqlalchemy.engine import Connection

from monitoring.reads.queries import Facts, facts

#: How long the newest archived jobs stayed in each status.
USUAL = """
SELECT status, percentile_cont(0.99) WITHIN GROUP (ORDER BY seconds) AS p99_s, count(*) AS n FROM (
    SELECT e.now AS status,
        extract(epoch FROM lead(e.at) OVER (PARTITION BY e.panda_id ORDER BY e.event_id) - e.at)::float8 AS seconds
    FROM (SELECT panda_id FROM jobs_archive ORDER BY panda_id DESC LIMIT 500) AS newest,
        LATERAL (SELECT panda_id, event_id, at, now FROM job_events WHERE panda_id = newest.panda_id OFFSET 0) AS e
    ) AS stays WHERE seconds IS NOT NULL GROUP BY status
"""
#: The oldest live jobs, those that pilots have and those that are ready: who is stuck is among the oldest.
LONGER = """
SELECT j.panda_id, j.status, j.owner, j.computing_site, j.changed_at, j.node, u.p99_s,
    extract(epoch FROM panda_now() - j.changed_at)::float8 AS for_s
FROM (
    (SELECT panda_id FROM jobs ORDER BY panda_id LIMIT 2000)
    UNION (SELECT panda_id FROM leases ORDER BY panda_id LIMIT 2000)
    UNION (SELECT panda_id FROM ready ORDER BY panda_id LIMIT 2000)) AS oldest,
    LATERAL (SELECT panda_id, status, owner, computing_site, changed_at, node FROM jobs
        WHERE panda_id = oldest.panda_id OFFSET 0) AS j,
    unnest(%(statuses)s::text[], %(p99s)s::float8[]) AS u(status, p99_s)
WHERE j.status = u.status
    AND j.changed_at < (SELECT panda_now()) - make_interval(secs => greatest(2 * u.p99_s, %(least_s)s))
ORDER BY j.changed_at LIMIT 50
"""
#: Nobody is stuck before that, and a status is known well enough from so many stays.
LEAST_S, ENOUGH = 120.0, 20
#: The usual times change slowly.
USUAL_FOR_S = 300.0


def usual(connection: Connection) -> dict[str, float]:
    """By status: seconds within which 99 % of the newest jobs left it; statuses that few went through are left out."""
    found = facts(connection, USUAL)
    return {row["status"]: row["p99_s"] for row in found if row["n"] >= ENOUGH}


def longer(connection: Connection, usual_s: dict[str, float]) -> list[Facts]:
    """Jobs that stay longer, the longest first: with `for_s`, and with the `p99_s` that they stand against."""
    if not usual_s:
        return []
    asked = {"statuses": list(usual_s), "p99s": list(usual_s.values()), "least_s": LEAST_S}
    return facts(connection, LONGER, asked)
