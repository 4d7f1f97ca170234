"""What each job needs next, and when: the slim table `job_due`, which is also the job's mutex.

A row is *runnable* (`waits_for` is null: the relay sends it to its `stage`) or *waiting* (for
something that has a deadline, `due_at`, and a handler for when it passes). Only the relay, parking,
backing off and waking write `due_at` (law 3); whoever changes a job locks its row here first,
PandaIDs ascending (law 5).
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy.engine import Connection, Row

from panda.db.session import rows, run
from panda.states import Stage, Wait

#: Milliseconds of waiting that one point of priority is worth.
PRIORITY_MS = 60_000

_MINE = "panda_id = ANY(%(panda_ids)s) AND stage = %(stage)s::text AND waits_for IS NULL"
#: The guard of a stage (law 2). A duplicate, late or reordered message finds nothing here. It waits for whoever
#: holds a row: to pass it over would lose the message, and the job would stand still until `resend_s`, each
#: time that a late report or a kill looks at it in that moment.
MINE = f"SELECT panda_id FROM job_due WHERE {_MINE} ORDER BY panda_id FOR UPDATE"
#: The guard and the fast road's next step in one write per row. The array is walked through in the index's own
#: order, so its rows are locked in ascending order too.
TAKE = f"UPDATE job_due SET stage = %(then)s::text WHERE {_MINE} RETURNING panda_id"
TAKE_AND_PARK = f"""
UPDATE job_due SET waits_for = %(waits_for)s, deliveries = 0, tries = 0, error = NULL,
    due_at = panda_now() + make_interval(secs => %(for_s)s)
WHERE {_MINE} RETURNING panda_id
"""
LOCK = """
SELECT panda_id, stage, waits_for, due_at, deliveries, tries FROM job_due
WHERE panda_id = ANY(%(panda_ids)s) ORDER BY panda_id FOR UPDATE
"""
PARK = """
UPDATE job_due SET stage = %(stage)s::text, final = %(stage)s::text IN ('stage_out', 'archive'),
    waits_for = %(waits_for)s, deliveries = 0, tries = 0, error = NULL,
    due_at = panda_now() + make_interval(secs => %(for_s)s)
WHERE panda_id = ANY(%(panda_ids)s)
"""
#: The rank is that of ready jobs, but for what the owner used: the time of submission, earlier by priority.
PARK_FOR_QUEUE = f"""
UPDATE job_due d SET stage = 'broker', final = false, waits_for = 'queue', deliveries = 0, tries = 0, error = NULL,
    due_at = panda_now() + make_interval(secs => %(for_s)s), room_group = %(room_group)s::int,
    room_rank = CASE WHEN %(room_group)s::int IS NOT NULL THEN (
        SELECT (extract(epoch FROM created_at) * 1000)::bigint - priority::bigint * {PRIORITY_MS} FROM jobs j
        WHERE j.panda_id = d.panda_id OFFSET 0) END
WHERE panda_id = ANY(%(panda_ids)s)
"""
WAKE = """
UPDATE job_due SET stage = coalesce(%(stage)s::text, stage),
    final = coalesce(%(stage)s::text, stage) IN ('stage_out', 'archive'),
    waits_for = NULL, due_at = panda_now(), deliveries = 0
WHERE panda_id = ANY(%(panda_ids)s)
"""
EXTEND = """
UPDATE job_due SET due_at = panda_now() + make_interval(secs => %(for_s)s) WHERE panda_id = ANY(%(panda_ids)s)
"""
BACK_OFF = """
UPDATE job_due SET tries = least(tries + 1, 1000), error = %(error)s, sent = false,
    due_at = panda_now() + make_interval(secs => %(for_s)s)
WHERE panda_id = ANY(%(panda_ids)s) RETURNING panda_id, tries
"""

PUT_OFF = """
UPDATE job_due SET stage = %(stage)s::text, tries = least(tries + 1, 1000), error = %(error)s, sent = false,
    due_at = panda_now() + make_interval(secs => least(%(longest_s)s, %(first_s)s * 2 ^ least(tries, 20)))
