"""Jobs that wait for files on their way, and how the last file wakes them.

A job attaches to transfers while it holds its row of `job_due` and a shared lock on the transfers' rows.
A transfer that ends first enters its replica under the exclusive lock of its own row, then wakes its
waiters chunk by chunk. So a job that looks sees either a replica or a transfer that still has to wake
it; `job_due.missing` counts down under the job's own lock, and exactly one transfer finds the zero.
Rows are locked in one order: `job_due` ascending, then transfers ascending.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

from sqlalchemy.engine import Connection, Row

from panda.dataservice import copies
from panda.db.session import rows, run
from panda.jobs import due
from panda.states import Stage, Wait

#: Waiters that one transaction wakes.
CHUNK = 5_000
#: A file that two passes want at once may need a second look; more means that something is wrong.
_LOOKS = 5

#: Inputs that are on no storage that their job's queue reads; they are brought to the first of these.
INPUTS_WANTED = """
SELECT f.panda_id, f.file_id, q.storage AS destination, j.jobset_id, NULL AS owner
FROM (SELECT * FROM jobs WHERE panda_id = ANY(%(panda_ids)s) OFFSET 0) j JOIN queues q ON q.name = j.computing_site,
    LATERAL (SELECT * FROM job_files
        WHERE panda_id = j.panda_id AND kind = 'input' AND file_id IS NOT NULL OFFSET 0) f
WHERE NOT EXISTS (SELECT FROM replicas r
    WHERE r.file_id = f.file_id AND r.storage = ANY(q.storage || q.read_storages) AND r.going_at IS NULL OFFSET 0)
"""
#: Registered outputs that are not at the storage that their job set wants them on.
OUTPUTS_WANTED = """
SELECT f.panda_id, f.file_id, s.output_storage AS destination, j.jobset_id, j.owner
FROM (SELECT * FROM jobs WHERE panda_id = ANY(%(panda_ids)s) OFFSET 0) j,
    LATERAL (SELECT * FROM jobsets WHERE jobset_id = j.jobset_id AND output_storage IS NOT NULL OFFSET 0) s,
    LATERAL (SELECT * FROM job_files
        WHERE panda_id = j.panda_id AND kind = 'output' AND status = 'registered' OFFSET 0) f
WHERE NOT EXISTS (SELECT FROM replicas r
    WHERE r.file_id = f.file_id AND r.storage = s.output_storage AND NOT r.is_copy OFFSET 0)
"""
#: In one order, so that of two passes that want the same files neither waits for the other's second.
REQUEST = """
INSERT INTO transfers (file_id, destination, jobset_id, owner, due_at, created_at)
SELECT w.file_id, w.destination, min(w.jobset_id), max(w.owner), panda_now(), panda_now()
FROM unnest(%(file_ids)s::bigint[], %(destinations)s::text[], %(jobset_ids)s::bigint[], %(owners)s::text[])
    AS w(file_id, destination, jobset_id, owner)
GROUP BY w.file_id, w.destination ORDER BY w.file_id, w.destination
ON CONFLICT (file_id, destination) WHERE status IN ('queued', 'moving') DO NOTHING
"""
#: What some jobs read and one wrote is kept: nobody else asks for that of the same file, so nobody waits for us here.
KEEP = """
UPDATE transfers SET owner = %(owner)s WHERE transfer_id = ANY(%(transfer_ids)s) AND owner IS NULL
"""
#: Found by what they carry, then locked by their ids in ascending order, then seen as they are under the lock.
HOLD = """
WITH found AS (
    SELECT t.transfer_id
    FROM (SELECT DISTINCT * FROM unnest(%(file_ids)s::bigint[], %(destinations)s::text[]) AS w(file_id, destination)) w,
        LATERAL (SELECT transfer_id FROM transfers WHERE file_id = w.file_id AND destination = w.destination
            AND status IN ('queued', 'moving') OFFSET 0) t),
held AS (
    SELECT transfer_id, file_id, destination, status, owner FROM transfers
    WHERE transfer_id = ANY(ARRAY(SELECT transfer_id FROM found)) ORDER BY transfer_id FOR SHARE)
SELECT transfer_id, file_id, destination, owner FROM held WHERE status IN ('queued', 'moving') ORDER BY transfer_id
"""
DETACH = "DELETE FROM transfer_waiters WHERE panda_id = ANY(%(panda_ids)s)"
ATTACH = """
INSERT INTO transfer_waiters (transfer_id, panda_id)
SELECT * FROM unnest(%(transfer_ids)s::bigint[], %(panda_ids)s::bigint[]) ON CONFLICT DO NOTHING
"""
SET_MISSING = "UPDATE job_due SET missing = %(n)s WHERE panda_id = ANY(%(panda_ids)s)"
#: By an index that the ORDER BY leaves the planner no other choice than.
WAITERS = """
SELECT panda_id FROM transfer_waiters
WHERE (transfer_id, panda_id) > (%(transfer_id)s, -1) AND transfer_id <= %(transfer_id)s
ORDER BY transfer_id, panda_id LIMIT %(limit)s
"""
RELEASE = """
DELETE FROM transfer_waiters WHERE transfer_id = %(transfer_id)s AND panda_id = ANY(%(panda_ids)s) RETURNING panda_id
"""
COUNT_DOWN = """
UPDATE job_due SET missing = missing - 1 WHERE panda_id = ANY(%(panda_ids)s) AND missing > 0
RETURNING panda_id, missing
"""
INPUT_READY = """
UPDATE job_files SET status = 'ready' WHERE panda_id = ANY(%(panda_ids)s) AND kind = 'input'
    AND file_id = (SELECT file_id FROM transfers WHERE transfer_id = %(transfer_id)s)
