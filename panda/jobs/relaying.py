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
UPDATE job_due SET due_at = panda_now() + make_interval(secs => %(resend_s)s),
    deliveries = least(deliveries + 1, 1000), sent = true
WHERE panda_id = ANY(ARRAY(SELECT panda_id FROM runnable))
RETURNING panda_id, stage, deliveries
"""
CLAIM_FINAL = CLAIM.format(lane="final")
CLAIM_ROAD = CLAIM.format(lane="NOT final")

#: What was sent and never began is due at once, and that delivery is taken back: it says nothing about the job.
#: What has begun stays with the worker that has it.
RESEND_WAITING = """
WITH gone AS (
    SELECT panda_id FROM job_due
    WHERE waits_for IS NULL AND due_at > (SELECT panda_now()) AND deliveries > 0 AND sent
        AND panda_id <> ALL(ARRAY(SELECT unnest(panda_ids) FROM stage_starts))
    ORDER BY panda_id FOR UPDATE)
UPDATE job_due SET due_at = panda_now(), deliveries = deliveries - 1, sent = false
WHERE panda_id = ANY(ARRAY(SELECT panda_id FROM gone))
"""
RESEND_BEGUN = """
WITH gone AS (
    SELECT panda_id FROM job_due
    WHERE panda_id = ANY(%(panda_ids)s) AND waits_for IS NULL AND deliveries > 0 AND sent
    ORDER BY panda_id FOR UPDATE)
UPDATE job_due SET due_at = panda_now() + make_interval(secs => %(in_s)s), sent = false
WHERE panda_id = ANY(ARRAY(SELECT panda_id FROM gone))
"""
BEGIN_RUN = """
INSERT INTO stage_starts (run_id, worker, panda_ids, at) VALUES (%(run_id)s, %(worker)s, %(panda_ids)s, panda_now())
ON CONFLICT (run_id) DO UPDATE SET worker = excluded.worker, at = excluded.at
"""
END_RUN = "DELETE FROM stage_starts WHERE run_id = %(run_id)s"
BROKEN_OFF = "DELETE FROM stage_starts WHERE worker = %(worker)s RETURNING at, panda_ids"
#: Between the groups that a dead worker had in its hands: whichever of them killed it kills nobody else's run.
APART_S = 3.0
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


def begin_run(connection: Connection, run_id: str, worker: str, panda_ids: Sequence[int]) -> None:
    """A stage begins with these; `run_id` is the id of its message."""
    run(connection, BEGIN_RUN, {"run_id": run_id, "worker": worker, "panda_ids": list(panda_ids)})


def end_run(connection: Connection, run_id: str) -> None:
    """The stage came to an end, well or not."""
    run(connection, END_RUN, {"run_id": run_id})


def resend_waiting(connection: Connection) -> int:
    """Whatever was sent and did not begin is due again now: Redis was erased, or a worker died.

    A second message for a job does no harm (law 2), and a delivery that reached nobody does not count: workers and
    Redis may be restarted as often as one likes (law 9). Returns the jobs touched."""
    return run(connection, RESEND_WAITING)


def resend_begun(connection: Connection, worker: str) -> int:
    """What a worker that died had in its hands is due again, one group after another, behind everything else: one of
    them may have killed it, and that delivery counts. Returns the jobs touched."""
    broken_off = sorted(rows(connection, BROKEN_OFF, {"worker": worker}))
    return sum(
        run(connection, RESEND_BEGUN, {"panda_ids": row.panda_ids, "in_s": nr * APART_S})
        for nr, row in enumerate(broken_off, start=1)
    )


def resend(connection: Connection, run_id: str, panda_ids: Sequence[int]) -> int:
    """The process that ran a stage with these died: they are due again now. Returns the jobs touched."""
    end_run(connection, run_id)
    return run(connection, RESEND_BEGUN, {"panda_ids": list(panda_ids), "in_s": 0.0})


def redis_epoch(connection: Connection) -> str | None:
    """The mark that Redis should hold; another one, or none, means that it was erased."""
    found = rows(connection, STATE, {"key": "redis_epoch"})
    return found[0].value if found else None


def new_epoch(connection: Connection, epoch: str) -> int:
    """Redis was found erased: remember its new mark and make everything sent due at once."""
    run(connection, SET_STATE, {"key": "redis_epoch", "value": epoch})
    return resend_waiting(connection)
