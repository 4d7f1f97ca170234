"""`panda retry`, `panda cancel`: what is asked of jobs, one or many."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import click

from panda.cli import exits
from panda.cli.asking import confirm
from panda.cli.selectors import Selection, select
from panda.cli.session import connect
from panda.cli.show import Column, Look, emit, output_options, say
from panda.cli.verbs import Verb
from panda.client import Affected, Client, Conflict, JobSet
from panda.client.client import RETRIED_AT_ONCE

RESULTS = (Column("selector", "asked for"), Column("n", "jobs", "number"), Column("refused"))


@click.command(
    cls=Verb,
    examples=(
        "panda retry 7000412958",
        "panda retry last                        # every failed job of my newest set",
        "panda retry set:9120 --stage stage_out  # only ship the outputs again",
        "panda jobs --set last --status failed -q | panda retry - --yes",
    ),
)
@click.argument("selectors", nargs=-1, required=True, metavar="JOB|SET...")
@click.option(
    "--stage",
    type=click.Choice(["define", "broker", "stage_in", "stage_out"]),
    help="Where the new attempt starts; otherwise where the last one failed.",
)
@click.option("--reason", default="", help="Stands in the job's history.")
@click.option("--dry-run", is_flag=True, help="Tell what would be reached; change nothing.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@output_options
def retry(selectors: Sequence[str], stage: str | None, reason: str, dry_run: bool, yes: bool, look: Look) -> int:
    """Give failed jobs a new attempt. Of a job set: all its failed jobs."""
    client = connect()
    selection = select(client, selectors)
    if not _granted("retry", client, selection, lambda jobset: jobset.ledger.failed, dry_run, yes):
        return exits.OK

    def retry_set(jobset_id: int) -> Affected:
        n, refused = 0, dict[str, str]()
        while True:
            reached = client.retry_jobset(jobset_id, stage=stage, reason=reason)
            n, refused = n + reached.n, {**refused, **reached.refused}
            if not reached.n or reached.n + len(reached.refused) < RETRIED_AT_ONCE:
                return Affected(n=n, refused=refused)

    done = _each(selection, retry_set, lambda panda_id: client.retry(panda_id, stage=stage, reason=reason))
    return _told(done, look)


@click.command(
    cls=Verb,
    examples=(
        "panda cancel 7000412958",
        "panda cancel last --reason 'wrong input'",
        "panda cancel 100-120 set:9120 --yes",
    ),
)
@click.argument("selectors", nargs=-1, required=True, metavar="JOB|SET...")
@click.option("--reason", default="", help="Stands in the job's history.")
@click.option("--dry-run", is_flag=True, help="Tell what would be reached; change nothing.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@output_options
def cancel(selectors: Sequence[str], reason: str, dry_run: bool, yes: bool, look: Look) -> int:
    """Cancel jobs that have not ended. A running one hears of it at its pilot's next heartbeat."""
    client = connect()
    selection = select(client, selectors)
    if not _granted("cancel", client, selection, _n_open, dry_run, yes):
        return exits.OK
    done = _each(
        selection,
        lambda jobset_id: client.cancel_jobset(jobset_id, reason=reason),
        lambda panda_id: client.cancel(panda_id, reason=reason),
    )
    return _told(done, look)


def _n_open(jobset: JobSet) -> int:
    return jobset.ledger.accepted - jobset.ledger.final


def _granted(
    verb: str, client: Client, selection: Selection, reach: Callable[[JobSet], int], dry_run: bool, yes: bool
) -> bool:
    """Whether to go on: counted, shown, asked."""
    n_jobs = len(selection.jobs) + sum(reach(client.jobset(jobset_id)) for jobset_id in selection.jobsets)
    if dry_run:
        say(f"{verb} would reach {n_jobs} jobs: {', '.join(selection.names[:20])}")
        return False
    confirm(verb, n_jobs, selection.names, yes=yes)
    return True


def _each(
    selection: Selection, of_set: Callable[[int], Affected], of_job: Callable[[int], Affected]
) -> Iterator[dict[str, Any]]:
    """What became of each; one that is in the wrong state does not keep the others from it."""
    targets: list[tuple[str, Callable[[int], Affected], int]] = [
        *((f"set:{jobset_id}", of_set, jobset_id) for jobset_id in selection.jobsets),
        *((str(panda_id), of_job, panda_id) for panda_id in selection.jobs),
    ]
    for name, act, thing in targets:
        try:
            reached = act(thing)
            yield {"selector": name, "n": reached.n, "refused": reached.refused}
        except Conflict as problem:
            if len(targets) == 1:
                raise
            yield {"selector": name, "n": 0, "refused": {name: problem.message}}


def _told(done: Iterator[dict[str, Any]], look: Look) -> int:
    results = list(done)
    emit(look, results, RESULTS, lambda item: str(item["selector"]))
    n_jobs = sum(int(result["n"]) for result in results)
    refused = {name: why for result in results for name, why in result["refused"].items()}
    for name, reason in list(refused.items())[:10]:
        say(f"not {name}: {reason}")
    if len(refused) > 10:
        say(f"… and {len(refused) - 10} more")
    return exits.CONFLICT if refused and not n_jobs else exits.OK