"""
#: The caller of the mover fails these at once; if it dies before, the sweeper does so a little later.
GIVE_UP = """
UPDATE job_due SET due_at = panda_now() + interval '30 seconds', error = %(why)s WHERE panda_id = ANY(%(panda_ids)s)
"""


def await_files(
    connection: Connection, wanted_sql: str, panda_ids: Sequence[int], *, stage: Stage, deadline_s: float
) -> list[int]:
    """Park those of `panda_ids` that want files (`wanted_sql`: panda_id, file_id, destination) which are not
    there yet; the last of these makes them due for `stage`.

    The caller holds their rows of `job_due`. One transfer per file and destination serves all jobs.

    Returns: the PandaIDs that wait now, ascending.
    """
    ids = {"panda_ids": list(panda_ids)}
    wanted = rows(connection, wanted_sql, ids)
    if not wanted:
        return []
    if _at_hand(connection, wanted):
        wanted = rows(connection, wanted_sql, ids)
    for _ in range(_LOOKS):
        files = {"file_ids": [w.file_id for w in wanted], "destinations": [w.destination for w in wanted]}
        whose = {"jobset_ids": [w.jobset_id for w in wanted], "owners": [w.owner for w in wanted]}
        run(connection, REQUEST, files | whose)
        held = rows(connection, HOLD, files)
        transfer_of = {(row.file_id, row.destination): row.transfer_id for row in held}
        wanted = rows(connection, wanted_sql, ids)  # again, under the locks: some may just have arrived
        if all((want.file_id, want.destination) in transfer_of for want in wanted):
            break
    else:
        raise RuntimeError("transfers end as fast as they are requested")
    waiting = sorted({want.panda_id for want in wanted})
    if not waiting:
        return []
    _keep(connection, wanted, {row.transfer_id for row in held if row.owner is None}, transfer_of)
    run(connection, DETACH, {"panda_ids": waiting})  # what an earlier attempt waited for
    pairs = sorted({(transfer_of[want.file_id, want.destination], want.panda_id) for want in wanted})
    run(connection, ATTACH, {"transfer_ids": [p[0] for p in pairs], "panda_ids": [p[1] for p in pairs]})
    for n, members in _by_count(panda_id for _, panda_id in pairs).items():
        run(connection, SET_MISSING, {"n": n, "panda_ids": members})
    due.park(connection, waiting, stage=stage, waits_for=Wait.DATA, for_s=deadline_s)
    return waiting


def _keep(
    connection: Connection, wanted: Sequence[Row[Any]], unkept: Set[int], transfer_of: Mapping[tuple[int, str], int]
) -> None:
    """Transfers that were asked for as copies, and bring an output to its place."""
    by_owner: dict[str, list[int]] = {}
    for want in wanted:
        transfer_id = transfer_of[want.file_id, want.destination]
        if want.owner is not None and transfer_id in unkept:
            by_owner.setdefault(want.owner, []).append(transfer_id)
    for owner, transfer_ids in by_owner.items():
        run(connection, KEEP, {"owner": owner, "transfer_ids": sorted(transfer_ids)})


def _at_hand(connection: Connection, wanted: Sequence[Row[Any]]) -> bool:
    """Copies that are there stay, and outputs among them are kept. Returns whether that helped anybody."""
    kept = sorted({(want.file_id, want.destination) for want in wanted if want.owner is not None})
    read = sorted({(want.file_id, want.destination) for want in wanted if want.owner is None})
    helped = copies.promote(connection, kept) if kept else 0
    return helped + (copies.salvage(connection, read) if read else 0) > 0


def _by_count(panda_ids: Iterable[int]) -> dict[int, list[int]]:
    """By how often it occurs: the PandaIDs that do, ascending."""
    by_count: dict[int, list[int]] = {}
    for panda_id, n in sorted(Counter(panda_ids).items()):
        by_count.setdefault(n, []).append(panda_id)
    return by_count


def count_down(connection: Connection, transfer_id: int) -> int:
    """The file of this transfer is there: up to `CHUNK` jobs wait for one file less, and wake at none.

    Returns: how many waiters were dealt with; fewer than `CHUNK`: that was all.
    """
    panda_ids, still_waiting = _release(connection, transfer_id)
    if still_waiting:
        run(connection, INPUT_READY, {"transfer_id": transfer_id, "panda_ids": still_waiting})
        counted = rows(connection, COUNT_DOWN, {"panda_ids": still_waiting})
        due.wake(connection, sorted(row.panda_id for row in counted if row.missing == 0))
    return len(panda_ids)


def give_up(connection: Connection, transfer_id: int, why: str) -> tuple[int, list[int]]:
    """The file of this transfer cannot be had: up to `CHUNK` waiters wait in vain.

    Returns: how many waiters were dealt with, and the PandaIDs of those that still wait for it.
    """
    panda_ids, still_waiting = _release(connection, transfer_id)
    if still_waiting:
        run(connection, GIVE_UP, {"panda_ids": still_waiting, "why": why[:2000]})
    return len(panda_ids), still_waiting


def _release(connection: Connection, transfer_id: int) -> tuple[list[int], list[int]]:
    """Take waiters off a transfer, their rows of `job_due` locked: all of them, and those that wait for data.
    One that was killed, retried or archived meanwhile is taken off and left alone."""
    found = rows(connection, WAITERS, {"transfer_id": transfer_id, "limit": CHUNK})
    if not found:
        return [], []
    panda_ids = [row.panda_id for row in found]
    locked = due.lock(connection, panda_ids)
    released = rows(connection, RELEASE, {"transfer_id": transfer_id, "panda_ids": panda_ids})
    still_there = {row.panda_id for row in released}
    return panda_ids, [i for i in locked if i in still_there and locked[i].waits_for == Wait.DATA]
