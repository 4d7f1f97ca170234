"""The data lane: files between storages. Guarded by a lease on each transfer's row, not by Celery."""

from panda.dataservice import transfers
from panda.jobs import due, ending
from panda.jobs.ending import Failure
from panda.settings import current
from panda.states import Stage
from workflows.app import DATA, app, begin


@app.task(name="panda.transfer", queue=DATA, soft_time_limit=None, time_limit=None)  # type: ignore[untyped-decorator]
def transfer(transfer_ids: list[int]) -> None:
    """Move files; wake the jobs whose last file it was, fail those whose file can be had nowhere."""
    settings = current()
    hopeless = transfers.carry_out(begin(), transfer_ids, settings)
    if not hopeless:
        return
    with begin()() as connection:
        stage_of = {i: Stage(row.stage) for i, row in due.lock(connection, sorted({i for i, _ in hopeless})).items()}
        failures = {
            panda_id: Failure(
                panda_id, Stage.STAGE_OUT if stage_of[panda_id] is Stage.STAGE_OUT else Stage.STAGE_IN,
                "stage_in:transfer_failed", why, again=True,
            )
            for panda_id, why in hopeless
            if panda_id in stage_of
        }  # fmt: skip
        ending.fail_many(connection, list(failures.values()), by="transfer", engine=settings.engine)
