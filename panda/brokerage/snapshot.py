"""What brokerage sees: the queues with their load, and the jobs to place. One statement each, so that
a pass decides on one consistent picture."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection, Row

from panda.brokerage.subjects import (
    SMALL_MB,
    Away,
    Geography,
    JobGroup,
    Kind,
    Load,
    Locality,
    Planned,
    Queue,
    Wishes,
)
from panda.db.session import rows, run
from panda.jobs.downs import DOWN_OF_STORAGE, STORAGES_DOWN
from panda.jobs.quotas import picture
from panda.jobs.quotas.rules import Rooms
from panda.sites.waking import QUEUES_LOCK

#: A pilot that asked within this time counts as present, in seconds.
PILOT_SEEN_S = 600

HOLD_QUEUES = "SELECT pg_advisory_xact_lock_shared(%(key)s)"
#: Counters and what was not folded into them yet are read in one snapshot: together they are exact.
QUEUES = """
WITH counted AS (
    SELECT queue, status, n FROM job_counts WHERE queue <> ''
    UNION ALL SELECT queue, status, n FROM job_count_deltas WHERE queue <> ''),
loads AS (
    SELECT queue,
        coalesce(sum(n) FILTER (WHERE status = 'assigned'), 0)::int AS assigned,
        coalesce(sum(n) FILTER (WHERE status = 'activated'), 0)::int AS activated,
        coalesce(sum(n) FILTER (WHERE status IN ('sent', 'starting')), 0)::int AS starting,
        coalesce(sum(n) FILTER (WHERE status = 'running'), 0)::int AS running
    FROM counted GROUP BY queue),
seen AS (
    SELECT queue, count(*)::int AS n FROM pilots
    WHERE last_seen_at > (SELECT panda_now()) - make_interval(secs => %(pilot_seen_s)s) GROUP BY queue),
-- Nothing is known of a queue where nothing started for two hours.
paces AS (
    SELECT queue, coalesce(sum(n) FILTER (WHERE bucket > (SELECT panda_now()) - interval '1 hour'), 0)::int AS n,
        max(bucket) + interval '5 minutes' AS last_until
    FROM queue_starts WHERE bucket > (SELECT panda_now()) - interval '2 hours' GROUP BY queue),
-- Whatever is planned for a queue, its site or its storages: the downtime that it is in (the one that ends last), else
-- the next one.
planned AS MATERIALIZED (
    SELECT kind, target, ends_at, reason, extract(epoch FROM starts_at - (SELECT panda_now()))::float8 AS starts_in_s
    FROM downtimes WHERE ends_at > (SELECT panda_now()))
SELECT q.name, q.site, t.cloud, q.status, q.status_reason, q.status_rule, q.storage, d.status AS storage_status,
    p.full_because AS storage_full, o.name AS write_storage, o.status AS write_status, f.full_because AS write_full,
    (SELECT jsonb_object_agg(owner, because) FROM storage_quotas_reached WHERE storage = o.name) AS overdrawn,
    q.cores, q.memory_mb, q.disk_mb, q.walltime_s, q.offers AS tags, q.submitter, q.max_ready, q.requirements,
    q.min_cores, q.min_memory_mb, q.min_walltime_s, q.corepower, q.gpus, q.vos, q.working_groups, q.max_running,
    t.max_running AS site_max_running, q.read_storages,
    greatest(coalesce(l.assigned, 0), 0) AS assigned, greatest(coalesce(l.activated, 0), 0) AS activated,
    greatest(coalesce(l.starting, 0), 0) AS starting, greatest(coalesce(l.running, 0), 0) AS running,
    coalesce(s.n, 0) AS n_pilots, e.n AS starts,
    -- Where no pilot comes: since the first point, after the last start, at which jobs were ready.
    coalesce(CASE WHEN s.n IS NULL THEN (
        SELECT extract(epoch FROM (SELECT panda_now()) - min(at)) FROM queue_history
        WHERE queue = q.name AND (counts->>'activated')::int > 0
            AND at >= greatest(e.last_until, (SELECT panda_now()) - interval '2 hours')) END, 0)::float8 AS stalled_s,
    w.kind || ' ' || w.target AS planned_what,
    w.starts_in_s AS planned_in_s, w.ends_at AS planned_until, w.reason AS planned_reason