WHERE panda_id = ANY(%(panda_ids)s) RETURNING panda_id, tries
"""


def mine(connection: Connection, panda_ids: Sequence[int], stage: Stage) -> list[int]:
    """Lock and return those of `panda_ids` that are runnable for `stage`, ascending."""
    return [row.panda_id for row in rows(connection, MINE, {"panda_ids": list(panda_ids), "stage": stage})]


def take(connection: Connection, panda_ids: Sequence[int], stage: Stage, then: Stage) -> list[int]:
    """Those of `panda_ids` that are runnable for `stage`, ascending; locked, and due for `then` from the commit on
    unless what follows in this transaction says otherwise. Writes `stage` alone (law 3)."""
    taken = rows(connection, TAKE, {"panda_ids": list(panda_ids), "stage": stage, "then": then})
    return sorted([row.panda_id for row in taken])


def take_and_park(
    connection: Connection, panda_ids: Sequence[int], stage: Stage, *, waits_for: Wait, for_s: float
) -> list[int]:
    """Those of `panda_ids` that are runnable for `stage`, ascending; they wait there from the commit on."""
    values = {"panda_ids": list(panda_ids), "stage": stage, "waits_for": waits_for, "for_s": float(for_s)}
    return sorted([row.panda_id for row in rows(connection, TAKE_AND_PARK, values)])


def lock(connection: Connection, panda_ids: Sequence[int]) -> dict[int, Row[Any]]:
    """Lock the rows of `panda_ids`, waiting for whoever holds them; by PandaID, those that exist."""
    found = rows(connection, LOCK, {"panda_ids": list(panda_ids)})
    return {row.panda_id: row for row in found}


def park(connection: Connection, panda_ids: Sequence[int], *, stage: Stage, waits_for: Wait, for_s: float) -> None:
    """These wait for something, at most `for_s` seconds; then the wait's handler runs.

    `stage` is where they go on once it came."""
    if panda_ids:
        run(
            connection,
            PARK,
            {"panda_ids": list(panda_ids), "stage": stage, "waits_for": waits_for, "for_s": float(for_s)},
        )


def park_for_queue(connection: Connection, panda_ids: Sequence[int], *, for_s: float, room_group: int | None) -> None:
    """These wait for a queue, at most `for_s` seconds; `room_group`: the queues that are too full for them, if any
    are (`brokerage.room`)."""
    run(
        connection,
        PARK_FOR_QUEUE,
        {"panda_ids": list(panda_ids), "for_s": float(for_s), "room_group": room_group},
    )


def wake(connection: Connection, panda_ids: Sequence[int], stage: Stage | None = None) -> None:
    """These are runnable now, for `stage` if one is given."""
    if panda_ids:
        run(connection, WAKE, {"panda_ids": list(panda_ids), "stage": stage})


def back_off(connection: Connection, panda_ids: Sequence[int], *, for_s: float, error: str) -> dict[int, int]:
    """A stage raised on these: they are sent again in `for_s` seconds. Returns their tries so far."""
    done = rows(connection, BACK_OFF, {"panda_ids": list(panda_ids), "for_s": float(for_s), "error": error[:2000]})
    return {row.panda_id: row.tries for row in done}


def put_off(
    connection: Connection, panda_ids: Sequence[int], *, stage: Stage, first_s: float, longest_s: float, error: str
) -> dict[int, int]:
    """These could not go through `stage` now, through no fault of theirs: they come to it again, after `first_s`
    seconds the first time, then ever later. Returns their tries so far."""
    values = {"panda_ids": list(panda_ids), "stage": stage, "first_s": float(first_s), "longest_s": float(longest_s)}
    return {row.panda_id: row.tries for row in rows(connection, PUT_OFF, values | {"error": error[:2000]})}


def extend(connection: Connection, panda_ids: Sequence[int], *, for_s: float) -> None:
    """Their wait goes on for another `for_s` seconds."""
    if panda_ids:
        run(connection, EXTEND, {"panda_ids": list(panda_ids), "for_s": float(for_s)})
