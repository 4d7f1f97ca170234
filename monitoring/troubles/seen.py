"""What the look for troubles reads: roll-ups, slim tables, and bounded looks at the newest of the large ones."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from monitoring.celery_side import WorkerSeen
from monitoring.health import Part
from monitoring.reads import error_rates, queries, site_queries
from monitoring.reads.blocks import Reader
from monitoring.reads.queries import Facts, facts
from panda.jobs import switches
from panda.jobs.switches import Pause

#: Failed jobs that rest, the newest of the day, by everything that they may have in common. Jobs that try a queue are
#: nobody's: they fail as long as its trouble lasts.
RESTING = """
SELECT coalesce(f.error_code, 'none') AS code, coalesce(f.failed_stage, '') AS stage,
    coalesce(f.computing_site, '') AS queue, coalesce(f.node, '') AS node, f.owner, count(*) AS n,
    min(f.ended_at) AS first_at, max(f.ended_at) AS last_at, count(DISTINCT f.jobset_id) AS n_jobsets,
    min(f.jobset_id) AS jobset_id, min(f.panda_id) AS panda_id
FROM (SELECT panda_id FROM job_due WHERE waits_for IS NOT NULL AND waits_for = 'operator'
        AND due_at > (SELECT panda_now()) + make_interval(secs => %(window_s)s - 86400)
        ORDER BY due_at DESC LIMIT 5000) AS resting
CROSS JOIN LATERAL (SELECT status, error_code, failed_stage, computing_site, node, owner, ended_at, jobset_id, panda_id
    FROM jobs WHERE panda_id = resting.panda_id OFFSET 0) AS f
WHERE f.status = 'failed' AND NOT EXISTS (SELECT FROM queue_tests WHERE jobset_id = f.jobset_id)
GROUP BY 1, 2, 3, 4, 5 ORDER BY n DESC LIMIT 1000
"""
#: Jobs that came back from a closed queue and found no other, of those that brokerage looks at next.
CALLED_BACK = """
SELECT f.computing_site AS queue, count(*) AS n
FROM (SELECT panda_id FROM job_due WHERE waits_for IS NOT NULL AND waits_for = 'queue'
        ORDER BY due_at LIMIT 5000) AS due
CROSS JOIN LATERAL (SELECT status, computing_site FROM jobs WHERE panda_id = due.panda_id OFFSET 0) AS f
WHERE f.status = 'defined' AND f.computing_site = ANY(%(queues)s) GROUP BY 1
"""
#: Nodes with failures of the last three hours.
NODES = """
SELECT queue, node, sum(n)::bigint AS n, min(hour) AS first_at, max(hour) AS last_at FROM node_failures
WHERE hour > (SELECT panda_now()) - interval '3 hours' GROUP BY queue, node ORDER BY n DESC LIMIT 200
"""
LAST_SEEN = """
SELECT queue, max(last_seen_at) AS last_seen_at FROM pilots WHERE queue = ANY(%(queues)s) GROUP BY queue
"""
#: Tokens of pilots that ended lately or end soon, of the newest.
TOKENS = """
SELECT token_id, owner, label, roles, expires_at, expires_at <= (SELECT panda_now()) AS is_over
FROM (SELECT * FROM tokens ORDER BY token_id DESC LIMIT 5000) AS newest
WHERE revoked_at IS NULL AND expires_at BETWEEN (SELECT panda_now()) - interval '7 days'
    AND (SELECT panda_now()) + interval '2 days'
    AND EXISTS (SELECT FROM unnest(roles) AS role WHERE role LIKE 'pilot%%') ORDER BY expires_at LIMIT 100
"""
#: Who has how many open jobs, in the newest job sets.
OPEN_BY_OWNER = """
SELECT owner, sum(n_open)::bigint AS n_open, min(created_at) AS since, count(*) AS n_jobsets
FROM (SELECT owner, n_open, created_at, jobset_id FROM jobsets ORDER BY jobset_id DESC LIMIT 2000) AS newest
WHERE n_open > 0 GROUP BY owner ORDER BY n_open DESC LIMIT 50
"""
#: A stage ends within its hard limit (30 s); who is still at it then, hangs.
BEGUN = """
SELECT worker, min(at) AS since, sum(cardinality(panda_ids))::bigint AS n_jobs, count(*) AS n FROM stage_starts
WHERE at < (SELECT panda_now()) - interval '20 seconds' GROUP BY worker ORDER BY since LIMIT 50
"""
CANARIES = """
SELECT substr(key, 8) AS lane, value::timestamptz AS at,
    extract(epoch FROM panda_now() - value::timestamptz)::float8 AS age_s
FROM engine_state WHERE key IN ('canary.final', 'canary.stages')
"""


class Seen(NamedTuple):
    """Everything at one moment. A part that could not be read is empty."""

    now: datetime
    parts: Sequence[Part] = ()
    queues: Sequence[Facts] = ()  #: of `overview.queues`
    codes: Sequence[Facts] = ()  #: of `error_rates.listed`, 24 h
    resting: Sequence[Facts] = ()
    called_back: Sequence[Facts] = ()
    nodes: Sequence[Facts] = ()
    ended: Sequence[Facts] = ()  #: of `site_queries.NODES`, of queues with failing nodes
    last_seen: Sequence[Facts] = ()
    tokens: Sequence[Facts] = ()
    owners: Sequence[Facts] = ()
    begun: Sequence[Facts] = ()
    canaries: Sequence[Facts] = ()
    workers: Sequence[WorkerSeen] = ()
    pauses: Sequence[Pause] = ()
    stuck: Sequence[Facts] = ()
    storages: Sequence[Facts] = ()  #: of `queries.STORAGES`, those that take nothing
    n_active: int = 0  #: jobs on their way


#: Queues whose nodes are compared.
MAX_QUEUES = 6


def look(reader: Reader, base: Seen, *, window_s: float, week: dict[tuple[str, str], Facts]) -> Seen:
    """`base` (what the overview knows already) with everything else that a look for troubles needs."""

    def ask(sql: str, **values: object) -> list[Facts]:
        return reader.block(lambda c: facts(c, sql, values)).value or []

    nodes = ask(NODES)
    suspects = list(dict.fromkeys(row["queue"] for row in nodes))[:MAX_QUEUES]
    tokens = ask(TOKENS)
    over = {queue_of(token) for token in tokens if token["is_over"]}
    waiting = [q["name"] for q in base.queues if q["ready"] and (not q["pilots"] or q["name"] in over)]
    closed = [q["name"] for q in base.queues if q["status"] != "online"]
    return base._replace(
        codes=reader.block(lambda c: error_rates.listed(c, 24, week)).value or [],
        resting=ask(RESTING, window_s=window_s),
        called_back=ask(CALLED_BACK, queues=closed) if closed else [],
        nodes=nodes,
        ended=ask(site_queries.NODES, queues=suspects) if suspects else [],
        last_seen=ask(LAST_SEEN, queues=waiting) if waiting else [],
        tokens=tokens,
        owners=ask(OPEN_BY_OWNER),
        begun=ask(BEGUN),
        canaries=ask(CANARIES),
        storages=[row for row in ask(queries.STORAGES) if row["full_because"]],
        pauses=reader.block(switches.current).value or [],
    )


def queue_of(token: Facts) -> str:
    """The queue that a pilot's token is bound to; empty: any."""
    return next((role.partition("@")[2] for role in token["roles"] if "@" in role), "")
