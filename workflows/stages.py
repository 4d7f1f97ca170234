"""The seven stages, in order. Each gets the jobs that are its own, makes one call down for the whole set,
says what they need next, and returns those that go on at once. All are safe to run twice."""

from sqlalchemy.engine import Connection

from panda.brokerage import broker as brokerage
from panda.dataservice import binding, outputs, transfers
from panda.jobs import archive as archiving
from panda.jobs import due, ending, ready
from panda.jobs.ending import Failure
from panda.jobs.transitions import move_many
from panda.settings import current
from panda.states import JobStatus, Stage, Wait
from workflows.app import app
from workflows.stage import stage_options


@app.task(**stage_options(Stage.DEFINE))
def define(connection: Connection, panda_ids: list[int], chain_id: str | None) -> list[int]:
    """Bind the inputs to the catalogue; a job that names a file that does not exist fails here."""
    problems = binding.bind_inputs(connection, panda_ids)
    failures = [Failure(i, Stage.DEFINE, "define:no_input", why) for i, why in problems.items()]
    ending.fail_many(connection, failures, by="define", engine=current().engine)
    good = [panda_id for panda_id in panda_ids if panda_id not in problems]
    good = move_many(
        connection, good, JobStatus.PENDING, JobStatus.DEFINED, by="define", stage=Stage.DEFINE, chain_id=chain_id
    )
    due.advance(connection, good, Stage.BROKER)
    return good


@app.task(**stage_options(Stage.BROKER))
def broker(connection: Connection, panda_ids: list[int], chain_id: str | None) -> list[int]:
    """Choose a queue for each job; those that fit none wait for one."""
    placed = brokerage.place(connection, panda_ids, by="broker", chain_id=chain_id, settings=current())
    due.advance(connection, placed, Stage.STAGE_IN)
    return placed


@app.task(**stage_options(Stage.STAGE_IN))
def stage_in(connection: Connection, panda_ids: list[int], chain_id: str | None) -> list[int]:
    """Bring the inputs to the chosen sites. Jobs whose inputs are there go on; the others are parked,
    and the last transfer of each makes it due for `activate`."""
    there = transfers.request_inputs(connection, panda_ids, deadline_s=current().data.stage_in_deadline_s)
    due.advance(connection, there, Stage.ACTIVATE)
    return there


@app.task(**stage_options(Stage.ACTIVATE))
def activate(connection: Connection, panda_ids: list[int], chain_id: str | None) -> list[int]:
    """Everything is in place: pilots may take these from now on."""
    active = move_many(
        connection, panda_ids, JobStatus.ASSIGNED, JobStatus.ACTIVATED, by="activate", stage=Stage.ACTIVATE,
        chain_id=chain_id,
    )  # fmt: skip
    outputs.reserve(connection, active)
    ready.offer(connection, active)
    due.advance(connection, active, Stage.DISPATCH)
    return active


@app.task(**stage_options(Stage.DISPATCH))
def dispatch(connection: Connection, panda_ids: list[int], chain_id: str | None) -> list[int]:
    """Wait for a pilot. Harvester sees the demand in `ready`; nobody survives, the chain ends."""
    due.park(connection, panda_ids, stage=Stage.DISPATCH, waits_for=Wait.PILOT, for_s=current().engine.pilot_wait_s)
    return []


@app.task(**stage_options(Stage.STAGE_OUT, before=staticmethod(outputs.verify)))
def stage_out(
    connection: Connection, panda_ids: list[int], chain_id: str | None, problems: dict[int, str]
) -> list[int]:
    """Register the outputs that were verified, ship what belongs elsewhere."""
    failures = [Failure(i, Stage.STAGE_OUT, "stage_out:bad_output", problems[i]) for i in panda_ids if i in problems]
    ending.fail_many(connection, failures, by="stage_out", engine=current().engine)
    good = [panda_id for panda_id in panda_ids if panda_id not in problems]
    home = outputs.register(connection, good, deadline_s=current().data.stage_in_deadline_s)
    due.advance(connection, home, Stage.ARCHIVE)
    return home


@app.task(**stage_options(Stage.ARCHIVE))
def archive(connection: Connection, panda_ids: list[int], chain_id: str | None) -> list[int]:
    """Settle accounts and move the jobs to the archive. The last stage: nobody survives it."""
    archiving.archive_many(connection, panda_ids, by="archive", chain_id=chain_id)
    return []
