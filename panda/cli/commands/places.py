"""`panda site set`: where jobs may run; `panda sites`: what is known of places, and what it was before."""

from collections.abc import Iterator, Sequence

import click

from panda.cli import columns, exits
from panda.cli.commands.lists import LIMIT, limited
from panda.cli.completions import complete_queues
from panda.cli.problems import CommandProblem
from panda.cli.session import connect
from panda.cli.show import Column, Item, Look, emit, output_options, say
from panda.cli.sitefiles import document_of
from panda.cli.times import moment
from panda.cli.verbs import Verb, VerbGroup

REASON = click.option("--reason", required=True, help="For those who wonder; kept in the audit log.")
STATUSES = ("online", "test", "brokeroff", "offline")


@click.group(
    cls=VerbGroup,
    examples=(
        "panda site set NORTH-Q offline --reason 'disk full'",
        "panda site set NORTH online --reason 'disk replaced'",
    ),
)
def site() -> None:
    """Open or close a queue, or all queues of a site."""


@site.command(
    "set",
    cls=Verb,
    examples=(
        "panda site set NORTH-Q offline --reason 'cooling fails'",
        "panda site set NORTH online --reason 'cooled'      # all queues of the site",
        "panda site set NORTH-Q brokeroff --reason 'new kernel' --until 6h",
        "panda site set NORTH-Q offline --reason 'move' --until 2026-01-31T18:00 --then test",
        "panda site set NORTH-Q test --reason 'is it well again?' --tried",
    ),
)
@click.argument("name", metavar="QUEUE|SITE", shell_complete=complete_queues)
@click.argument("status", type=click.Choice(STATUSES))
@REASON
@click.option("--until", metavar="WHEN", help="It goes back by itself then: 6h, or 2026-01-31T18:00.")
@click.option("--then", type=click.Choice(STATUSES), help="What it goes over to; without it: what it was before.")
@click.option("--tried", is_flag=True, help="With test: send test jobs; when enough succeed it goes online.")
@output_options
def set_status(
    name: str, status: str, reason: str, until: str | None, then: str | None, tried: bool, look: Look
) -> None:
    """Open (online), test, drain (brokeroff: no new jobs come) or close (offline) a queue or a site."""
    client = connect()
    known = [queue.raw for queue in client.queues()]
    meant = [queue.get("name") for queue in known if queue.get("name") == name]
    meant = meant or [queue.get("name") for queue in known if queue.get("site") == name]
    if not meant:
        there = ", ".join(sorted({str(queue.get(part)) for queue in known for part in ("site", "name")}))
        raise CommandProblem(
            f"there is no queue or site {name}", code="not_found", exit_code=exits.NOT_FOUND, hint=f"known: {there}"
        )
    end = moment(until, "--until") if until else None
    done = (
        client.set_queue_status(str(queue), status, reason=reason, until=end, then=then, tried=tried) for queue in meant
    )
    emit(look, done, (Column("queue"), Column("status", kind="status")), lambda item: str(item.get("queue", "")))


# ---- versions ---------------------------------------------------------------------------------------------


@click.group(
    cls=VerbGroup,
    invoke_without_command=True,
    examples=(
        "panda sites", "panda sites --filter 'cloud:EUROPE' -o json",
        "panda sites history NORTH-Q", "panda sites diff 12", "panda sites rollback 12 --reason 'typo' --dry-run",
    ),
)  # fmt: skip
@click.option("--filter", "text", metavar="FILTER", help="Only those that fit, as 'cloud:EUROPE'.")
@click.option("--sort", metavar="FIELD", help="In this order; -FIELD: the other way.")
@LIMIT
@output_options
@click.pass_context
def sites(context: click.Context, text: str | None, sort: str | None, limit: int | None, look: Look) -> None:
    """List the sites; or show what was known of places when, and go back to it."""
    if context.invoked_subcommand is None:
        found: Iterator[Item] = (each.raw for each in connect().find("sites", text, sort=sort, limit=limit))
        limited(look, found, columns.SITES, columns.own_name, limit)


@sites.command(
    "history",
    cls=Verb,
    examples=("panda sites history", "panda sites history NORTH-Q --limit 5", "panda sites history --filter 'who:ann'"),
)
@click.argument("name", required=False, metavar="[QUEUE|SITE|STORAGE]", shell_complete=complete_queues)
@click.option("--filter", "text", metavar="FILTER", help="Only those that fit, as 'who:ann at:7d'.")
@LIMIT
@output_options
def history(name: str | None, text: str | None, limit: int | None, look: Look) -> None:
    """List the versions of what is known of places, newest first: who changed it, when and why."""
    found = (each.raw for each in connect().places.list(name=name, filter=text, limit=limit))
    limited(look, found, columns.VERSIONS, columns.version_name, limit)


