"""Runnable rows for the relay: which groups of PandaIDs to send where.

A claim counts the delivery and puts the row's next time past the point where the group must have made
progress (`resend_s`), in one short transaction; only then is anything sent. Two relays skip each other's
rows. A row that was never sent may go before its virtual time when nothing else is due.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sqlalchemy.engine import Connection

from panda.db.session import asynchronous, rows, run
from panda.jobs import ending
from panda.jobs.ending import Failure
from panda.settings import Engine
from panda.states import Stage

CLAIM = """
WITH runnable AS (
    SELECT panda_id FROM job_due
    WHERE waits_for IS NULL AND {lane} AND (deliveries = 0 OR due_at <= (SELECT panda_now()))
    ORDER BY due_at LIMIT %(n)s FOR UPDATE SKIP LOCKED)
UPDATE job_due d SET due_at = panda_now() + make_interval(secs => %(resend_s)s),
    deliveries = least(deliveries + 1, 1000)
FROM runnable WHERE d.panda_id = runnable.panda_id
RETURNING d.panda_id, d.stage, d.deliveries
"""
CLAIM_FINAL = CLAIM.format(lane="final")
CLAIM_ROAD = CLAIM.format(lane="NOT final")

OVERDUE = """
UPDATE job_due d SET due_at = panda_now() FROM (
    SELECT panda_id FROM job_due
    WHERE waits_for IS NULL AND deliveries > 0 AND due_at > (SELECT panda_now()) {which}
    ORDER BY panda_id FOR UPDATE) AS sent
WHERE d.panda_id = sent.panda_id
"""
ALL_OVERDUE = OVERDUE.format(which="")
THESE_OVERDUE = OVERDUE.format(which="AND panda_id = ANY(%(panda_ids)s)")
STATE = "SELECT value FROM engine_state WHERE key = %(key)s"
SET_STATE = """
INSERT INTO engine_state (key, value) VALUES (%(key)s, %(value)s) ON CONFLICT (key) DO UPDATE SET value = excluded.value
"""


class Group(NamedTuple):
    """PandaIDs that go down the chain together, from `stage` on."""

    stage: Stage
    panda_ids: list[int]


def claim_groups(connection: Connection, engine: Engine, *, final: bool, n_groups: int) -> list[Group]:
    """Take runnable rows of one lane, at most `n_groups` full groups, earliest first.

    A group halves with each delivery, so that one job that kills its worker ends up alone (law 9); after
    `max_deliveries` it fails as poison.
    """
    asynchronous(connection)  # lost in a crash: the rows are simply due again
    sql = CLAIM_FINAL if final else CLAIM_ROAD
    claimed = rows(connection, sql, {"n": n_groups * engine.group_jobs, "resend_s": float(engine.resend_s)})
    by_stage: dict[tuple[Stage, int], list[int]] = defaultdict(list)
    poison: list[Failure] = []
    for row in claimed:
        if row.deliveries > engine.max_deliveries:
            poison.append(_poisoned(row.panda_id, Stage(row.stage), row.deliveries - 1))
        else:
            by_stage[Stage(row.stage), row.deliveries].append(row.panda_id)
    failed = ending.fail_many(connection, poison, by="relay", engine=engine)
    for each in poison:  # what has ended cannot fail; it only has to reach the archive
        if each.panda_id not in failed:
            by_stage[each.stage, engine.max_deliveries].append(each.panda_id)
    return [
        Group(stage, members)
        for (stage, deliveries), panda_ids in by_stage.items()
        for members in _cut(sorted(panda_ids), max(1, engine.group_jobs >> (deliveries - 1)))
    ]


def _poisoned(panda_id: int, stage: Stage, deliveries: int) -> Failure:
    message = f"stage {stage} was started {deliveries} times for this job and never came to an end"
    return Failure(panda_id, stage, f"{stage}:poison", message)


def _cut(panda_ids: Sequence[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(panda_ids), size):
        yield list(panda_ids[start : start + size])


def resend_all(connection: Connection) -> int:
    """Whatever was sent and not finished is due again now: Redis was erased, or a worker died.

    A second message for a job does no harm (law 2). Returns the jobs touched."""
    return run(connection, ALL_OVERDUE)


def resend(connection: Connection, panda_ids: Sequence[int]) -> int:
    """Those of `panda_ids` that were sent and not finished are due again now: their worker died.

    Returns the jobs touched."""
    return run(connection, THESE_OVERDUE, {"panda_ids": list(panda_ids)})


def redis_epoch(connection: Connection) -> str | None:
    """The mark that Redis should hold; another one, or none, means that it was erased."""
    found = rows(connection, STATE, {"key": "redis_epoch"})
    return found[0].value if found else None


def new_epoch(connection: Connection, epoch: str) -> int:
    """Redis was found erased: remember its new mark and make everything sent due at once."""
    run(connection, SET_STATE, {"key": "redis_epoch", "value": epoch})
    return resend_all(connection)
