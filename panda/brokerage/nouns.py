"""Sites, queues and storages as they can be listed. There are few of them."""

from panda.db.lists import Noun, Order, Walk
from panda.query import Cost, Field, Fields, Kind
from panda.states import QueueStatus

SITES_SHOWN = "SELECT name, cloud, description FROM sites WHERE name = ANY(%(ids)s)"
QUEUES_SHOWN = """
SELECT q.name, q.site, s.cloud, q.storage, q.status, q.status_reason, q.cores, q.memory_mb, q.disk_mb, q.walltime_s,
    q.tags, q.submitter, q.max_pilots, q.pilot_cores, q.pilot_options, q.max_ready
FROM queues q JOIN sites s ON s.name = q.site WHERE q.name = ANY(%(ids)s)
"""
STORAGES_SHOWN = "SELECT name, site, kind, root, status, max_transfers FROM storages WHERE name = ANY(%(ids)s)"
_BY_NAME = {"name": Order(("name",), ("text",), newest_first=False)}
_NAME = Field("name", Kind.TEXT, "r.name", cost=Cost.INDEX)

SITES = Noun(
    name="site",
    fields=Fields(_NAME, Field("cloud", Kind.TEXT, "r.cloud"), Field("description", Kind.TEXT, "r.description")),
    columns="name, cloud, description",
    identity=("name",),
    orders=_BY_NAME,
    walk=lambda _: Walk(("sites",)),
    show=SITES_SHOWN,
)
QUEUES = Noun(
    name="queue",
    fields=Fields(
        _NAME,
        Field("site", Kind.TEXT, "r.site"),
        Field("cloud", Kind.TEXT, "(SELECT s.cloud FROM sites s WHERE s.name = r.site)", cost=Cost.PROBE),
        Field("storage", Kind.TEXT, "r.storage"),
        Field("status", Kind.WORD, "r.status", words=tuple(map(str, QueueStatus)), aliases=("state",)),
        Field("submitter", Kind.TEXT, "r.submitter"),
        Field("tag", Kind.WORDS, "r.tags", aliases=("tags",)),
        Field("cores", Kind.WHOLE, "r.cores"),
        Field("memory", Kind.WHOLE, "r.memory_mb", "in MB", aliases=("memory_mb",)),
        Field("disk", Kind.WHOLE, "r.disk_mb", "in MB", aliases=("disk_mb",)),
        Field("walltime", Kind.WHOLE, "r.walltime_s", "in seconds", aliases=("walltime_s",)),
        Field("max_pilots", Kind.WHOLE, "r.max_pilots"),
    ),
    columns="name, site, storage, status, submitter, tags, cores, memory_mb, disk_mb, walltime_s, max_pilots",
    identity=("name",),
    orders=_BY_NAME,
    walk=lambda _: Walk(("queues",)),
    show=QUEUES_SHOWN,
)
STORAGES = Noun(
    name="storage",
    fields=Fields(
        _NAME,
        Field("site", Kind.TEXT, "r.site"),
        Field("kind", Kind.TEXT, "r.kind"),
        Field("status", Kind.WORD, "r.status", words=("online", "offline"), aliases=("state",)),
    ),
    columns="name, site, kind, status",
    identity=("name",),
    orders=_BY_NAME,
    walk=lambda _: Walk(("storages",)),
    show=STORAGES_SHOWN,
)
