"""`panda shares`, `shares set`, `add`, `move`, `remove`: whose part of the machines is how large."""

import click

from panda.cli import columns
from panda.cli.session import connect
from panda.cli.show import Column, Look, emit, output_options
from panda.cli.verbs import Verb, VerbGroup

PLACED = (Column("share"), Column("parent", "below"))
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


@shares.command(
    "add",
    cls=Verb,
    examples=(
        "panda shares add upgrade --weight 20 --reason 'a campaign of three weeks'",
        "panda shares add nightly --weight 1 --below production --reason 'tests at night'",
    ),
)
@click.argument("name", metavar="SHARE")
@click.option("--weight", required=True, type=click.FloatRange(0, 1e6, min_open=True), help="Only ratios count.")
@click.option("--below", default="", metavar="SHARE", help="The share that it stands below; else it stands at the top.")
@click.option("--reason", required=True, help="For those who wonder; kept in the audit log.")
@output_options
def add(name: str, weight: float, below: str, reason: str, look: Look) -> None:
    """Add a share. Below a share that jobs name, these become strays: name shares below it from then on."""
    done = connect().add_share(name, weight, below=below, reason=reason)
    emit(look, [done], PLACED, lambda item: str(item["share"]), single=True)


@shares.command(
    "move",
    cls=Verb,
    examples=(
        "panda shares move nightly --below analysis --reason 'it is theirs'",
        "panda shares move nightly --top --reason 'it stands for itself'",
    ),
)
@click.argument("name", metavar="SHARE")
@click.option("--below", default="", metavar="SHARE", help="The share that it stands below from now on.")
@click.option("--top", is_flag=True, help="To the top of the tree.")
@click.option("--reason", required=True, help="For those who wonder; kept in the audit log.")
@output_options
def move(name: str, below: str, top: bool, reason: str, look: Look) -> None:
    """Put a share, with those below it, elsewhere in the tree."""
    if bool(below) == top:
        raise click.UsageError("say either --below SHARE or --top")
    done = connect().move_share(name, below=below, reason=reason)
    emit(look, [done], PLACED, lambda item: str(item["share"]), single=True)


@shares.command(
    "remove",
    cls=Verb,
    examples=(
        "panda shares remove nightly --reason 'the campaign is over'",
        "panda shares remove upgrade --reason 'nobody uses it' -o json",
    ),
)
@click.argument("name", metavar="SHARE")
@click.option("--reason", required=True, help="For those who wonder; kept in the audit log.")
@output_options
def remove(name: str, reason: str, look: Look) -> None:
    """Take a share away. It takes no new job sets; jobs that name it still have their turn, at the top of the tree."""
    done = connect().remove_share(name, reason=reason)
    emit(look, [done], (Column("share"),), lambda item: str(item["share"]), single=True)
