"""Waits whose deadline passed: each kind has its own handler, and never the stage itself (law 1).

Each kind is handled in a transaction of its own. A set whose handler raises is tried again in halves, down to the
one job that is to blame: it is put off, with the reason in its row and in an incident, and keeps nobody waiting.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy.engine import Connection, Row
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from panda.db.session import Begin, rows, run
from panda.jobs import due, ending, incidents, outages
from panda.jobs.ending import Failure
from panda.jobs.incidents import Incident
from panda.jobs.quotas import admission
from panda.jobs.transitions import move_many
from panda.logs import Log
from panda.settings import Settings
from panda.states import JobStatus, Stage, Wait

log = Log("panda.sweeper")

LATE = """
SELECT panda_id, waits_for FROM job_due WHERE waits_for IS NOT NULL AND due_at <= (SELECT panda_now())
ORDER BY due_at LIMIT %(limit)s
"""
STILL_LATE = """
WITH held AS (
    SELECT panda_id, waits_for, due_at FROM job_due WHERE panda_id = ANY(%(panda_ids)s)
    ORDER BY panda_id FOR UPDATE SKIP LOCKED)
SELECT panda_id FROM held WHERE waits_for = %(wait)s::text AND due_at <= (SELECT panda_now()) ORDER BY panda_id
"""
#: A job whose handler raised is looked at again after this.
PUT_OFF_S = 60.0
#: SQLSTATEs of a database that refuses the work, not the one job: deadlock, serialization, going down, full.
REFUSALS = ("08", "40", "53", "57P", "55P03")

#: Who reports right now has a lease again when this returns; who comes later waits for our end of it.
LEASES = "SELECT panda_id FROM leases WHERE panda_id = ANY(%(panda_ids)s) ORDER BY panda_id FOR UPDATE"
ALIVE = """
UPDATE job_due d SET due_at = (SELECT lease_until FROM leases l WHERE l.panda_id = d.panda_id)
WHERE panda_id = ANY(%(panda_ids)s) AND EXISTS (
    SELECT FROM leases l WHERE l.panda_id = d.panda_id AND l.lease_until > panda_now() OFFSET 0)
RETURNING panda_id
"""
KILLS = """
SELECT panda_id FROM jobs WHERE panda_id = ANY(%(panda_ids)s) AND kill_requested_at IS NOT NULL ORDER BY panda_id
"""
#: Jobs in their last attempt that lost the pilot of each one.
SILENT = """
SELECT j.panda_id, j.max_attempts, j.attempt_nr AS n FROM jobs j
WHERE j.panda_id = ANY(%(panda_ids)s) AND j.attempt_nr >= j.max_attempts
    AND (SELECT count(*) FROM attempts a WHERE a.panda_id = j.panda_id AND a.error_code = 'dispatch:lost_heartbeat')
        = j.attempt_nr - 1
