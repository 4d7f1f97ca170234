"""Sites, queues, storages, downtimes, and the versions of what is known of them, as they can be listed."""

from panda.db.lists import Noun, Order, Walk
from panda.query import Cost, Field, Fields, Kind
from panda.sites.siteinfo import PLACES
from panda.states import QueueStatus

SITES_SHOWN = "SELECT name, cloud, description, max_running FROM sites WHERE name = ANY(%(ids)s)"
QUEUES_SHOWN = """
SELECT q.name, q.site, s.cloud, q.status, q.status_reason, q.status_by, q.status_rule, q.status_at, q.status_until,
    q.status_then, q.removed_at, q.storage, q.read_storages, coalesce(q.write_storage, q.storage) AS write_storage,
    coalesce(q.second_storage, '') AS second_storage, q.direct_read,
    q.cores, q.memory_mb, q.disk_mb, q.walltime_s, q.min_cores, q.min_memory_mb, q.min_walltime_s, q.corepower,
    q.architecture, q.gpus, q.gpu_model, q.software, q.containers, q.tags, q.offers, q.vos, q.working_groups,
    q.requirements, q.submitter, q.max_pilots, q.pilot_cores, q.pilot_options, q.parameters, q.max_ready, q.max_running
FROM queues q JOIN sites s ON s.name = q.site WHERE q.name = ANY(%(ids)s)
"""
STORAGES_SHOWN = """
SELECT s.name, s.site, s.kind, s.stager, s.root, s.status, s.max_transfers, s.limit_mb, s.keep_free_mb, p.free_bytes,
    p.total_bytes, p.room_bytes, p.full_because, p.ask_error, coalesce((SELECT sum(u.n_bytes) FROM (
        SELECT n_bytes FROM storage_use WHERE storage = s.name
        UNION ALL SELECT n_bytes FROM storage_use_deltas WHERE storage = s.name) u), 0)::bigint AS used_bytes
FROM storages s LEFT JOIN storage_space p ON p.storage = s.name WHERE s.name = ANY(%(ids)s)
"""
_SPACE = "(SELECT {} FROM storage_space p WHERE p.storage = r.name)"
VERSIONS_SHOWN = """
SELECT v.version_id, v.at, v.who, v.source, v.why, v.n_changed, v.request_id, ARRAY(
    SELECT name FROM site_revisions r WHERE r.version_id = v.version_id ORDER BY name LIMIT 20) AS names
FROM site_versions v WHERE v.version_id = ANY(%(ids)s)
"""
_DOWNTIME_STATUS = """CASE WHEN {0}.ends_at <= (SELECT panda_now()) THEN 'over'
    WHEN {0}.starts_at > (SELECT panda_now()) THEN 'planned' ELSE 'now' END"""
