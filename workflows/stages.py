"""The seven stages, in order. Each gets the jobs that are its own, makes one call down for the whole set,
and returns those that go on at once; what the others need next it says itself. All are safe to run twice."""

from functools import partial

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

#: A storage that does not answer is asked for a job's outputs again after this, twice as long each further time up to
#: the longest; about ten minutes in all, and fewer times than make a job poison.
AWAY_S, LONGEST_AWAY_S, AWAY_TRIES = 3.0, 300.0, 9


@app.task(**stage_options(Stage.DEFINE))
def define(connection: Connection, panda_ids: list[int], chain_id: str | None) -> list[int]:
    """Bind the inputs to the catalogue; a job that names a file that does not exist fails here."""
    problems = binding.bind_inputs(connection, panda_ids)
    failures = [Failure(i, Stage.DEFINE, "define:no_input", why) for i, why in problems.items()]
    ending.fail_many(connection, failures, by="define", engine=current().engine)
    good = [panda_id for panda_id in panda_ids if panda_id not in problems]
    return move_many(
        connection, good, JobStatus.PENDING, JobStatus.DEFINED, by="define", stage=Stage.DEFINE, chain_id=chain_id
    )


@app.task(**stage_options(Stage.BROKER))
def broker(connection: Connection, panda_ids: list[int], chain_id: str | None) -> list[int]:
    """Choose a queue for each job; those that fit none wait for one."""
    return brokerage.place(connection, panda_ids, by="broker", chain_id=chain_id, settings=current())


@app.task(**stage_options(Stage.STAGE_IN))
def stage_in(connection: Connection, panda_ids: list[int], chain_id: str | None) -> list[int]:
    """Bring the inputs to the chosen sites. Jobs whose inputs are there go on; the others are parked,
    and the last transfer of each makes it due for `activate`."""
    return transfers.request_inputs(connection, panda_ids, deadline_s=current().data.stage_in_deadline_s)


@app.task(**stage_options(Stage.ACTIVATE))
def activate(connection: Connection, panda_ids: list[int], chain_id: str | None) -> list[int]:
    """Everything is in place: pilots may take these from now on."""
    active = move_many(
        connection, panda_ids, JobStatus.ASSIGNED, JobStatus.ACTIVATED, by="activate", stage=Stage.ACTIVATE,
        chain_id=chain_id,
    )  # fmt: skip
    outputs.reserve(connection, active)
    ready.offer(connection, active)
    return active


def wait_for_pilot(connection: Connection, panda_ids: list[int]) -> list[int]:
    """The guard of `dispatch`, which is also all that it does."""
    for_s = current().engine.pilot_wait_s
    return due.take_and_park(connection, panda_ids, Stage.DISPATCH, waits_for=Wait.PILOT, for_s=for_s)


@app.task(**stage_options(Stage.DISPATCH, guard=wait_for_pilot))
def dispatch(connection: Connection, panda_ids: list[int], chain_id: str | None) -> list[int]:
    """Wait for a pilot. Harvester sees the demand in `ready`; nobody survives, the chain ends."""
    return []


@app.task(**stage_options(Stage.STAGE_OUT, before=staticmethod(outputs.verify)))
def stage_out(connection: Connection, panda_ids: list[int], chain_id: str | None, looked: outputs.Looked) -> list[int]:
    """Register the outputs that were verified, ship what belongs elsewhere. What was found out about an attempt
    before says nothing about the newest: such a job is looked at again."""
    found = outputs.reported(connection, panda_ids)
    outdated = looked.outdated(found)
    due.wake(connection, sorted(set(outdated) & set(panda_ids)), Stage.STAGE_OUT)
    mine = {panda_id: looked[panda_id] for panda_id in panda_ids if panda_id in looked and panda_id not in outdated}
    away = _put_off(connection, {i: problem for i, problem in mine.items() if isinstance(problem, outputs.Away)})
    failures = [
        Failure(i, Stage.STAGE_OUT, "stage_out:storage_away" if isinstance(problem, outputs.Away) else
                "stage_out:bad_output", problem, again=isinstance(problem, outputs.Away))
        for i, problem in mine.items() if i not in away
    ]  # fmt: skip
    ending.fail_many(connection, failures, by="stage_out", engine=current().engine)
    good = [panda_id for panda_id in panda_ids if panda_id not in looked and panda_id not in outdated]
    written = [row for row in found if row.panda_id in set(good)]
    return outputs.register(connection, good, written, deadline_s=current().data.stage_in_deadline_s)


def _put_off(connection: Connection, problems: dict[int, str]) -> set[int]:
    """Jobs whose outputs are on a storage that is away come again later. Returns them, without those that came too
    often: the work of these is done again elsewhere."""
    by_problem: dict[str, list[int]] = {}
    for panda_id, problem in problems.items():
        by_problem.setdefault(problem, []).append(panda_id)
    tries: dict[int, int] = {}
    for problem, panda_ids in by_problem.items():
        tries |= due.put_off(
            connection, panda_ids, stage=Stage.STAGE_OUT, first_s=AWAY_S, longest_s=LONGEST_AWAY_S, error=problem
        )
    return {panda_id for panda_id, n in tries.items() if n < AWAY_TRIES}


@app.task(**stage_options(Stage.ARCHIVE, guard=partial(due.mine, stage=Stage.ARCHIVE)))
def archive(connection: Connection, panda_ids: list[int], chain_id: str | None) -> list[int]:
    """Settle accounts and move the jobs to the archive. The last stage: nobody survives it."""
    archiving.archive_many(connection, panda_ids, by="archive", chain_id=chain_id)
    return []
