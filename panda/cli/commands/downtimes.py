"""`panda downtimes`: when sites, queues and storages are not to be used."""

from collections.abc import Iterator

import click

from panda.cli import columns, exits
from panda.cli.commands.lists import LIMIT, SORT, limited
from panda.cli.completions import complete_queues
from panda.cli.problems import CommandProblem
from panda.cli.session import connect
from panda.cli.show import Item, Look, emit, output_options
from panda.cli.times import moment
from panda.cli.verbs import Verb, VerbGroup
from panda.client import Client

REASON = click.option("--reason", required=True, help="For those who wonder; kept in the audit log.")
KINDS = {"queue": "queues", "site": "sites", "storage": "storages"}


@click.group(
    cls=VerbGroup,
    invoke_without_command=True,
    examples=(
        "panda downtimes", "panda downtimes --all -o json",
        "panda downtimes add NORTH --from 2026-02-01T08:00 --until 2026-02-01T18:00 --reason 'new cooling'",
    ),
)  # fmt: skip
@click.option("--filter", "text", metavar="FILTER", help="Only those that fit, as 'site:NORTH starts>2026-01-31'.")
@click.option("--all", "is_all", is_flag=True, help="Those that are over, too.")
@SORT
@LIMIT
@output_options
@click.pass_context
def downtimes(
    context: click.Context, text: str | None, is_all: bool, sort: str | None, limit: int | None, look: Look
) -> None:
    """List downtimes that are planned or going on; or plan, change and cancel them."""
    if context.invoked_subcommand is None:
        wanted = " ".join(
            part for part in ("" if is_all else "status:planned,now", f"({text})" if text else "") if part
        )
        found: Iterator[Item] = (
            each.raw for each in connect().find("downtimes", wanted or None, sort=sort, limit=limit)
        )
        limited(look, found, columns.DOWNTIMES, columns.own_name, limit)


@downtimes.command(
    "add",
    cls=Verb,
    examples=(
        "panda downtimes add NORTH-Q --until 6h --reason 'kernel'          # from now on",
        "panda downtimes add NORTH --from 2026-02-01T08:00 --until 2026-02-01T18:00 --reason 'new cooling'",
    ),
)
@click.argument("target", metavar="SITE|QUEUE|STORAGE", shell_complete=complete_queues)
@click.option("--from", "since", metavar="WHEN", help="3d, or 2026-02-01T08:00; left out: now.")
@click.option("--until", required=True, metavar="WHEN", help="3d (from now), or 2026-02-01T18:00.")
@click.option("--kind", type=click.Choice(list(KINDS)), help="Where a site and a queue have the same name.")
@click.option("--name", default="", help="Left out: one is made.")
@REASON
@output_options
def add(target: str, since: str | None, until: str, kind: str | None, name: str, reason: str, look: Look) -> None:
    """Plan a downtime. Brokerage sends nothing there, nor before it what would not be done in time."""
    client = connect()
    start = moment(since, "--from") if since else None
    end = moment(until, "--until")
    made = client.places.plan_downtime(
        kind or _kind_of(client, target), target, since=start, until=end, reason=reason, name=name
    )
    emit(look, [made.raw], columns.DOWNTIMES, columns.own_name, single=True)


@downtimes.command(
    "change",
    cls=Verb,
    examples=(
        "panda downtimes change NORTH-20260201T0800 --until 2026-02-02T12:00 --reason 'it takes longer'",
        "panda downtimes change cooling --from 2d --until 3d --reason 'the engineers are late'",
    ),
)
@click.argument("name")
@click.option("--from", "since", metavar="WHEN", help="Another start.")
@click.option("--until", metavar="WHEN", help="Another end.")
@REASON
@output_options
def change(name: str, since: str | None, until: str | None, reason: str, look: Look) -> None:
    """Give a downtime another start or end."""
    if not since and not until:
        raise click.UsageError("say --from, --until or both")
    start = moment(since, "--from") if since else None
    end = moment(until, "--until") if until else None
    changed = connect().places.change_downtime(name, since=start, until=end, reason=reason)
    emit(look, [changed.raw], columns.DOWNTIMES, columns.own_name, single=True)


@downtimes.command(
    "cancel",
    cls=Verb,
    examples=(
        "panda downtimes cancel NORTH-20260201T0800 --reason 'it is cooled'",
        "panda downtimes cancel cooling --reason 'postponed'",
    ),
)
@click.argument("name")
@REASON
@output_options
def cancel(name: str, reason: str, look: Look) -> None:
    """It does not take place, or is over."""
    done = connect().places.cancel_downtime(name, reason=reason)
    emit(look, [{"name": name, "n": done.n}], columns.DONE, columns.own_name, single=True)


def _kind_of(client: Client, target: str) -> str:
    found = [kind for kind, noun in KINDS.items() if any(True for _ in client.find(noun, f'name:"{target}"', limit=1))]
    if len(found) == 1:
        return found[0]
    if not found:
        raise CommandProblem(
            f"there is no site, queue or storage {target}", code="not_found", exit_code=exits.NOT_FOUND
        )
    raise click.UsageError(f"{target} is a {' and a '.join(found)}; say which with --kind")
