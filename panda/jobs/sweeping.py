"""Waits whose deadline passed: each kind has its own handler, and never the stage itself (law 1)."""

from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy.engine import Connection

from panda.db.session import rows, run
from panda.jobs import due, ending
from panda.jobs.ending import Failure
from panda.jobs.transitions import move_many
from panda.settings import Settings
from panda.states import JobStatus, Stage, Wait

LATE = """
SELECT panda_id, waits_for FROM job_due WHERE waits_for IS NOT NULL AND due_at <= (SELECT panda_now())
ORDER BY due_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
"""
#: Who reports right now has a lease again when this returns; who comes later waits for our end of it.
LEASES = "SELECT panda_id FROM leases WHERE panda_id = ANY(%(panda_ids)s) ORDER BY panda_id FOR UPDATE"
ALIVE = """
UPDATE job_due d SET due_at = l.lease_until FROM leases l
WHERE d.panda_id = ANY(%(panda_ids)s) AND l.panda_id = d.panda_id AND l.lease_until > panda_now()
RETURNING d.panda_id
"""
KILLS = """
SELECT panda_id FROM jobs WHERE panda_id = ANY(%(panda_ids)s) AND kill_requested_at IS NOT NULL ORDER BY panda_id
"""
UNREADY = "DELETE FROM ready WHERE panda_id = ANY(%(panda_ids)s)"
ON_THE_WAY = """
SELECT panda_id, error, final AS is_final FROM job_due WHERE panda_id = ANY(%(panda_ids)s) ORDER BY panda_id
"""
RESTING = "SELECT panda_id FROM jobs WHERE panda_id = ANY(%(panda_ids)s) AND status = 'failed' ORDER BY panda_id"


def sweep(connection: Connection, settings: Settings, limit: int = 500) -> int:
    """Run the handlers of up to `limit` late waits. Returns how many there were."""
    late: dict[Wait, list[int]] = defaultdict(list)
    for row in rows(connection, LATE, {"limit": limit}):
        late[Wait(row.waits_for)].append(row.panda_id)
    for wait, panda_ids in late.items():
        _HANDLERS[wait](connection, sorted(panda_ids), settings)
    return sum(len(panda_ids) for panda_ids in late.values())


def _lease(connection: Connection, panda_ids: Sequence[int], settings: Settings) -> None:
    """A lease that is alive re-arms its wait; a dead one ends the attempt."""
    rows(connection, LEASES, {"panda_ids": list(panda_ids)})
    alive = {row.panda_id for row in rows(connection, ALIVE, {"panda_ids": list(panda_ids)})}
    dead = [panda_id for panda_id in panda_ids if panda_id not in alive]
    killed = [row.panda_id for row in rows(connection, KILLS, {"panda_ids": dead})]
    ending.cancel_many(connection, killed, by="sweeper", reason="killed; its pilot is silent")
    message = f"its pilot was silent for {settings.dispatcher.lease_s} s"
    lost = [
        Failure(panda_id, Stage.DISPATCH, "dispatch:lost_heartbeat", message, again=True)
        for panda_id in dead
        if panda_id not in killed
    ]
    ending.fail_many(connection, lost, by="sweeper", engine=settings.engine)


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


_HANDLERS = {
    Wait.LEASE: _lease,
    Wait.DATA: _data,
    Wait.PILOT: _pilot,
    Wait.QUEUE: _look_again,
    Wait.QUOTA: _look_again,
    Wait.PARENT: _parent,
    Wait.OPERATOR: _operator,
}