FROM queues q JOIN storages d ON d.name = q.storage JOIN sites t ON t.name = q.site
JOIN storages o ON o.name = coalesce(q.write_storage, q.storage)
LEFT JOIN storage_space p ON p.storage = d.name LEFT JOIN storage_space f ON f.storage = o.name
LEFT JOIN loads l ON l.queue = q.name LEFT JOIN seen s ON s.queue = q.name LEFT JOIN paces e ON e.queue = q.name
LEFT JOIN LATERAL (SELECT * FROM planned WHERE (kind = 'queue' AND target = q.name)
        OR (kind = 'site' AND target = q.site) OR (kind = 'storage' AND target IN (q.storage, q.write_storage))
    ORDER BY greatest(starts_in_s, 0), ends_at DESC LIMIT 1) w ON true
ORDER BY q.name
"""
_JOBS = """
SELECT j.panda_id, j.jobset_id, j.share, j.owner, j.shape_id, j.n_inputs, j.n_outputs, b.document_hash,
    s.cores, s.memory_mb, s.disk_mb, s.walltime_s, s.gpus, s.tags,
    coalesce(j.computing_site, '') AS came_from, j.decision_id IS NOT NULL AS was_decided,
    extract(epoch FROM (SELECT panda_now()) - j.changed_at)::float8 AS waited_s
FROM (SELECT * FROM jobs WHERE panda_id = ANY(%(panda_ids)s) {0} OFFSET 0) j
JOIN shapes s ON s.shape_id = j.shape_id,
    LATERAL (SELECT document_hash FROM jobsets WHERE jobset_id = j.jobset_id OFFSET 0) b
ORDER BY j.panda_id
"""
JOBS = _JOBS.format("AND status = 'defined'")
#: The same for those who only look: jobs of any status.
ANY_JOBS = _JOBS.format("")
#: A job set's document can be large: it is opened once per job set and process, not once per job.
WISHES = """
SELECT document_hash, coalesce(document->'brokerage', '{}') AS said, document->>'kind' AS kind,
    document->>'vo' AS vo, document->>'working_group' AS working_group
FROM jobsets WHERE jobset_id = ANY(%(jobset_ids)s)
"""
#: Per job and storage that is online and not in downtime: its input files and bytes there. The row without a storage
#: counts files that are nowhere; the row with an empty one is the job's total.
LOCALITY = f"""
WITH inputs AS (
    SELECT panda_id, file_id, coalesce(size_bytes, 0) AS size_bytes FROM job_files
    WHERE panda_id = ANY(%(panda_ids)s) AND kind = 'input'),
held AS (
    SELECT i.panda_id, i.size_bytes, r.storage
    FROM inputs i LEFT JOIN (LATERAL (SELECT storage FROM replicas WHERE file_id = i.file_id OFFSET 0) r
        JOIN storages s ON s.name = r.storage AND s.status = 'online' AND s.name <> ALL({STORAGES_DOWN})) ON true)
SELECT panda_id, storage, count(*)::int AS n_files, sum(size_bytes)::bigint AS n_bytes
FROM held GROUP BY panda_id, storage
UNION ALL
SELECT panda_id, '', count(*)::int, sum(size_bytes)::bigint FROM inputs GROUP BY panda_id
"""

#: Where storages are, and how far sites are from each other; asked where jobs have inputs.
PLACES = """
SELECT s.name AS storage, s.site, t.cloud, s.stager <> '' AS is_tape, NULL AS source, NULL AS destination,
    NULL::int AS distance
