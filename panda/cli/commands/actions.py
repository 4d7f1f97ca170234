"""`panda retry`, `cancel`, `priority`, `hold`, `release`, `rebroker`, `actions`: what is asked of jobs, one or many."""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, TypeVar, cast

import click

from panda.cli import columns, exits
from panda.cli.carrying import Manner, Whole, Wish, alone, awaited, carried_out, previewed
from panda.cli.commands.lists import SORT
from panda.cli.completions import complete_jobs
from panda.cli.selectors import Selection, select
from panda.cli.session import connect
from panda.cli.show import Look, emit, output_options
from panda.cli.verbs import Verb
from panda.client import Client

F = TypeVar("F", bound=Callable[..., Any])

STAGE = click.option(
    "--stage",
    type=click.Choice(["define", "broker", "stage_in", "stage_out"]),
    help="Where the new attempt starts; otherwise where the last one failed.",
)
SELECTORS = click.argument(
    "selectors", nargs=-1, required=True, metavar="JOB|SET|FILTER...", shell_complete=complete_jobs
)


def deed_options(command: F) -> F:
    """--reason, --dry-run, --yes and --no-wait; the command gets a `reason` and a `manner`."""

    @wraps(command)
    def with_manner(*args: Any, dry_run: bool, yes: bool, no_wait: bool, **kwargs: Any) -> Any:
        return command(*args, manner=Manner(dry_run, yes, no_wait), **kwargs)

    wrapped: Any = with_manner
    for option in (
        click.option("--no-wait", is_flag=True, help="Return when it has begun; `panda actions` tells how far it is."),
        click.option("-y", "--yes", is_flag=True, help="Do not ask."),
        click.option("--dry-run", is_flag=True, help="Tell what would be reached; change nothing."),
        click.option("--reason", default="", help="Stands in the job's history."),
    ):
        wrapped = option(wrapped)
    return cast(F, wrapped)


@click.command(
    cls=Verb,
    examples=(
        "panda retry 7000412958",
        "panda retry last                        # every failed job of my newest set",
        "panda retry set:9120 --stage stage_out  # only ship the outputs again",
        "panda retry 'status:failed site:HOL* changed:24h' --reason 'disk is back' --dry-run",
        "panda jobs --set last --status failed -q | panda retry - --yes",
    ),
)
@SELECTORS
@STAGE
@deed_options
@output_options
def retry(selectors: Sequence[str], stage: str | None, reason: str, manner: Manner, look: Look) -> int:
    """Give failed jobs a new attempt. Of a job set: all its failed jobs."""
    client = connect()
    selection = select(client, selectors, spells_out=False)
    one = selection.single_job
    if one is not None and not manner.dry_run:
        return alone(one, client.retry(one, stage=stage, reason=reason), look)
    wish = Wish("retry", reason, {"stage": stage})
    return carried_out(client, wish, previewed(client, selection, wish), look, manner)


@click.command(
    cls=Verb,
    examples=(
        "panda cancel 7000412958",
        "panda cancel last --reason 'wrong input'",
        "panda cancel 100-120 set:9120 --yes",
        "panda cancel 'owner:ann status:pending,assigned' --dry-run",
    ),
)
@SELECTORS
@deed_options
@output_options
def cancel(selectors: Sequence[str], reason: str, manner: Manner, look: Look) -> int:
    """Cancel jobs that have not ended. A running one hears of it at its pilot's next heartbeat."""
    client = connect()
    selection = select(client, selectors, spells_out=False)
    one = selection.single_job
    if one is not None and not manner.dry_run:
        return alone(one, client.cancel(one, reason=reason), look)
    wish = Wish("cancel", reason)
    wholes = [Whole(each, _n_open(client, each), client.cancel_jobset) for each in selection.jobsets]
    return carried_out(client, wish, previewed(client, _without_sets(selection), wish), look, manner, wholes)


@click.command(
    cls=Verb,
    examples=(
        "panda priority last --to 500",
        "panda priority 'owner:ann status:activated' --to -10 --reason 'not urgent' --yes",
    ),
)
@SELECTORS
@click.option("--to", "priority", type=click.IntRange(-10_000, 10_000), required=True, help="Larger goes first.")
@deed_options
@output_options
def priority(selectors: Sequence[str], priority: int, reason: str, manner: Manner, look: Look) -> int:
    """Give waiting jobs another priority. A point of it is worth a minute of waiting."""
    client = connect()
    wish = Wish("priority", reason, {"priority": priority})
    previews = previewed(client, select(client, selectors, spells_out=False), wish)
    return carried_out(client, wish, previews, look, manner)