DOWNTIMES_SHOWN = f"""
SELECT name, kind, target, starts_at, ends_at, reason, made_by, made_at, {_DOWNTIME_STATUS.format("d")} AS status
FROM downtimes d WHERE name = ANY(%(ids)s)
"""
ACTS_SHOWN = """
SELECT act_id, at, rule, queue, node, did, is_passive, because FROM site_rule_acts WHERE act_id = ANY(%(ids)s)
"""
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
        Field("status_by", Kind.TEXT, "r.status_by", "who set the status"),
        Field("status_rule", Kind.TEXT, "r.status_rule", "the rule that set it, if one did"),
        Field("since", Kind.TIME, "r.status_at", "when the status was set", aliases=("status_at",)),
        Field("until", Kind.TIME, "r.status_until", "when it ends", aliases=("status_until",), is_nullable=True),
        Field("submitter", Kind.TEXT, "r.submitter"),
        Field("tag", Kind.WORDS, "r.offers", "tags, and what it is as tags", aliases=("tags", "offers")),
        Field("architecture", Kind.TEXT, "r.architecture", aliases=("arch",)),
        Field("gpus", Kind.WHOLE, "r.gpus"),
        Field("software", Kind.WORDS, "r.software"),
        Field("container", Kind.WORDS, "r.containers", aliases=("containers",)),
        Field("vo", Kind.WORDS, "r.vos", aliases=("vos",)),
        Field("group", Kind.WORDS, "r.working_groups", aliases=("working_groups",)),
        Field("cores", Kind.WHOLE, "r.cores"),
        Field("memory", Kind.WHOLE, "r.memory_mb", "in MB", aliases=("memory_mb",)),
        Field("disk", Kind.WHOLE, "r.disk_mb", "in MB", aliases=("disk_mb",)),
        Field("walltime", Kind.WHOLE, "r.walltime_s", "in seconds", aliases=("walltime_s",)),
        Field("max_pilots", Kind.WHOLE, "r.max_pilots"),
    ),
    columns="name, site, storage, status, status_by, status_rule, status_at, status_until, submitter, offers,"
    " architecture, gpus, software, containers, vos, working_groups, cores, memory_mb, disk_mb, walltime_s, max_pilots",
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
        Field("stager", Kind.TEXT, "r.stager", "of a tape"),
        Field(
            "room",
            Kind.WHOLE,
            _SPACE.format("p.room_bytes"),
            "in bytes, that may still come",
            Cost.PROBE,
            is_nullable=True,
        ),
        Field(
            "full",
            Kind.FLAG,
            f"coalesce({_SPACE.format('p.full_because IS NOT NULL')}, false)",
            "nothing more may come",
            Cost.PROBE,
        ),
    ),
    columns="name, site, kind, status, stager",
    identity=("name",),
    orders=_BY_NAME,
    walk=lambda _: Walk(("storages",)),
    show=STORAGES_SHOWN,
)
VERSIONS = Noun(
    name="version",
    fields=Fields(
        Field("version", Kind.WHOLE, "r.version_id", "its number", aliases=("id", "version_id")),
        Field("at", Kind.TIME, "r.at"),
        Field("who", Kind.TEXT, "r.who"),
        Field("source", Kind.TEXT, "r.source", "file, http, import, collector, clock, rule, rollback or found"),
        Field("why", Kind.TEXT, "r.why"),
        Field(
            "name", Kind.WORDS, "ARRAY(SELECT s.name FROM site_revisions s WHERE s.version_id = r.version_id)",
            "of what it changed", Cost.PROBE, aliases=("names", "queue", "site", "storage"),
        ),
    ),
    columns="version_id, at, who, source, why",
    identity=("version_id",),
    orders={"version_id": Order(("version_id",))},
    walk=lambda _: Walk(("site_versions",)),
    show=VERSIONS_SHOWN,
)  # fmt: skip
DOWNTIMES = Noun(
    name="downtime",
    fields=Fields(
        _NAME,
        Field("status", Kind.WORD, f"({_DOWNTIME_STATUS.format('r')})", words=("planned", "now", "over")),
        Field("kind", Kind.WORD, "r.kind", words=PLACES),
        Field("target", Kind.TEXT, "r.target", aliases=("site", "queue", "storage")),
        Field("starts", Kind.TIME, "r.starts_at", aliases=("starts_at",)),
        Field("ends", Kind.TIME, "r.ends_at", aliases=("ends_at",)),
        Field("made_by", Kind.TEXT, "r.made_by", aliases=("by",)),
        Field("reason", Kind.TEXT, "r.reason"),
    ),
    columns="name, kind, target, starts_at, ends_at, made_by, reason",
    identity=("name",),
    orders=_BY_NAME,
    walk=lambda _: Walk(("downtimes",)),
    show=DOWNTIMES_SHOWN,
)
ACTS = Noun(
    name="act",
    fields=Fields(
        Field("act", Kind.WHOLE, "r.act_id", "its number", aliases=("id", "act_id")),
        Field("at", Kind.TIME, "r.at"),
        Field("rule", Kind.TEXT, "r.rule"),
        Field("queue", Kind.TEXT, "r.queue"),
        Field("node", Kind.TEXT, "r.node"),
        Field("did", Kind.TEXT, "r.did", "a status, or `taken out`"),
        Field("passive", Kind.FLAG, "r.is_passive", "it only told", aliases=("is_passive",)),
    ),
    columns="act_id, at, rule, queue, node, did, is_passive",
    identity=("act_id",),
    orders={"act_id": Order(("act_id",))},
    walk=lambda _: Walk(("site_rule_acts",)),
    show=ACTS_SHOWN,
)
