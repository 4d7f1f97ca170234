"""`panda jobs`, `panda sets`, `panda count`, `panda errors`: lists and counts of jobs."""

from collections.abc import Iterator, Sequence
from itertools import islice

import click

from panda.cli import columns
from panda.cli.completions import complete_jobs, complete_queues
from panda.cli.selectors import Selection, select
from panda.cli.session import connect
from panda.cli.show import Column, Item, Look, emit, output_options, say
from panda.cli.verbs import Verb
from panda.client import Client
from panda.client.calls import mapping

#: Lines of a table, unless --limit says otherwise. Elsewhere a list is whole.
TABLE_LINES = 100
LIMIT = click.option("--limit", type=click.IntRange(1), help=f"At most so many; {TABLE_LINES} in a table.")
SORT = click.option("--sort", metavar="FIELD", help="In this order; -FIELD: the other way.")
FILTER = click.option("--filter", "text", metavar="FILTER", help="Only those that fit, as 'status:failed changed:24h'.")


@click.command(
    cls=Verb,
    examples=(
        "panda jobs                                   # the newest that I may see",
        "panda jobs 'status:failed site:HOL* changed:24h'",
        "panda jobs set:9120 --status failed",
        "panda jobs --set last --status failed -q | panda retry - --yes",
        "panda jobs 100-120 -o json --fields panda_id,status,exit_code",
    ),
)
@click.argument("selectors", nargs=-1, metavar="[JOB|SET|FILTER]...", shell_complete=complete_jobs)
@click.option("--status", multiple=True, metavar="S", help="Only in this status; several with commas.")
@click.option("--set", "jobset", metavar="ID", help="Only of this job set; `last` is my newest.")
@click.option("--owner", metavar="NAME", help="Only of this user.")
@click.option("--queue", metavar="NAME", help="Only at this queue.", shell_complete=complete_queues)
@FILTER
@SORT
@LIMIT
@output_options
def jobs(
    selectors: Sequence[str],
    status: Sequence[str],
    jobset: str | None,
    owner: str | None,
    queue: str | None,
    text: str | None,
    sort: str | None,
    limit: int | None,
    look: Look,
) -> None:
    """List jobs, newest first: those that are named, or all that fit."""
    client = connect()
    named = [*selectors, *([jobset if not jobset.isdecimal() else f"set:{jobset}"] if jobset else [])]
    wanted = Wanted(",".join(status) or None, owner, queue, text, sort)
    found = wanted.among(client, select(client, named, spells_out=False)) if named else wanted.of(client)
    limited(look, found, columns.JOBS, columns.job_name, limit)


class Wanted:
    """What --status, --owner, --queue and --filter leave of jobs; the server looks, never we."""

    def __init__(
        self, status: str | None, owner: str | None, queue: str | None, text: str | None, sort: str | None = None
    ) -> None:
        self.status, self.owner, self.queue, self.text, self.sort = status, owner, queue, text, sort

    def of(self, client: Client, more: str = "", jobset: int | None = None) -> Iterator[Item]:
        """Jobs that fit, and fit `more`."""
        text = " ".join(f"({part})" if part and more else part for part in (more, self.text or "") if part) or None
        found = client.jobs(
            status=self.status, jobset=jobset, owner=self.owner, queue=self.queue, filter=text, sort=self.sort
        )
        return (job.raw for job in found)

    def among(self, client: Client, selection: Selection) -> Iterator[Item]:
        """Those of a selection that fit; a job that is named and does not exist is an error."""
        for text in selection.filters:
            yield from self.of(client, text)
        for jobset_id in selection.jobsets:
            yield from self.of(client, jobset=jobset_id)
        for panda_id in selection.jobs:
            if self.text:
                yield from self.of(client, f"panda_id:{panda_id}")
                continue
            job = client.job(panda_id)
            statuses = self.status.split(",") if self.status else [job.status]
            if job.status in statuses and self.owner in (None, job.owner) and self.queue in (None, job.queue):
                yield job.raw


@click.command(
    cls=Verb,
    examples=(
        "panda sets",
        "panda sets --owner ann --limit 10",
        "panda sets --filter 'failed>0 created:7d'",
        "panda sets --running -q | panda wait -",
    ),
)
@click.option("--owner", metavar="NAME", help="Only of this user.")
@click.option("--mine", is_flag=True, help="Only mine.")
@click.option("--running", is_flag=True, help="Only those that have not ended.")
@FILTER
@SORT
@LIMIT
@output_options
def sets(
    owner: str | None, mine: bool, running: bool, text: str | None, sort: str | None, limit: int | None, look: Look
) -> None:
    """List job sets, newest first."""
    client = connect()
    whose = str(client.whoami()["subject"]) if mine else owner
    found = (
        jobset.raw
        for jobset in client.find("jobsets", text, sort=sort, owner=whose)
        if not (running and jobset.is_ended)
    )
    shown = columns.SETS_WITH_BAR if look.is_for_people else columns.SETS
    limited(look, found, shown, columns.set_name, limit)


@click.command(
    cls=Verb,
    examples=(
        "panda count                                    # jobs by status",
        "panda count 'changed:24h' --by site,status",
        "panda count 'set:9120 status:failed' --by error,node -o csv",
    ),
)
@click.argument("text", required=False, metavar="[FILTER]")
@click.option("--by", default="status", show_default=True, metavar="A,B", help="Up to three fields.")
@output_options
def count(text: str | None, by: str, look: Look) -> None:
    """Count jobs by what they have in common, the largest groups first."""
    _counted(text, [name.strip() for name in by.split(",") if name.strip()], look)


@click.command(
    cls=Verb, examples=("panda errors", "panda errors 'set:9120'", "panda errors 'changed:24h' --by site -o json")
)
@click.argument("text", required=False, metavar="[FILTER]")
@click.option("--by", default="", metavar="A,B", help="Up to two more fields.")
@output_options
def errors(text: str | None, by: str, look: Look) -> None:
    """Count failed jobs by their error."""
    fields = ["error", *(name.strip() for name in by.split(",") if name.strip())]
    _counted(f"({text}) status:failed" if text else "status:failed", fields, look)


def _counted(text: str | None, by: Sequence[str], look: Look) -> None:
    if not by:
        raise click.UsageError("--by names at least one field")
    found = connect().counts(text, by=by)
    groups = [{**mapping(each, "count", by=dict)["by"], "n": each.get("n")} for each in found["data"]]
    shown = (Column("n", "jobs", "number"), *(Column(name) for name in by))
    emit(look, groups, shown, lambda item: "\t".join(str(item.get(name)) for name in by))
    if not found.get("exact", True):
        say(f"only the newest jobs were looked at, down to {found.get('down_to')}")


def limited(look: Look, found: Iterator[Item], shown: Sequence[Column], name: columns.Name, limit: int | None) -> None:
    """Write a list; in a table at most TABLE_LINES of it, unless --limit says otherwise."""
    most = limit or (TABLE_LINES if look.is_for_people else None)
    n_shown = emit(look, islice(found, most), shown, name)
    if limit is None and n_shown == most and next(found, None) is not None:
        say(f"these are the newest {most}; --limit shows more")
