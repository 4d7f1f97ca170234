"""`panda watch`: what jobs do, as it happens."""

import sys
from collections.abc import Sequence
from dataclasses import replace

import click

from panda.cli import columns, exits
from panda.cli.completions import complete_jobs
from panda.cli.selectors import select
from panda.cli.session import connect
from panda.cli.show import Look, emit, output_options, say
from panda.cli.verbs import Verb
from panda.client import Client
from panda.client.replies import ENDED


@click.command(
    cls=Verb,
    examples=(
        "panda watch                       # every move of a job that I may see",
        "panda watch last                  # of my newest job set, until it has ended",
        "panda watch --mine -o jsonl | jq .now",
    ),
)
@click.argument("selectors", nargs=-1, metavar="[JOB|SET]", shell_complete=complete_jobs)
@click.option("--mine", is_flag=True, help="Only my jobs.")
@click.option("--max", "most", type=click.IntRange(1), metavar="N", help="Leave after so many moves.")
@output_options
def watch(selectors: Sequence[str], mine: bool, most: int | None, look: Look) -> int:
    """Show the moves of jobs as they happen, one line each, until Ctrl-C."""
    client = connect()
    job = jobset = None
    if selectors:
        selection = select(client, selectors)
        if len(selection.names) != 1:
            raise click.UsageError("watch follows one job, one job set, or everything")
        job, jobset = next(iter(selection.jobs), None), next(iter(selection.jobsets), None)
    # One line for each move, whatever is asked for: a list that never ends has no closing bracket.
    each_line = replace(look, form="jsonl" if look.form == "json" else look.form or "plain")
    n_moves = 0
    try:
        if _is_over(client, job, jobset):
            say("it has ended")
            return exits.OK
        is_over = False
        for moved in client.follow(job=job, jobset=jobset, mine=mine).ticks():
            if moved is None:  # the stream has begun, or nothing has happened for some seconds
                if is_over or _is_over(client, job, jobset):
                    return exits.OK
                continue
            emit(each_line, [moved.raw], columns.MOVES, columns.job_name, single=True)
            sys.stdout.flush()
            n_moves += 1
            if n_moves == most:
                return exits.OK
            is_over = is_over or (moved.now in ENDED and _is_over(client, job, jobset))
    except KeyboardInterrupt:
        say(f"no longer watching; the jobs go on. Come back with: panda watch {' '.join(selectors)}".rstrip())
        return exits.INTERRUPTED
    return exits.OK


def _is_over(client: Client, job: int | None, jobset: int | None) -> bool:
    if job is not None:
        return client.job(job).is_ended
    return jobset is not None and client.jobset(jobset).is_ended