FROM storages s JOIN sites t ON t.name = s.site
UNION ALL SELECT NULL, NULL, NULL, NULL, source, destination, distance FROM links
"""
AWAY = f"""
SELECT a.storage, a.n, s.status = 'online' AS is_online, w.what, w.ends_at, w.reason
FROM (SELECT r.storage, count(*)::int AS n
FROM (SELECT file_id FROM job_files
        WHERE panda_id = %(panda_id)s AND kind = 'input' AND file_id IS NOT NULL OFFSET 0) i,
    LATERAL (SELECT storage FROM replicas WHERE file_id = i.file_id OFFSET 0) r
WHERE NOT EXISTS (SELECT FROM replicas o JOIN storages s ON s.name = o.storage
    WHERE o.file_id = i.file_id AND s.status = 'online' AND s.name <> ALL({STORAGES_DOWN}) OFFSET 0)
GROUP BY r.storage) a JOIN storages s ON s.name = a.storage LEFT JOIN LATERAL {DOWN_OF_STORAGE} w ON true
ORDER BY a.n DESC, a.storage
"""
#: Asked only for jobs that brokerage has seen before: it is with somebody's second wish that these come.
AVOIDS = """
SELECT panda_id, array_agg(place ORDER BY place) AS places FROM job_avoids
WHERE panda_id = ANY(%(panda_ids)s) GROUP BY panda_id
"""

#: Wishes of job sets by the hash of their document, which never changes.
_WISHES: dict[bytes, Wishes] = {}
_WISHES_KEPT = 10_000


def queues_now(connection: Connection) -> list[Queue]:
    """Every queue with its load, by name. Until this transaction ends, no queue opens or closes."""
    run(connection, HOLD_QUEUES, {"key": QUEUES_LOCK})
    return queues_seen(connection)


def queues_seen(connection: Connection) -> list[Queue]:
    """The same for those who only look: a queue may change in the next moment."""
    found = rows(connection, QUEUES, {"pilot_seen_s": PILOT_SEEN_S})
    return with_site_loads([_queue(**row._asdict()) for row in found])


def with_site_loads(queues: Sequence[Queue]) -> list[Queue]:
    """The queues; those of a site with a limit know the load of each other, also as it grows."""
    loads: dict[str, list[Load]] = {}
    for queue in queues:
        loads.setdefault(queue.site, []).append(queue.load)
    return [replace(q, site_loads=tuple(loads[q.site])) if q.site_max_running else q for q in queues]


def _queue(
    *,
    tags: Sequence[str],
    overdrawn: Mapping[str, str] | None,
    vos: Sequence[str],
    working_groups: Sequence[str],
    assigned: int,
    activated: int,
    starting: int,
    running: int,
    n_pilots: int,
    starts: int | None,
    stalled_s: float,
    read_storages: Sequence[str],
    planned_what: str | None,
    planned_in_s: float,
    planned_until: datetime,
    planned_reason: str,
    **facts: Any,
) -> Queue:
    planned = Planned(planned_what, planned_in_s, planned_until, planned_reason) if planned_what else None
    return Queue(
        **facts,
        tags=frozenset(tags),
        vos=frozenset(vos),
        working_groups=tuple(working_groups),
        overdrawn=overdrawn or {},
        downtime=planned,
        read_storages=tuple(read_storages),
        load=Load(assigned, activated, starting, running, n_pilots, starts, stalled_s),
    )


def placed_on_the_map(connection: Connection, queues: Sequence[Queue], kinds: Iterable[Kind]) -> list[Queue]:
    """The queues, with the distances that brokerage needs if one of the kinds has inputs."""
    if all(kind.locality is None for kind in kinds):
        return list(queues)
    found = rows(connection, PLACES)
    geography = Geography(
        {row.storage: (row.site, row.cloud) for row in found if row.storage is not None},
        {(row.source, row.destination): row.distance for row in found if row.storage is None},
        frozenset(row.storage for row in found if row.is_tape),
    )
    return [replace(queue, geography=geography) for queue in queues]


def groups_of(connection: Connection, panda_ids: Sequence[int]) -> list[JobGroup]:
    """Those of `panda_ids` that are `defined`, in groups of equal ones; the group of the smallest PandaID first."""
    return _grouped(connection, rows(connection, JOBS, {"panda_ids": list(panda_ids)}))


def kind_of(connection: Connection, panda_id: int) -> Kind | None:
    """What brokerage makes of a live job, whatever it does now; None: there is none."""
    groups = groups_whatever(connection, [panda_id])
    return groups[0].kind if groups else None


def groups_whatever(connection: Connection, panda_ids: Sequence[int]) -> list[JobGroup]:
    """The same for live jobs of any status: for those who only look."""
    return _grouped(connection, rows(connection, ANY_JOBS, {"panda_ids": list(panda_ids)}))


def storages_away(connection: Connection, panda_id: int) -> Away:
    """Storages that have inputs of a job, and cannot be read now, nor can any other that has them."""
    found = rows(connection, AWAY, {"panda_id": panda_id})
    return Away(
        {row.storage: row.n for row in found if not row.is_online},
        {row.storage: (row.n, Planned(row.what, 0.0, row.ends_at, row.reason)) for row in found if row.is_online},
    )


def _grouped(connection: Connection, jobs: Sequence[Row[Any]]) -> list[JobGroup]:
    wishes = _wishes_of(connection, jobs)
    localities = _localities_of(connection, [job.panda_id for job in jobs if job.n_inputs])
    avoids = _avoids_of(connection, [job.panda_id for job in jobs if job.was_decided])
    barred = _barred(connection, {job.owner for job in jobs})
    groups: dict[tuple[Any, ...], JobGroup] = {}
    for job in jobs:
        wish, locality = wishes[bytes(job.document_hash)], localities.get(job.panda_id)
        avoid = avoids.get(job.panda_id, ())
        key = (job.shape_id, job.share, job.owner, job.n_outputs > 0, wish, locality, avoid, job.came_from)
        group = groups.get(key)
        if group is None:
            group = groups[key] = JobGroup(_kind(job, wish, locality, avoid, barred.get(job.owner, "")))
        group.panda_ids.append(job.panda_id)
        group.waited_s.append(job.waited_s)
        group.jobset_ids.add(job.jobset_id)
    return list(groups.values())


def _barred(connection: Connection, owners: Iterable[str]) -> dict[str, str]:
    """Why nothing of these owners is started, even if none of their jobs runs: those of whom that is so."""
    known = picture.current(connection)
    idle = Rooms(known, {})
    reasons = {owner: idle.left(owner).because for owner in owners if known.is_watched(owner)}
    return {owner: reason for owner, reason in reasons.items() if reason}


def _kind(job: Row[Any], wishes: Wishes, locality: Locality | None, avoid: tuple[str, ...], barred: str) -> Kind:
    return Kind(
        shape_id=job.shape_id, share=job.share, owner=job.owner, cores=job.cores, memory_mb=job.memory_mb,
        disk_mb=job.disk_mb, walltime_s=job.walltime_s, gpus=job.gpus, tags=frozenset(job.tags), wishes=wishes,
        locality=locality, writes=job.n_outputs > 0, avoid=avoid, barred=barred, came_from=job.came_from,
    )  # fmt: skip


def _wishes_of(connection: Connection, jobs: Sequence[Row[Any]]) -> dict[bytes, Wishes]:
    hash_of = {job.jobset_id: bytes(job.document_hash) for job in jobs}
    if len(_WISHES) > _WISHES_KEPT:
        _WISHES.clear()
    unknown = [jobset_id for jobset_id, document_hash in hash_of.items() if document_hash not in _WISHES]
    if unknown:
        for row in rows(connection, WISHES, {"jobset_ids": unknown}):
            _WISHES[bytes(row.document_hash)] = _wishes(row)
    return {document_hash: _WISHES[document_hash] for document_hash in hash_of.values()}


def _wishes(row: Row[Any]) -> Wishes:
    said = row.said
    return Wishes(
        sites=tuple(said.get("sites", ())),
        exclude=tuple(said.get("exclude", ())),
        prefer=tuple(said.get("prefer", ())),
        requirements=said.get("requirements", ""),
        is_test=said.get("test", False),
        kind=row.kind or Wishes.kind,
        vo=row.vo or "",
        working_group=row.working_group or "",
    )


def _avoids_of(connection: Connection, panda_ids: list[int]) -> dict[int, tuple[str, ...]]:
    found = rows(connection, AVOIDS, {"panda_ids": panda_ids}) if panda_ids else []
    return {row.panda_id: tuple(row.places) for row in found}


def _localities_of(connection: Connection, panda_ids: list[int]) -> dict[int, Locality]:
    if not panda_ids:
        return {}
    found = rows(connection, LOCALITY, {"panda_ids": panda_ids})
    totals = {row.panda_id: row for row in found if row.storage == ""}
    nowhere = {row.panda_id: row.n_files for row in found if row.storage is None}
    tenths: dict[int, list[tuple[str, int]]] = {}
    for row in found:
        if row.storage:
            total = totals[row.panda_id]
            there, whole = (row.n_bytes, total.n_bytes) if total.n_bytes else (row.n_files, total.n_files)
            if 10 * there >= whole:
                tenths.setdefault(row.panda_id, []).append((row.storage, int(10 * there // whole)))
    return {
        i: Locality(nowhere.get(i, 0), tuple(sorted(tenths.get(i, []))), _coarse_mb(total.n_bytes or 0))
        for i, total in totals.items()
    }


def _coarse_mb(n_bytes: int) -> int:
    """Bytes in MB, rounded up to a power of two, so that jobs of one dataset look alike."""
    n_mb = -(-n_bytes // 1_000_000)
    return 0 if n_mb < SMALL_MB else 1 << (int(n_mb) - 1).bit_length()
