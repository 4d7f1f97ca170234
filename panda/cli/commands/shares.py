"""`panda shares`, `shares set`: whose part of the machines is how large."""

import click

from panda.cli import columns
from panda.cli.session import connect
from panda.cli.show import Column, Look, emit, output_options
from panda.cli.verbs import Verb, VerbGroup

CHANGED = (Column("share"), Column("weight", kind="number"), Column("was", kind="number"))


@click.group(
    cls=VerbGroup, invoke_without_command=True, examples=("panda shares", "panda shares -o json --fields name,part")
)
@output_options
@click.pass_context
def shares(context: click.Context, look: Look) -> None:
    """Show the tree of shares: the part of each among those that want anything now, and what it runs."""
    if context.invoked_subcommand is None:
        emit(look, (share.raw for share in connect().shares()), columns.SHARES, columns.own_name)


@shares.command(
    "set",
    cls=Verb,
    examples=(
        "panda shares set production --weight 70 --reason 'campaign until Friday'",
        "panda shares set analysis --weight 12.5 --reason 'campaign is over' -o json",
    ),
)
@click.argument("name", metavar="SHARE")
@click.option("--weight", required=True, type=click.FloatRange(0, 1e6, min_open=True), help="Only ratios count.")
@click.option("--reason", required=True, help="For those who wonder; kept in the audit log.")
@output_options
def set_weight(name: str, weight: float, reason: str, look: Look) -> None:
    """Give a share another weight. It counts within a second, and stays until the file of shares says another one."""
    done = connect().set_share_weight(name, weight, reason=reason)
    emit(look, [done], CHANGED, lambda item: str(item["share"]), single=True)
