"""`panda views`, `views save`, `views forget`: filters under a name; `@NAME` stands for one wherever jobs are named."""

import click

from panda.cli import columns
from panda.cli.session import connect
from panda.cli.show import Column, Look, emit, output_options
from panda.cli.verbs import Verb, VerbGroup

VIEWS = (Column("name"), Column("filter"), Column("created_at", "since", "time"))


@click.group(cls=VerbGroup, invoke_without_command=True, examples=("panda views", "panda retry @lost --dry-run"))
@output_options
@click.pass_context
def views(context: click.Context, look: Look) -> None:
    """List my saved views. `@NAME` stands for one wherever a command takes jobs; pages know them too."""
    if context.invoked_subcommand is None:
        emit(look, (view.raw for view in connect().views()), VIEWS, columns.own_name)


@views.command(
    "save",
    cls=Verb,
    examples=(
        "panda views save lost 'status:failed error:dispatch:* changed:24h'",
        "panda views save mine 'owner:ann status:pending,defined,assigned,activated'",
    ),
)
@click.argument("name")
@click.argument("text", metavar="FILTER")
@output_options
def save(name: str, text: str, look: Look) -> None:
    """Keep a filter under a name; the one that has it already is replaced."""
    done = connect().save_view(name, text)
    emit(look, [{"name": name, "n": done.n}], columns.DONE, columns.own_name, single=True)


@views.command("forget", cls=Verb, examples=("panda views forget lost", "panda views forget mine -o json"))
@click.argument("name")
@output_options
def forget(name: str, look: Look) -> None:
    """Forget a view."""
    done = connect().forget_view(name)
    emit(look, [{"name": name, "n": done.n}], columns.DONE, columns.own_name, single=True)