@click.command(
    cls=Verb,
    examples=(
        "panda hold 7000412958 --reason 'wait for the new calibration'",
        "panda hold last",
        "panda hold 'owner:ann status:activated site:HOL*' --dry-run",
        "panda jobs 'waits_for:operator status:pending,defined'    # what is held",
    ),
)
@SELECTORS
@deed_options
@output_options
def hold(selectors: Sequence[str], reason: str, manner: Manner, look: Look) -> int:
    """Let jobs that no pilot has stand still, until `panda release`. They give their queue back."""
    client = connect()
    selection = select(client, selectors, spells_out=False)
    one = selection.single_job
    if one is not None and not manner.dry_run:
        return alone(one, client.hold(one, reason=reason), look)
    wish = Wish("hold", reason)
    wholes = [Whole(each, client.jobset(each).ledger.waiting, client.hold_jobset) for each in selection.jobsets]
    return carried_out(client, wish, previewed(client, _without_sets(selection), wish), look, manner, wholes)


@click.command(
    cls=Verb,
    examples=(
        "panda release 7000412958",
        "panda release last",
        "panda release set:9120   # also one whose parents did not finish (on_parent_failure: hold)",
        "panda release 'owner:ann' --yes",
    ),
)
@SELECTORS
@deed_options
@output_options
def release(selectors: Sequence[str], reason: str, manner: Manner, look: Look) -> int:
    """Let held jobs go on. What an operator holds, operators release."""
    client = connect()
    selection = select(client, selectors, spells_out=False)
    one = selection.single_job
    if one is not None and not manner.dry_run:
        return alone(one, client.release(one, reason=reason), look)
    wish = Wish("release", reason)
    held = {each: client.actions.preview("release", f"jobset:{each}", reason=reason).n for each in selection.jobsets}
    wholes = [Whole(each, n, client.release_jobset) for each, n in held.items()]
    return carried_out(client, wish, previewed(client, _without_sets(selection), wish), look, manner, wholes)


@click.command(
    cls=Verb,
    examples=(
        "panda rebroker 7000412958",
        "panda rebroker last --exclude MERIDIAN-3 --reason 'its storage is slow'",
        "panda rebroker 'queue:NORTH-Q status:activated' --exclude 'NORTH*' --dry-run",
    ),
)
@SELECTORS
@click.option("--exclude", multiple=True, metavar="SITE", help="Never there again; * fits anything.")
@deed_options
@output_options
def rebroker(selectors: Sequence[str], exclude: Sequence[str], reason: str, manner: Manner, look: Look) -> int:
    """Let brokerage look again at jobs that no pilot has. They rather go elsewhere than where they were."""
    client = connect()
    selection = select(client, selectors, spells_out=False)
    one = selection.single_job
    if one is not None and not manner.dry_run:
        return alone(one, client.rebroker(one, exclude=exclude, reason=reason), look)
    wish = Wish("rebroker", reason, {"exclude": list(exclude)})
    return carried_out(client, wish, previewed(client, selection, wish), look, manner)


@click.command(
    cls=Verb,
    examples=("panda actions", "panda actions 12 --wait", "panda actions --filter 'status:running' -o json"),
)
@click.argument("action_id", required=False, type=click.IntRange(1), metavar="[ACTION]")
@click.option("--wait", "waiting", is_flag=True, help="Wait until it has been carried out.")
@click.option("--filter", "text", metavar="FILTER", help="Only those that fit, as 'status:running by:ann'.")
@SORT
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="At most so many.")
@output_options
def actions(action_id: int | None, waiting: bool, text: str | None, sort: str | None, limit: int, look: Look) -> int:
    """Show actions on many jobs, newest first, or how far one is."""
    client = connect()
    if waiting and action_id is None:
        raise click.UsageError("--wait wants the number of an action")
    if action_id is None:
        found = (each.raw for each in client.find("actions", text, sort=sort, limit=limit))
        emit(look, found, columns.ACTIONS, columns.action_name)
        return exits.OK
    action = awaited(client, action_id) if waiting else client.actions.show(action_id)
    emit(look, [action.raw], columns.ACTIONS, columns.action_name, single=True)
    return exits.OK


def _without_sets(selection: Selection) -> Selection:
    return Selection(selection.jobs, (), selection.filters)


def _n_open(client: Client, jobset_id: int) -> int:
    """Jobs of a set that have not ended, also those that are not made yet."""
    ledger = client.jobset(jobset_id).ledger
    return ledger.accepted - ledger.final
