"""How much room the storages have, and who has used up what they may keep there.

What lies on a storage is counted by deltas, in the transaction that places or forgets a replica. A tick folds
them, and writes down for everybody else whether a storage takes more (`storage_space`) and
whose quota is reached where (`storage_quotas_reached`): brokerage, the transfer engine and the pages read these
rows and reckon nothing themselves. What a storage says of its own free space is asked for by another tick.
"""

import threading
from collections.abc import Mapping
from queue import SimpleQueue
from typing import Any

from sqlalchemy.engine import Connection, Row

from panda.dataservice.movers.base import Space
from panda.dataservice.storage import mover_of
from panda.db.session import Begin, rows, run
from panda.errors import Conflict, NotFound, Unavailable
from panda.jobs import incidents
from panda.logs import Log

log = Log("panda.space")

#: Storages that one tick asks, and how long it waits for their answers, in seconds.
ASKED_AT_ONCE, ANSWER_WITHIN_S = 8, 8.0
#: Between two questions to one storage, in seconds.
ASK_EVERY_S = 60.0

FOLD = """
WITH gone AS (DELETE FROM storage_use_deltas RETURNING storage, owner, n_files, n_bytes)
INSERT INTO storage_use AS u (storage, owner, n_files, n_bytes)
SELECT storage, owner, sum(n_files), sum(n_bytes) FROM gone GROUP BY storage, owner
ON CONFLICT (storage, owner) DO UPDATE SET n_files = u.n_files + excluded.n_files,
    n_bytes = u.n_bytes + excluded.n_bytes
"""
USED = """
SELECT s.name, s.limit_mb * 1000000::bigint AS limit_bytes, s.keep_free_mb * 1000000::bigint AS keep_free_bytes,
    p.free_bytes, coalesce(p.used_when_asked, 0) AS used_when_asked, p.room_bytes, p.full_because,
    coalesce((SELECT sum(u.n_bytes) FROM storage_use u WHERE u.storage = s.name), 0)::bigint AS used_bytes
FROM storages s LEFT JOIN storage_space p ON p.storage = s.name ORDER BY s.name
"""
SET_ROOM = """
INSERT INTO storage_space (storage, room_bytes, full_because)
SELECT * FROM unnest(%(names)s::text[], %(rooms)s::bigint[], %(becauses)s::text[])
ON CONFLICT (storage) DO UPDATE SET room_bytes = excluded.room_bytes, full_because = excluded.full_because
"""
_USE = (
    "(SELECT storage, owner, n_bytes FROM storage_use UNION ALL SELECT storage, owner, n_bytes FROM storage_use_deltas)"
)
#: What is kept under each quota, by owner where each has its own; `owner` null: all together. The owner '' is nobody.
USED_QUOTAS = f"""
SELECT q.name AS quota, q.owners, q.storages, q.each, q.limit_bytes, CASE WHEN q.each THEN u.owner END AS owner,
    coalesce(sum(u.n_bytes), 0)::bigint AS used_bytes
FROM storage_quotas q LEFT JOIN {_USE} u
    ON u.owner <> '' AND u.owner LIKE ANY (q.owners_like) AND u.storage LIKE ANY (q.storages_like)
        AND (NOT q.each OR %(owner)s::text IS NULL OR u.owner = %(owner)s::text)
WHERE %(owner)s::text IS NULL OR %(owner)s::text LIKE ANY (q.owners_like)
GROUP BY q.name, q.owners, q.storages, q.each, q.limit_bytes, 6 ORDER BY q.name, 6
"""
#: Everybody whom a quota that is used up concerns, and the storages that it is about.
CONCERNED = """
SELECT s.name AS storage, o.owner
FROM storage_quotas q JOIN storages s ON s.name LIKE ANY (q.storages_like)
JOIN (SELECT name AS owner FROM users UNION SELECT owner FROM storage_use WHERE owner <> '') o
    ON o.owner LIKE ANY (q.owners_like)
WHERE q.name = %(quota)s AND (%(owner)s::text IS NULL OR o.owner = %(owner)s::text)
"""
REACHED = "SELECT storage, owner, because FROM storage_quotas_reached"
DROP_REACHED = "DELETE FROM storage_quotas_reached"
SET_REACHED = """
INSERT INTO storage_quotas_reached (storage, owner, because)
SELECT * FROM unnest(%(storages)s::text[], %(owners)s::text[], %(becauses)s::text[])
"""
ROOM = """
SELECT p.room_bytes, p.full_because,
    coalesce((SELECT sum(n_bytes) FROM storage_use_deltas WHERE storage = s.name), 0)::bigint AS came_since
FROM storages s LEFT JOIN storage_space p ON p.storage = s.name WHERE s.name = %(storage)s
"""
#: Of two that register for one owner the second counts what the first one did.
OWNER_LOCK = "SELECT pg_advisory_xact_lock(7000012, hashtext(%(owner)s))"
#: Quotas that a file of this owner on this storage counts for, and what is used of each.
QUOTAS_FOR = f"""
SELECT q.name AS quota, q.each, q.limit_bytes, (
    SELECT coalesce(sum(u.n_bytes), 0) FROM {_USE} u WHERE u.storage LIKE ANY (q.storages_like)
        AND CASE WHEN q.each THEN u.owner = %(owner)s ELSE u.owner <> '' AND u.owner LIKE ANY (q.owners_like) END
    )::bigint AS used_bytes
FROM storage_quotas q WHERE %(owner)s LIKE ANY (q.owners_like) AND %(storage)s LIKE ANY (q.storages_like)
ORDER BY q.name
"""
TO_ASK = """
WITH next AS (
    SELECT s.name, s.kind, s.root FROM storages s LEFT JOIN storage_space p ON p.storage = s.name
    WHERE s.status = 'online'
        AND (p.asked_at IS NULL OR p.asked_at < (SELECT panda_now()) - make_interval(secs => %(every_s)s))
    ORDER BY p.asked_at NULLS FIRST LIMIT %(n)s),
asked AS (
    INSERT INTO storage_space (storage, asked_at) SELECT name, panda_now() FROM next
    ON CONFLICT (storage) DO UPDATE SET asked_at = excluded.asked_at)
SELECT n.*, coalesce((SELECT sum(u.n_bytes) FROM storage_use u WHERE u.storage = n.name), 0)::bigint AS used_bytes
FROM next n
"""
ANSWERED = """
UPDATE storage_space SET free_bytes = %(free)s, total_bytes = %(total)s, used_when_asked = %(used)s,
    ask_error = %(error)s
WHERE storage = %(name)s
"""


