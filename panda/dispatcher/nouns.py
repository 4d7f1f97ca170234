"""Pilots, and the machines that they run on, as they can be listed."""

from panda.db.lists import Noun, Order, Walk
from panda.query import Cost, Field, Fields, Kind

PILOTS_SHOWN = """
SELECT p.pilot_id, p.queue, q.site, p.node, p.version, p.cores, p.memory_mb, p.started_at, p.last_seen_at, p.n_jobs,
    p.last_panda_ids, p.nothing_because
FROM pilots p LEFT JOIN queues q ON q.name = p.queue WHERE p.pilot_id = ANY(%(ids)s)
"""
#: A machine is what pilots say of it.
_NODES = """SELECT p.node, count(*) AS n_pilots, sum(p.n_jobs)::bigint AS n_jobs, max(p.cores) AS cores,
    max(p.memory_mb) AS memory_mb, min(p.started_at) AS first_seen_at, max(p.last_seen_at) AS last_seen_at,
    array_agg(DISTINCT p.queue ORDER BY p.queue) AS queues FROM pilots p"""
NODES_SHOWN = f"""
SELECT n.*, ARRAY(SELECT DISTINCT q.site FROM queues q WHERE q.name = ANY(n.queues) ORDER BY q.site) AS sites
FROM ({_NODES} WHERE p.node = ANY(%(ids)s) GROUP BY p.node) n
"""

PILOTS = Noun(
    name="pilot",
    fields=Fields(
        Field("pilot", Kind.TEXT, "r.pilot_id", cost=Cost.INDEX, aliases=("id", "pilot_id")),
        Field("queue", Kind.TEXT, "r.queue"),
        Field("site", Kind.TEXT, "(SELECT q.site FROM queues q WHERE q.name = r.queue)", "", Cost.PROBE, True),
        Field("node", Kind.TEXT, "r.node"),
        Field("version", Kind.TEXT, "r.version"),
        Field("cores", Kind.WHOLE, "r.cores"),
        Field("memory", Kind.WHOLE, "r.memory_mb", "in MB", aliases=("memory_mb",)),
        Field("n_jobs", Kind.WHOLE, "r.n_jobs", "that it was given", aliases=("jobs",)),
        Field("started", Kind.TIME, "r.started_at", aliases=("started_at",)),
        Field("seen", Kind.TIME, "r.last_seen_at", "when it asked for jobs last", aliases=("last_seen_at",)),
        Field("nothing_because", Kind.TEXT, "r.nothing_because", "why it got no job last", is_nullable=True),
    ),
    columns="pilot_id, queue, node, version, cores, memory_mb, n_jobs, started_at, last_seen_at, nothing_because",
    identity=("pilot_id",),
    orders={"pilot_id": Order(("pilot_id",), ("text",), newest_first=False)},
    walk=lambda _: Walk(("pilots",)),
    show=PILOTS_SHOWN,
)
NODES = Noun(
    name="node",
    fields=Fields(
        Field("node", Kind.TEXT, "r.node", cost=Cost.INDEX, aliases=("name",)),
        Field("queue", Kind.WORDS, "r.queues"),
        Field("n_pilots", Kind.WHOLE, "r.n_pilots", aliases=("pilots",)),
        Field("n_jobs", Kind.WHOLE, "r.n_jobs", aliases=("jobs",)),
        Field("cores", Kind.WHOLE, "r.cores"),
        Field("memory", Kind.WHOLE, "r.memory_mb", "in MB", aliases=("memory_mb",)),
        Field("seen", Kind.TIME, "r.last_seen_at", aliases=("last_seen_at",)),
    ),
    columns="node, n_pilots, n_jobs, cores, memory_mb, last_seen_at, queues",
    identity=("node",),
    orders={"node": Order(("node",), ("text",), newest_first=False)},
    walk=lambda _: Walk((f"({_NODES} GROUP BY p.node) x",)),
    show=NODES_SHOWN,
    window=500,
)
