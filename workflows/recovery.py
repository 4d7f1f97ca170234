"""What a worker had in its hands when it died is due again at once, not after `resend_s`.

Celery gives the messages of a dead worker out again after its visibility timeout, and runs those of a dead
pool child again after minutes; the database knows better. A second message for a job does no harm (law 2),
and the relay counts what it sends again, so a job that kills its worker ends up alone (law 9).
"""

from collections.abc import Sequence
from typing import Any

from celery.exceptions import WorkerLostError
from celery.signals import task_failure, worker_ready

from panda.dataservice import transfers
from panda.db.session import run
from panda.jobs import relaying
from panda.jobs.submission import CHANNEL
from panda.logs import Log
from workflows.app import begin
from workflows.stage import StageTask

log = Log("panda.recovery")


@worker_ready.connect
def resend_all(sender: Any = None, **_: Any) -> None:
    """A worker that starts may follow one that died: whatever was sent and not finished is due again. What the dead
    one had in its hands comes last, one group after another, and only that delivery counts (law 9)."""
    with begin()() as connection:
        n_begun = relaying.resend_begun(connection, str(getattr(sender, "hostname", "")))
        n_jobs = relaying.resend_waiting(connection)
        n_transfers = transfers.resend_all(connection)
        run(connection, f"NOTIFY {CHANNEL}")
    if n_begun or n_jobs or n_transfers:
        log.info(
            "what was sent before this worker started is due again", jobs=n_jobs, begun=n_begun, transfers=n_transfers
        )


@task_failure.connect
def resend_lost(
    sender: Any = None, task_id: str = "", exception: object = None, args: Sequence[Any] = (), **_: Any
) -> None:
    """A pool child died under a stage: its jobs are due again."""
    if not isinstance(exception, WorkerLostError) or not isinstance(sender, StageTask) or not args:
        return
    with begin()() as connection:
        n_jobs = relaying.resend(connection, task_id, args[0])
        run(connection, f"NOTIFY {CHANNEL}")
    log.warning("a worker died; its jobs are due again", stage=sender.stage, jobs=n_jobs)