class NoRoom(Unavailable):
    """The storage is full, or has less room than the file needs."""

    code = "no_room"
    retry_after_s = 300


def settle(connection: Connection) -> bool:
    """Fold what was counted, then write down how much room there is and whose quota is reached.

    Returns: whether a storage or a quota takes something again that took nothing before."""
    run(connection, FOLD)
    filled, is_freed = _settle_storages(connection)
    is_freed |= _settle_quotas(connection)
    for name, because in filled.items():
        incidents.tell(
            connection,
            "storage",
            f"full:{name}",
            f"storage {name} is full: {because}",
            {"storage": name},
            level="warning",
        )
    return is_freed


def quotas(connection: Connection, owner: str | None = None) -> list[Row[Any]]:
    """Every quota (that concerns `owner`) with what is used of it, by name: quota, owners, storages, each, limit_bytes,
    owner (whose use it is; None: that of all together, or nobody's yet), used_bytes."""
    return rows(connection, USED_QUOTAS, {"owner": owner})


def require_room(connection: Connection, storage: str, owner: str, n_bytes: int) -> None:
    """Whether `n_bytes` more of `owner` may come to `storage`; exact until this transaction ends.

    Raises:
        NotFound: no such storage. NoRoom: the storage is full.
        Conflict: a quota would be exceeded (`storage_quota_reached`).
    """
    found = rows(connection, ROOM, {"storage": storage})
    if not found:
        raise NotFound("storage", storage)
    room = found[0]
    if room.full_because is not None:
        raise NoRoom(f"storage {storage} is full: {room.full_because}")
    if room.room_bytes is not None and room.room_bytes - room.came_since < n_bytes:
        left = bytes_told(max(0, room.room_bytes - room.came_since))
        raise NoRoom(f"storage {storage} has room for {left}, this needs {bytes_told(n_bytes)}")
    whose = {"owner": owner, "storage": storage}
    if not rows(connection, QUOTAS_FOR, whose):
        return
    run(connection, OWNER_LOCK, whose)
    for quota in rows(connection, QUOTAS_FOR, whose):
        if quota.used_bytes + n_bytes > quota.limit_bytes:
            told = _quota_told(quota.quota, quota.used_bytes, quota.limit_bytes)
            raise Conflict(f"{told}; {bytes_told(n_bytes)} more of {owner} do not fit", code="storage_quota_reached")


