"""Which of the transfers that are due may move now: those that most jobs wait for first, as many as their
storages and links allow, and no more than fits.

A look takes a window of the oldest due transfers of each destination, so that a destination that is busy keeps
nobody else waiting, and so that a file that few jobs want is not overtaken for ever: the window fills with such. What
has no room at its destination, or would be kept beyond its owner's quota, comes again later, and so does what only
storages in downtime have, at the latest when the first of them comes back; a storage that is full, or in downtime
itself, is not looked at.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from sqlalchemy.engine import Connection, Row

from panda.dataservice import recalls
from panda.dataservice.recalls import OnTape
from panda.db.session import rows, run
from panda.jobs.downs import DOWN_OF_STORAGE, STORAGES_DOWN

#: Oldest due transfers of one destination that a look weighs, for each that is asked for; and at most.
WINDOW_FACTOR, WINDOW_MOST = 3, 500
#: Waiting jobs beyond this make no difference.
MOST_COUNTED = 1_000
#: What has no room is looked at again after as long as it has waited, within these bounds, in seconds.
FIRST_HOLD_S, LONGEST_HOLD_S = 15.0, 600.0
#: A transfer whose file is being brought online looks by itself again after this, in seconds.
AWAIT_TAPE_S = 600.0
#: Of two relays one looks at a time: together they would let through twice what a limit allows.
LOCK_KEY = 7_000_011

#: Order of the storages `s` (at the sites `ss`) that could give a file to a storage `o` (at `os`): the nearest first,
#: tapes last. `l` is the link from `ss` to `os`, if the installation names it.
NEAREST = """
s.name = o.name DESC, s.stager <> '',
    coalesce(l.distance, CASE WHEN ss.name = os.name THEN 0 WHEN ss.cloud = os.cloud THEN 10 ELSE 20 END), s.name
"""
LOCK = "SELECT pg_advisory_xact_lock(%(key)s)"
CANDIDATES = f"""
SELECT t.transfer_id, t.destination, t.tries, t.due_at, o.site, p.room_bytes,
    (SELECT size_bytes FROM files WHERE file_id = t.file_id OFFSET 0) AS size_bytes,
    t.owner IS NOT NULL AND EXISTS (
        SELECT FROM storage_quotas_reached q WHERE q.storage = o.name AND q.owner = t.owner OFFSET 0) AS is_over_quota,
    (SELECT count(*) FROM (SELECT FROM transfer_waiters
        WHERE (transfer_id, panda_id) > (t.transfer_id, -1) AND transfer_id <= t.transfer_id
        ORDER BY transfer_id, panda_id LIMIT {MOST_COUNTED}) w) AS n_waiting,
    t.file_id, ARRAY(SELECT s.name || '>' || s.site || CASE WHEN s.stager <> '' AND NOT EXISTS (
            SELECT FROM recalls c WHERE c.file_id = t.file_id AND c.storage = s.name
                AND c.status IN ('online', 'failed') OFFSET 0) THEN '>tape' ELSE '' END
            || CASE WHEN s.name = ANY({STORAGES_DOWN}) THEN '>down' ELSE '' END
        FROM (SELECT storage FROM replicas WHERE file_id = t.file_id OFFSET 0) r
        JOIN storages s ON s.name = r.storage AND s.status = 'online' JOIN sites ss ON ss.name = s.site
        LEFT JOIN links l ON l.source = ss.name AND l.destination = os.name
        ORDER BY {NEAREST}) AS sources
FROM storages o JOIN sites os ON os.name = o.site LEFT JOIN storage_space p ON p.storage = o.name,
    LATERAL (SELECT * FROM transfers
        WHERE destination = o.name AND status = 'queued' AND due_at <= (SELECT panda_now())
        ORDER BY destination, due_at LIMIT %(window)s) t
