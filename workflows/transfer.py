"""The data lane: files between storages. Guarded by a lease on each transfer's row, not by Celery."""

from typing import Any

from sqlalchemy.exc import OperationalError

from panda.dataservice import transfers
from panda.jobs import due, ending
from panda.jobs.ending import Failure
from panda.settings import current
from panda.states import Stage, Wait
from workflows.app import DATA, app, begin

#: The database was away for a moment: the message comes back in a second. What was moved is not moved again.
AGAIN = {"autoretry_for": (OperationalError,), "default_retry_delay": 1, "max_retries": 30}


@app.task(name="panda.transfer", queue=DATA, soft_time_limit=None, time_limit=None, **AGAIN)
def transfer(transfer_ids: list[int], *_: Any, **__: Any) -> None:
    """Move files; wake the jobs whose last file it was, fail those whose file can be had nowhere. What else a message
    holds is of a newer version, and not for us."""
    settings = current()
    hopeless = transfers.carry_out(begin(), transfer_ids, settings)
    if not hopeless:
        return
    with begin()() as connection:
        rows = due.lock(connection, sorted({panda_id for panda_id, _ in hopeless}))
        failures = {
            panda_id: _failure(panda_id, why, is_output=rows[panda_id].stage == Stage.STAGE_OUT)
            for panda_id, why in hopeless
            if panda_id in rows and rows[panda_id].waits_for == Wait.DATA
        }
        ending.fail_many(connection, list(failures.values()), by="transfer", engine=settings.engine)


def _failure(panda_id: int, why: str, *, is_output: bool) -> Failure:
    """Inputs may be had at another site; outputs are published where they are, so a person decides."""
    stage = Stage.STAGE_OUT if is_output else Stage.STAGE_IN
    return Failure(panda_id, stage, f"{stage}:transfer_failed", why, again=not is_output)