def ask(begin: Begin, *, within_s: float = ANSWER_WITHIN_S) -> int:
    """Ask the storages that were not asked for longest how much is free there. One that hangs costs the others
    nothing. Returns how many answered."""
    with begin() as connection:
        asked = {row.name: row for row in rows(connection, TO_ASK, {"every_s": ASK_EVERY_S, "n": ASKED_AT_ONCE})}
    answers = _answers(asked, within_s)
    with begin() as connection:
        for name, row in sorted(asked.items()):
            space, error = answers.get(name, (None, f"it did not say how much is free within {within_s:g} s"))
            values = {"name": name, "used": row.used_bytes, "error": error}
            values |= {"free": space and space.free_bytes, "total": space and space.total_bytes}
            run(connection, ANSWERED, values)
    return len(answers)


Answer = tuple[Space | None, str | None]


def _answers(asked: Mapping[str, Row[Any]], within_s: float) -> dict[str, Answer]:
    """What the storages said, or why they did not, by name. A thread that nobody waits for any more ends by itself."""
    said: SimpleQueue[tuple[str, Answer]] = SimpleQueue()

    def one(row: Row[Any]) -> None:
        try:
            said.put((row.name, (mover_of(row.kind).space(row.root), None)))
        except Exception as problem:  # the edge of a thread; whatever it is, the storage did not answer
            said.put((row.name, (None, str(getattr(problem, "strerror", None) or problem)[:500])))

    threads = [threading.Thread(target=one, args=(row,), daemon=True) for row in asked.values()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(within_s)
        within_s = within_s if not thread.is_alive() else 0.05
    answers: dict[str, Answer] = {}
    while not said.empty():
        name, answer = said.get()
        answers[name] = answer
    return answers


def _settle_storages(connection: Connection) -> tuple[dict[str, str], bool]:
    """Storages that filled up, and why; and whether one has room again."""
    filled: dict[str, str] = {}
    is_freed = False
    changed: list[tuple[str, int | None, str | None]] = []
    for row in rows(connection, USED):
        room, because = room_of(row)
        if (room, because) != (row.room_bytes, row.full_because):
            changed.append((row.name, room, because))
            is_freed |= because is None and row.full_because is not None
            if because is not None and row.full_because is None:
                filled[row.name] = because
    if changed:
        names, rooms, becauses = (list(column) for column in zip(*changed, strict=True))
        run(connection, SET_ROOM, {"names": names, "rooms": rooms, "becauses": becauses})
    return filled, is_freed


def room_of(storage: Row[Any]) -> tuple[int | None, str | None]:
    """Bytes that may still come to a storage (None: nobody knows of a limit), and why it is full, if it is."""
    rooms: list[tuple[int, str]] = []
    if storage.limit_bytes:
        used, limit = bytes_told(storage.used_bytes), bytes_told(storage.limit_bytes)
        rooms.append((storage.limit_bytes - storage.used_bytes, f"{used} of the {limit} that it may hold are used"))
    if storage.free_bytes is not None:
        free = storage.free_bytes - (storage.used_bytes - storage.used_when_asked)
        told = f"{bytes_told(max(0, free))} are free"
        told += f", {bytes_told(storage.keep_free_bytes)} are to stay free" if storage.keep_free_bytes else ""
        rooms.append((free - storage.keep_free_bytes, told))
    if not rooms:
        return None, None
    room, told = min(rooms)
    return max(0, room), told if room <= 0 else None


def _settle_quotas(connection: Connection) -> bool:
    """Returns whether somebody may keep more again."""
    reached: dict[tuple[str, str], str] = {}
    for quota in quotas(connection):
        if quota.used_bytes < quota.limit_bytes:
            continue
        told = _quota_told(quota.quota, quota.used_bytes, quota.limit_bytes)
        for row in rows(connection, CONCERNED, {"quota": quota.quota, "owner": quota.owner}):
            reached.setdefault((row.storage, row.owner), told)
    known = {(row.storage, row.owner): row.because for row in rows(connection, REACHED)}
    if reached != known:
        run(connection, DROP_REACHED)
        pairs = sorted(reached)
        values = {"storages": [s for s, _ in pairs], "owners": [o for _, o in pairs]}
        run(connection, SET_REACHED, values | {"becauses": [reached[pair] for pair in pairs]})
    return bool(known.keys() - reached.keys())


def _quota_told(quota: str, used_bytes: int, limit_bytes: int) -> str:
    return f"of quota {quota}, {bytes_told(used_bytes)} of {bytes_told(limit_bytes)} are used"


def bytes_told(n_bytes: int) -> str:
    """`2.04 GB`: decimal units, three digits."""
    value = float(n_bytes)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 999.5 or unit == "TB":
            break
        value /= 1000
    return f"{value:.3g} {unit}" if value < 1000 else f"{value:,.0f} {unit}"