WHERE p.full_because IS NULL AND o.name <> ALL({STORAGES_DOWN})
"""
MOVING = """
SELECT t.destination, t.planned, d.site AS to_site, s.site AS from_site, count(*)::int AS n
FROM transfers t JOIN storages d ON d.name = t.destination LEFT JOIN storages s ON s.name = t.planned
WHERE t.status = 'moving' GROUP BY 1, 2, 3, 4
"""
#: What the room of a storage does not know of yet: bytes on their way there, and those that came since it was reckoned.
ARRIVING = """
SELECT t.destination AS storage, sum(f.size_bytes)::bigint AS n_bytes
FROM transfers t, LATERAL (SELECT size_bytes FROM files WHERE file_id = t.file_id OFFSET 0) f
WHERE t.status = 'moving' GROUP BY 1
UNION ALL SELECT storage, sum(n_bytes)::bigint FROM storage_use_deltas GROUP BY 1
"""
#: Woken when its file is online, or cannot be; the time is for the case that nobody does.
AWAIT_TAPE = """
WITH held AS (
    SELECT transfer_id, status FROM transfers WHERE transfer_id = ANY(%(transfer_ids)s)
    ORDER BY transfer_id FOR UPDATE SKIP LOCKED)
UPDATE transfers SET due_at = panda_now() + make_interval(secs => %(for_s)s)
WHERE transfer_id = ANY(ARRAY(SELECT transfer_id FROM held WHERE status = 'queued'))
"""
HOLD_BACK = """
WITH held AS (
    SELECT transfer_id, status FROM transfers WHERE transfer_id = ANY(%(transfer_ids)s)
    ORDER BY transfer_id FOR UPDATE SKIP LOCKED)
UPDATE transfers SET due_at = panda_now() + least(%(longest_s)s * interval '1 s',
    greatest(%(first_s)s * interval '1 s', panda_now() - created_at))
WHERE transfer_id = ANY(ARRAY(SELECT transfer_id FROM held WHERE status = 'queued'))
"""
#: Until one of its sources is out of its downtime. No longer than others, as a downtime may be cancelled.
AWAIT_SOURCE = f"""
WITH held AS (
    SELECT transfer_id, status FROM transfers WHERE transfer_id = ANY(%(transfer_ids)s)
    ORDER BY transfer_id FOR UPDATE SKIP LOCKED)
UPDATE transfers t SET due_at = least(
    (SELECT min(w.ends_at) FROM (SELECT storage FROM replicas WHERE file_id = t.file_id OFFSET 0) r
        JOIN storages s ON s.name = r.storage AND s.status = 'online', LATERAL {DOWN_OF_STORAGE} w),
    panda_now() + least(%(longest_s)s * interval '1 s',
        greatest(%(first_s)s * interval '1 s', panda_now() - created_at)))
WHERE transfer_id = ANY(ARRAY(SELECT transfer_id FROM held WHERE status = 'queued'))
"""
LIMITS = """
SELECT name AS storage, NULL AS source, NULL AS destination, max_transfers FROM storages WHERE max_transfers > 0
UNION ALL SELECT NULL, source, destination, max_transfers FROM links WHERE max_transfers > 0
"""
ADMIT = """
WITH next AS (
    SELECT transfer_id, status FROM transfers WHERE transfer_id = ANY(%(transfer_ids)s)
    ORDER BY transfer_id FOR UPDATE SKIP LOCKED)
UPDATE transfers SET status = 'moving', source = NULL,
    planned = (%(planned)s::text[])[array_position(%(transfer_ids)s::bigint[], transfer_id)],
    lease_until = panda_now() + make_interval(secs => %(lease_s)s)
