"""Jobs that wait at a queue, or for one, are brokered anew: because an operator says so, not their deadline."""

from collections.abc import Sequence

from sqlalchemy.engine import Connection

from panda.db.session import run
from panda.jobs import due
from panda.jobs.submission import CHANNEL
from panda.jobs.transitions import move_many
from panda.states import JobStatus, Stage, Wait

UNREADY = "DELETE FROM ready WHERE panda_id = ANY(%(panda_ids)s)"

#: Whom it reaches: jobs that wait for a pilot, and jobs that wait for a queue.
WAITING = frozenset({JobStatus.ACTIVATED, JobStatus.DEFINED})
#: Why not a job of status `{0}`.
WHY_NOT = "it is {0}; only a job that waits for a pilot or a queue can be brokered anew"


def rebroker(
    connection: Connection, panda_ids: Sequence[int], *, by: str, reason: str
) -> tuple[list[int], dict[int, str]]:
    """Those that wait for a pilot leave their queue; those that wait for a queue look again at once.

    Returns: the PandaIDs that go to brokerage, ascending; and why not the others.
    """
    locked = due.lock(connection, panda_ids)
    ready = sorted(panda_id for panda_id, row in locked.items() if row.waits_for == Wait.PILOT)
    without = sorted(panda_id for panda_id, row in locked.items() if row.waits_for == Wait.QUEUE)
    if ready:
        run(connection, UNREADY, {"panda_ids": ready})
        move_many(
            connection, ready, JobStatus.ACTIVATED, JobStatus.DEFINED, by=by, stage=Stage.BROKER,
            reason=reason or "brokered anew",
        )  # fmt: skip
    due.wake(connection, [*ready, *without], Stage.BROKER)
    if ready or without:
        run(connection, f"NOTIFY {CHANNEL}")
    done = sorted([*ready, *without])
    reached = set(done)
    refused = {
        panda_id: "it waits neither for a pilot nor for a queue" if panda_id in locked else "it is archived or unknown"
        for panda_id in panda_ids
        if panda_id not in reached
    }
    return done, refused