"""
UNREADY = "DELETE FROM ready WHERE panda_id = ANY(%(panda_ids)s)"
ON_THE_WAY = """
SELECT panda_id, error, final AS is_final FROM job_due WHERE panda_id = ANY(%(panda_ids)s) ORDER BY panda_id
"""
RESTING = "SELECT panda_id FROM jobs WHERE panda_id = ANY(%(panda_ids)s) AND status = 'failed' ORDER BY panda_id"


def sweep(begin: Begin, settings: Settings, limit: int = 500) -> int:
    """Run the handlers of up to `limit` late waits. Returns how many were handled or put off."""
    late: dict[Wait, list[int]] = defaultdict(list)
    with begin() as connection:
        for row in rows(connection, LATE, {"limit": limit}):
            late[Wait(row.waits_for)].append(row.panda_id)
    return sum(_handle(begin, wait, sorted(panda_ids), settings) for wait, panda_ids in late.items())


def _handle(begin: Begin, wait: Wait, panda_ids: Sequence[int], settings: Settings) -> int:
    try:
        with begin() as connection:
            mine = [row.panda_id for row in rows(connection, STILL_LATE, {"panda_ids": list(panda_ids), "wait": wait})]
            if mine:
                HANDLERS[wait](connection, mine, settings)
            return len(mine)
    except Exception as problem:
        if _is_refusal(problem):
            raise  # the next sweep finds them as they are
        if len(panda_ids) == 1:
            return _put_off(begin, wait, panda_ids[0], problem)
        log.warning("a wait's handler raised; trying halves", wait=wait, n=len(panda_ids), problem=repr(problem))
    half = len(panda_ids) // 2
    return _handle(begin, wait, panda_ids[:half], settings) + _handle(begin, wait, panda_ids[half:], settings)


def _is_refusal(problem: Exception) -> bool:
    if isinstance(problem, PoolTimeout):
        return True
    if not isinstance(problem, DBAPIError):
        return False
    state = getattr(problem.orig, "sqlstate", None)
    is_away = problem.connection_invalidated or (state is None and isinstance(problem, OperationalError))
    return is_away or (state or "").startswith(REFUSALS)


def _put_off(begin: Begin, wait: Wait, panda_id: int, problem: Exception) -> int:
    """One job makes its handler raise: it waits on, and somebody is told."""
    error = f"{type(problem).__name__}: {problem}"
    log.warning("a wait's handler raised", wait=wait, panda_id=panda_id, problem=error)
    with begin() as connection:
        if not rows(connection, STILL_LATE, {"panda_ids": [panda_id], "wait": wait}):
            return 0
        due.back_off(connection, [panda_id], for_s=PUT_OFF_S, error=error)
        message = f"the end of a wait for {wait} cannot be handled"
        facts = {"panda_id": panda_id, "error": error[:2000]}
        incidents.report(connection, [Incident("sweeper", "error", f"sweep:{wait}", message, context=facts)])
    return 1


def _lease(connection: Connection, panda_ids: Sequence[int], settings: Settings) -> None:
    """A lease that is alive re-arms its wait; a dead one ends the attempt, unless an outage kept its pilot silent."""
    rows(connection, LEASES, {"panda_ids": list(panda_ids)})
    alive = {row.panda_id for row in rows(connection, ALIVE, {"panda_ids": list(panda_ids)})}
    dead = [panda_id for panda_id in panda_ids if panda_id not in alive]
    spared = outages.spare(connection, dead, settings.dispatcher.lease_s)
    dead = [panda_id for panda_id in dead if panda_id not in spared]
    killed = [row.panda_id for row in rows(connection, KILLS, {"panda_ids": dead})]
    ending.cancel_many(connection, killed, by="sweeper", reason="killed; its pilot is silent")
    lost = sorted(set(dead) - set(killed))
    silent = {row.panda_id: row for row in rows(connection, SILENT, {"panda_ids": lost})} if lost else {}
    failures = [_lost(panda_id, silent.get(panda_id), settings) for panda_id in lost]
    ending.fail_many(connection, failures, by="sweeper", engine=settings.engine)


def _lost(panda_id: int, silent: Row[Any] | None, settings: Settings) -> Failure:
    """One silent pilot may be the node's fault; a silent one in each attempt is the job's own."""
    message = f"its pilot was silent for {settings.dispatcher.lease_s} s"
    if silent is None or silent.max_attempts < 2:
        return Failure(panda_id, Stage.DISPATCH, "dispatch:lost_heartbeat", message, again=True)
    message += f", as in every one of its {silent.n} attempts: it seems to end the pilots that run it"
    return Failure(panda_id, Stage.DISPATCH, "dispatch:kills_pilots", message)


def _data(connection: Connection, panda_ids: Sequence[int], settings: Settings) -> None:
    """Files did not arrive, or the mover gave up and said so in `error`.

    Inputs may be had at another site. Outputs are registered where they are: running the payload again
    would write over what is published, so a person decides (retry from stage_out ships them again)."""
    hours = settings.data.stage_in_deadline_s / 3600
    late = [
        Failure(
            row.panda_id,
            Stage.STAGE_OUT if row.is_final else Stage.STAGE_IN,
            f"{'stage_out' if row.is_final else 'stage_in'}:deadline",
            row.error or f"its files were not in place after {hours:g} h",
            again=not row.is_final,
        )
        for row in rows(connection, ON_THE_WAY, {"panda_ids": list(panda_ids)})
    ]
    ending.fail_many(connection, late, by="sweeper", engine=settings.engine)


def _pilot(connection: Connection, panda_ids: Sequence[int], settings: Settings) -> None:
    """No pilot came for it: brokerage looks again."""
    run(connection, UNREADY, {"panda_ids": list(panda_ids)})
    move_many(
        connection, panda_ids, JobStatus.ACTIVATED, JobStatus.DEFINED, by="sweeper", stage=Stage.BROKER,
        reason=f"no pilot took it in {settings.engine.pilot_wait_s / 3600:g} h",
    )  # fmt: skip
    due.wake(connection, panda_ids, Stage.BROKER)


def _look_again(connection: Connection, panda_ids: Sequence[int], settings: Settings) -> None:
    due.wake(connection, panda_ids)


def _quota(connection: Connection, panda_ids: Sequence[int], settings: Settings) -> None:
    """The clock lets them in as there is room; whom it forgot goes on."""
    admission.look_again(connection, panda_ids)


def _parent(connection: Connection, panda_ids: Sequence[int], settings: Settings) -> None:
    days = settings.engine.parent_wait_s / 86_400
    message = f"the job sets that it depends on did not end in {days:g} days"
    late = [Failure(panda_id, Stage.DEFINE, "define:parent_timeout", message) for panda_id in panda_ids]
    ending.fail_many(connection, late, by="sweeper", engine=settings.engine)


def _operator(connection: Connection, panda_ids: Sequence[int], settings: Settings) -> None:
    """A failed job rested long enough; anything else that a person holds goes on being held."""
    resting = [row.panda_id for row in rows(connection, RESTING, {"panda_ids": list(panda_ids)})]
    due.wake(connection, resting, Stage.ARCHIVE)
    held = [panda_id for panda_id in panda_ids if panda_id not in resting]
    due.extend(connection, held, for_s=settings.engine.retry_window_s)


HANDLERS: dict[Wait, Callable[[Connection, Sequence[int], Settings], None]] = {
    Wait.LEASE: _lease,
    Wait.DATA: _data,
    Wait.PILOT: _pilot,
    Wait.QUEUE: _look_again,
    Wait.QUOTA: _quota,
    Wait.PARENT: _parent,
    Wait.OPERATOR: _operator,
}