@sites.command(
    "diff",
    cls=Verb,
    examples=(
        "panda sites diff 12            # what is different now from what was at version 12",
        "panda sites diff 12 15         # between two versions",
        "panda sites diff --of 12       # what version 12 changed",
    ),
)
@click.argument("since", type=click.IntRange(1), required=False)
@click.argument("until", type=click.IntRange(1), required=False)
@click.option("--of", "version", type=click.IntRange(1), help="What this one version changed.")
@output_options
def diff(since: int | None, until: int | None, version: int | None, look: Look) -> None:
    """Show what is different between two versions, or between one and now."""
    if (since is None) == (version is None):
        raise click.UsageError("name the version since when, or one with --of")
    places = connect().places
    changes = places.version(version)["changes"] if version else places.diff(since or 0, until)
    emit(look, changes, columns.CHANGES, columns.own_name)


@sites.command(
    "rollback",
    cls=Verb,
    examples=(
        "panda sites rollback 12 --reason 'the new limits were wrong' --dry-run",
        "panda sites rollback 12 --reason 'the new limits were wrong' --only NORTH-Q",
    ),
)
@click.argument("version", type=click.IntRange(1))
@REASON
@click.option("--only", "names", multiple=True, metavar="NAME", help="Only this thing; several times for several.")
@click.option("--status", is_flag=True, help="Roll back the status of queues and storages too.")
@click.option("--dry-run", is_flag=True, help="Show what would be different, and change nothing.")
@output_options
def rollback(version: int, reason: str, names: Sequence[str], status: bool, dry_run: bool, look: Look) -> None:
    """Make places what they were at a version; that is a new version."""
    done = connect().places.roll_back(version, reason=reason, names=names, status=status, dry_run=dry_run)
    emit(look, done["changes"], columns.CHANGES, columns.own_name)
    for name in done["kept"]:
        say(f"{name} was not known then, and stays: files may lie there")
    _conclude(done, dry_run)


def _conclude(done: Item, dry_run: bool) -> None:
    if dry_run or not done["changes"]:
        say("nothing was changed" if dry_run else "it is so already")
    else:
        say(f"this is version {done['version_id']}")


@sites.command(
    "import",
    cls=Verb,
    examples=(
        "panda sites import more-sites.toml --reason 'the new hall' --dry-run",
        "panda sites import ddmendpoints.json pandaqueues.json --reason 'first fill'",
        "panda sites import 'https://cric.example.org/api/atlas/pandaqueue/query/?json' --reason 'from CRIC'",
    ),
)
@click.argument("files", nargs=-1, required=True, metavar="FILE|URL|-...")
@REASON
@click.option("--status", is_flag=True, help="Set the status of queues that there are, too.")
@click.option("--dry-run", is_flag=True, help="Show what would be different, and change nothing.")
@output_options
def import_files(files: Sequence[str], reason: str, status: bool, dry_run: bool, look: Look) -> None:
    """Take over what files say of places, all of it or nothing: TOML as sites.toml, JSON of that shape, or CRIC's
    JSON of queues and storages. What they do not say of a thing that there is stays as it is."""
    documents = [document_of(name) for name in files]
    done = connect().places.import_documents(documents, reason=reason, status=status, dry_run=dry_run)
    emit(look, done["changes"], columns.CHANGES, columns.own_name)
    if done["inactive"]:
        say(f"left aside, because they are inactive: {', '.join(done['inactive'][:10])}")
    _conclude(done, dry_run)


@sites.command(
    "rules",
    cls=Verb,
    examples=(
        "panda sites rules",
        "panda sites rules --acts 'queue:NORTH-Q at:7d'",
        "panda sites rules --acts '' -o json",
    ),
)
@click.option("--acts", "text", metavar="FILTER", help="What rules did instead, newest first; '' for all of it.")
@LIMIT
@output_options
def show_rules(text: str | None, limit: int | None, look: Look) -> None:
    """Show the rules by which queues and nodes are taken out and come back, or what they did."""
    client = connect()
    if text is None:
        emit(look, (rule.raw for rule in client.places.rules()), columns.RULES, columns.own_name)
    else:
        found: Iterator[Item] = (each.raw for each in client.find("acts", text, limit=limit))
        limited(look, found, columns.ACTS, columns.act_name, limit)


@sites.command(
    "remove",
    cls=Verb,
    examples=(
        "panda sites remove NORTH-Q --reason 'the cluster is closed'",
        "panda sites remove NORTH-Q --reason 'moved' -o json",
    ),
)
@click.argument("queue", shell_complete=complete_queues)
@REASON
@output_options
def remove(queue: str, reason: str, look: Look) -> None:
    """Take a queue away. Jobs that no pilot has taken are brokered again; it goes when the others have ended."""
    done = connect().places.remove_queue(queue, reason=reason)
    emit(look, [done], (Column("queue"), Column("n_live", "jobs under way", "number")), lambda item: queue, single=True)
