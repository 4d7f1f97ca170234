"""`panda debug`: all that is known of one job, on one screen."""

import sys
from collections.abc import Iterator, Sequence

import click

from panda.cli.commands.status import job_card
from panda.cli.completions import complete_jobs
from panda.cli.selectors import select
from panda.cli.session import connect
from panda.cli.show import plain, say
from panda.cli.verbs import Verb
from panda.client import Client

#: Moves, newest last, that are shown.
N_MOVES = 8


@click.command(cls=Verb, examples=("panda debug 7000412958", "panda debug last --tail 50"))
@click.argument("selectors", nargs=-1, required=True, metavar="JOB", shell_complete=complete_jobs)
@click.option("--tail", type=click.IntRange(0, 1000), default=10, show_default=True, help="Lines of each log.")
def debug(selectors: Sequence[str], tail: int) -> None:
    """Show why a job is where it is, its facts, its last moves, attempts and use, and the end of each log.

    While it runs, its pilot sends its logs every second for half a minute after each look.
    """
    client = connect()
    panda_id = _one(client, selectors)
    for line in _told(client, panda_id):
        click.echo(line)
    logs = client.logs(panda_id)
    newest = max((log.attempt_nr for log in logs.list()), default=0)
    for log in logs.list():
        if log.attempt_nr == newest:
            click.echo(f"\n==> {plain(log.name)} of attempt {newest}, {log.size_bytes} bytes")
            sys.stdout.flush()
            sys.stdout.buffer.write(logs.tail(log, tail)[0])
    sys.stdout.flush()
    if not newest:
        say("it wrote no log yet")


def _one(client: Client, selectors: Sequence[str]) -> int:
    """The job; of a job set with one job, that one."""
    selection = select(client, selectors)
    if selection.single_job is not None:
        return selection.single_job
    found = [job.panda_id for jobset_id in selection.jobsets for job in client.jobset_jobs(jobset_id, limit=2)]
    if len(found) != 1 or selection.jobs:
        raise click.UsageError("debug wants one job")
    return found[0]


def _told(client: Client, panda_id: int) -> Iterator[str]:
    yield client.why(panda_id).summary
    yield ""
    yield from job_card(client.job(panda_id).raw)
    yield "\nmoves"
    for event in client.events(panda_id)[-N_MOVES:]:
        was, now, reason = (plain(event.raw.get(name)) for name in ("was", "now", "reason"))
        yield f"  {plain(event.raw.get('at'))}  {was or '-'} -> {now}  {reason}".rstrip()
    for attempt in client.attempts(panda_id):
        node, outcome, message = (plain(attempt.raw.get(name)) for name in ("node", "outcome", "error_message"))
        yield f"attempt {attempt.attempt_nr} on {node or '-'}: {outcome or 'under way'} {message}".rstrip()
    points = client.usage(panda_id)["points"]
    if points:
        yield "use now: " + ", ".join(
            f"{name} {plain(value)}" for name, value in points[-1].items() if value is not None
        )
