"""`panda site set`: where jobs may run."""

import click

from panda.cli import exits
from panda.cli.completions import complete_queues
from panda.cli.problems import CommandProblem
from panda.cli.session import connect
from panda.cli.show import Column, Look, emit, output_options
from panda.cli.verbs import Verb

STATUSES = ("online", "test", "brokeroff", "offline")


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
@click.argument("name", metavar="QUEUE|SITE", shell_complete=complete_queues)
@click.argument("status", type=click.Choice(STATUSES))
@click.option("--reason", required=True, help="For those who wonder; kept in the audit log.")
@output_options
def set_status(name: str, status: str, reason: str, look: Look) -> None:
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
    done = (client.set_queue_status(str(queue), status, reason=reason) for queue in meant)
    emit(look, done, (Column("queue"), Column("status", kind="status")), lambda item: str(item.get("queue", "")))
