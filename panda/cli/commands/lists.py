"""`panda jobs`, `panda sets`: lists."""

from collections.abc import Iterator, Sequence
from itertools import islice

import click

from panda.cli import columns
from panda.cli.selectors import select
from panda.cli.session import connect
from panda.cli.show import Column, Item, Look, emit, output_options, say
from panda.cli.verbs import Verb
from panda.client import Client

#: Lines of a table, unless --limit says otherwise. Elsewhere a list is whole.
TABLE_LINES = 100


@click.command(
    cls=Verb,
    examples=(
        "panda jobs                                   # the newest that I may see",
        "panda jobs set:9120 --status failed",
        "panda jobs --set last --status failed -q | panda retry - --yes",
        "panda jobs 100-120 -o json --fields panda_id,status,exit_code",
    ),
)
@click.argument("selectors", nargs=-1, metavar="[JOB|SET]...")
@click.option("--status", multiple=True, metavar="S", help="Only in this status; several with commas.")
@click.option("--set", "jobset", metavar="ID", help="Only of this job set; `last` is my newest.")
@click.option("--owner", metavar="NAME", help="Only of this user.")
@click.option("--queue", metavar="NAME", help="Only at this queue.")
@click.option("--limit", type=click.IntRange(1), help=f"At most so many; {TABLE_LINES} in a table.")
@output_options
def jobs(
    selectors: Sequence[str],
    status: Sequence[str],
    jobset: str | None,
    owner: str | None,
    queue: str | None,
    limit: int | None,
    look: Look,
) -> None:
    """List jobs, newest first: those that are named, or all that fit."""
    client = connect()
    named = [*selectors, *([jobset if not jobset.isdecimal() else f"set:{jobset}"] if jobset else [])]
    statuses = ",".join(status) or None
    if not named:
        found: Iterator[Item] = (job.raw for job in client.jobs(status=statuses, owner=owner, queue=queue))
    else:
        found = _named(client, named, statuses, owner, queue)
    _limited(look, found, columns.JOBS, columns.job_name, limit)


def _named(
    client: Client, named: Sequence[str], statuses: str | None, owner: str | None, queue: str | None
) -> Iterator[Item]:
    selection = select(client, named)
    for jobset_id in selection.jobsets:
        for job in client.jobs(jobset=jobset_id, status=statuses, owner=owner, queue=queue):
            yield job.raw
    wanted = statuses.split(",") if statuses else None
    for panda_id in selection.jobs:
        job = client.job(panda_id)
        if (wanted is None or job.status in wanted) and owner in (None, job.owner) and queue in (None, job.queue):
            yield job.raw


@click.command(
    cls=Verb,
    examples=("panda sets", "panda sets --owner ann --limit 10", "panda sets --running -q | panda wait -"),
)
@click.option("--owner", metavar="NAME", help="Only of this user.")
@click.option("--mine", is_flag=True, help="Only mine.")
@click.option("--running", is_flag=True, help="Only those that have not ended.")
@click.option("--limit", type=click.IntRange(1), help=f"At most so many; {TABLE_LINES} in a table.")
@output_options
def sets(owner: str | None, mine: bool, running: bool, limit: int | None, look: Look) -> None:
    """List job sets, newest first."""
    client = connect()
    whose = str(client.whoami()["subject"]) if mine else owner
    found = (jobset.raw for jobset in client.jobsets(owner=whose) if not (running and jobset.is_ended))
    shown = columns.SETS_WITH_BAR if look.is_for_people else columns.SETS
    _limited(look, found, shown, columns.set_name, limit)


def _limited(look: Look, found: Iterator[Item], shown: Sequence[Column], name: columns.Name, limit: int | None) -> None:
    most = limit or (TABLE_LINES if look.is_for_people else None)
    n_shown = emit(look, islice(found, most), shown, name)
    if limit is None and n_shown == most and next(found, None) is not None:
        say(f"these are the newest {most}; --limit shows more")