WHERE transfer_id = ANY(ARRAY(SELECT transfer_id FROM next WHERE status = 'queued'))
RETURNING transfer_id
"""

#: What has a limit: a storage by its name, a link by its two sites.
Place = str | tuple[str, str]


def due_ids(connection: Connection, n: int, lease_s: float) -> list[int]:
    """The next `n` transfers to carry out, best first; they are moving from now on, for `lease_s` seconds at first."""
    run(connection, LOCK, {"key": LOCK_KEY})
    candidates = rows(connection, CANDIDATES, {"window": min(WINDOW_MOST, WINDOW_FACTOR * n)})
    if not candidates:
        return []
    candidates.sort(key=lambda row: (-row.n_waiting, row.due_at, row.transfer_id))
    limits: dict[Place, int] = {
        row.storage or (row.source, row.destination): row.max_transfers for row in rows(connection, LIMITS)
    }
    busy = _busy(rows(connection, MOVING)) if limits else Counter()
    room = _room(connection, candidates)
    chosen: dict[int, str | None] = {}
    held: list[int] = []
    unreadable: list[int] = []
    on_tape: dict[int, OnTape] = {}
    for row in candidates:
        if len(chosen) == n:
            break
        if not (readable := _readable(row)) and row.sources:
            unreadable.append(row.transfer_id)
            continue
        source, from_site, is_on_tape = _next_source(readable, row.tries)
        places = _places(source, from_site, row.destination, row.site)
        if places and (row.is_over_quota or row.size_bytes > room.get(row.destination, row.size_bytes)):
            held.append(row.transfer_id)
            continue
        if places and is_on_tape:
            on_tape[row.transfer_id] = (row.file_id, source)
            continue
        if all(busy[place] < limits.get(place, busy[place] + 1) for place in places):
            busy.update(places)
            if places and row.destination in room:
                room[row.destination] -= row.size_bytes
            chosen[row.transfer_id] = source or None
    for statement, transfer_ids in ((HOLD_BACK, held), (AWAIT_SOURCE, unreadable)):
        if transfer_ids:
            values = {"transfer_ids": sorted(transfer_ids), "first_s": FIRST_HOLD_S, "longest_s": LONGEST_HOLD_S}
            run(connection, statement, values)
    if on_tape:
        recalls.want(connection, list(on_tape.values()))
        run(connection, AWAIT_TAPE, {"transfer_ids": sorted(on_tape), "for_s": AWAIT_TAPE_S})
    return _admit(connection, chosen, lease_s)


def _room(connection: Connection, candidates: Sequence[Row[Any]]) -> dict[str, int]:
    """Bytes that may still be sent to each destination; one of which nobody knows a limit is left out."""
    room = {row.destination: int(row.room_bytes) for row in candidates if row.room_bytes is not None}
    for row in rows(connection, ARRIVING) if room else ():
        if row.storage in room:
            room[row.storage] -= row.n_bytes
    return room


def _readable(row: Row[Any]) -> list[str]:
    """Its sources without those in downtime."""
    return [source for source in row.sources if not source.endswith(">down")]


def _next_source(sources: Sequence[str], tries: int) -> tuple[str, str, bool]:
    """Where the replica is that the next try takes: storage, site, and whether it is on a tape and not asked for
    yet. Empty: none can be read. See `transfers`."""
    if not sources:
        return "", "", False
    source, site, *tape = sources[tries % len(sources)].split(">")
    return source, site, bool(tape)


def _places(source: str, from_site: str, destination: str, to_site: str) -> Sequence[Place]:
    """What a transfer burdens. One that has nothing to move burdens nobody."""
    return () if source in ("", destination) else (source, destination, (from_site, to_site))


def _busy(moving: Sequence[Row[Any]]) -> Counter[Place]:
    busy: Counter[Place] = Counter()
    for row in moving:
        for place in _places(row.planned or "", row.from_site or "", row.destination, row.to_site):
            busy[place] += row.n
    return busy


def _admit(connection: Connection, chosen: dict[int, str | None], lease_s: float) -> list[int]:
    values = {"transfer_ids": list(chosen), "planned": list(chosen.values()), "lease_s": float(lease_s)}
    admitted = {row.transfer_id for row in rows(connection, ADMIT, values)} if chosen else set()
    return [transfer_id for transfer_id in chosen if transfer_id in admitted]
