"""One wait of the command line: its progress, its end, its exit code. `panda wait` and `submit --wait`."""

from collections.abc import Callable, Sequence

from panda.cli import columns, exits, units
from panda.cli.problems import CommandProblem
from panda.cli.progress import shown
from panda.cli.selectors import Selection
from panda.cli.show import Column, Look, emit, say
from panda.client import Client, Waited

#: What `--for` may name, and what it means.
UNTIL: dict[str, Callable[[Waited], bool]] = {
    "done": lambda waited: waited.is_ended,
    "running": lambda waited: waited.is_ended or _has(waited, ("starting", "running")),
    "any-failed": lambda waited: waited.is_ended or _has(waited, ("failed",)),
}
_JOBS: Sequence[Column] = (*columns.JOBS[:4], Column("exit_code", "exit", "number"), *columns.JOBS[6:])


def wait_for(
    client: Client,
    selection: Selection,
    look: Look,
    *,
    until: str = "done",
    timeout: str | None = None,
    job_code: bool = False,
) -> int:
    """Wait, show how it goes, write what was waited for; returns the exit code.

    Ctrl-C only ends the watching: the jobs go on, and how to come back is said.

    Raises:
        WaitTimeout, Unavailable: as `Client.wait`.
    """
    timeout_s = None if timeout is None else seconds_of(timeout)
    try:
        with shown(look.form == "name") as on_look:
            waited = client.wait(
                jobsets=selection.jobsets, jobs=selection.jobs, timeout_s=timeout_s, until=UNTIL[until], on_look=on_look
            )
    except KeyboardInterrupt:
        say(f"\nno longer watching; the jobs go on. Come back with: panda wait {' '.join(selection.names[:20])}")
        return exits.INTERRUPTED
    _write(waited, look)
    if job_code:
        return code_of_job(waited)
    if not waited.is_ended and until != "any-failed":
        return exits.OK
    return exits.OK if not _has(waited, ("failed", "cancelled", "closed")) else exits.JOBS_FAILED


def code_of_job(waited: Waited) -> int:
    """The exit code of the one job's payload; JOBS_FAILED if it failed without one."""
    job = waited.jobs[0]
    if job.status == "finished":
        return job.exit_code or exits.OK
    return job.exit_code % 256 if job.exit_code and job.exit_code % 256 else exits.JOBS_FAILED


def seconds_of(text: str, option: str = "--timeout") -> int:
    """What an option says, in seconds. Raises CommandProblem."""
    try:
        return units.seconds(text)
    except ValueError as problem:
        raise CommandProblem(f"{option}: {problem}", code="usage", exit_code=exits.USAGE) from None


def _write(waited: Waited, look: Look) -> None:
    is_single = len(waited.jobsets) + len(waited.jobs) == 1
    if waited.jobsets:
        shown_columns = columns.SETS_WITH_BAR if look.is_for_people else columns.SETS
        emit(look, [each.raw for each in waited.jobsets], shown_columns, columns.set_name, single=is_single)
    if waited.jobs:
        emit(look, [each.raw for each in waited.jobs], _JOBS, columns.job_name, single=is_single)


def _has(waited: Waited, words: Sequence[str]) -> bool:
    counts = waited.by_status
    return any(counts.get(word) for word in words)
