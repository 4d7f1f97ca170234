"""`panda queues`, `sites`, `storages`, `site set`: where jobs run."""

import click

from panda.cli import columns, exits
from panda.cli.problems import CommandProblem
from panda.cli.session import connect
from panda.cli.show import Column, Look, emit, output_options
from panda.cli.verbs import Verb

STATUSES = ("online", "test", "brokeroff", "offline")


@click.command(cls=Verb, examples=("panda queues", "panda queues -o json --fields name,status,cores"))
@output_options
def queues(look: Look) -> None:
    """List the queues that run jobs."""
    emit(look, (queue.raw for queue in connect().queues()), columns.QUEUES, columns.own_name)


@click.command(cls=Verb, examples=("panda sites", "panda sites -q"))
@output_options
def sites(look: Look) -> None:
    """List the sites."""
    emit(look, (each.raw for each in connect().sites()), columns.SITES, columns.own_name)


@click.command(cls=Verb, examples=("panda storages", "panda storages -o csv"))
@output_options
def storages(look: Look) -> None:
    """List the storages."""
    emit(look, (storage.raw for storage in connect().storages()), columns.STORAGES, columns.own_name)


@click.group()
def site() -> None:
    """Open or close a queue, or all queues of a site."""


@site.command(
    "set",
    cls=Verb,
    examples=(
        "panda site set NORTH-Q offline --reason 'cooling fails'",
        "panda site set NORTH online --reason 'cooled'      # all queues of the site",
    ),
)
@click.argument("name", metavar="QUEUE|SITE")
@click.argument("status", type=click.Choice(STATUSES))
@click.option("--reason", required=True, help="For those who wonder; kept in the audit log.")
@output_options
def set_status(name: str, status: str, reason: str, look: Look) -> None:
    """Open (online), test, drain (brokeroff: no new jobs come) or close (offline) a queue or a site."""
    client = connect()
    known = [queue.raw for queue in client.queues()]
    meant = [queue["name"] for queue in known if queue["name"] == name]
    meant = meant or [queue["name"] for queue in known if queue["site"] == name]
    if not meant:
        there = ", ".join(sorted({queue["site"] for queue in known} | {queue["name"] for queue in known}))
        raise CommandProblem(
            f"there is no queue or site {name}", code="not_found", exit_code=exits.NOT_FOUND, hint=f"known: {there}"
        )
    done = (client.set_queue_status(queue, status, reason=reason) for queue in meant)
    emit(look, done, (Column("queue"), Column("status", kind="status")), lambda item: str(item["queue"]))
