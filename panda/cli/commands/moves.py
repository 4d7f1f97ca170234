"""`panda transfers`: files on their way between storages."""

import click

from panda.cli import columns
from panda.cli.commands.lists import SORT
from panda.cli.session import connect
from panda.cli.show import Look, emit, output_options
from panda.cli.verbs import Verb

UNDER_WAY = "status:queued,moving"


@click.command(
    cls=Verb,
    examples=(
        "panda transfers                              # those under way",
        "panda transfers --filter 'status:failed ended:1h'",
        "panda transfers --links                      # queue and throughput of each way",
    ),
)
@click.option("--filter", default=UNDER_WAY, show_default=True, metavar="FILTER", help="Which ones.")
@click.option("--links", is_flag=True, help="Sum them up by storage and storage instead.")
@SORT
@click.option("--limit", type=click.IntRange(1), help="At most so many.")
@output_options
def transfers(filter: str, links: bool, sort: str | None, limit: int | None, look: Look) -> None:
    """List files on their way between storages, or how busy the ways are."""
    client = connect()
    if links:
        emit(
            look,
            (each.raw for each in client.links()),
            columns.LINKS,
            lambda way: f"{way['source']}>{way['destination']}",
        )
    else:
        found = (each.raw for each in client.find("transfers", filter, sort=sort, limit=limit))
        emit(look, found, columns.TRANSFERS, lambda transfer: str(transfer["transfer_id"]))
