"""`panda help`: the help of a verb, for hands that type it that way."""

from collections.abc import Sequence

import click

from panda.cli.verbs import Verb


@click.command("help", cls=Verb, examples=("panda help", "panda help submit", "panda help token create"))
@click.argument("verbs", nargs=-1, metavar="[VERB]...")
@click.pass_context
def help_of(context: click.Context, verbs: Sequence[str]) -> None:
    """Show the help of a verb; without one the list of verbs."""
    above = context.find_root()
    command = above.command
    for word in verbs:
        if not isinstance(command, click.Group):
            raise click.UsageError(f"{above.command_path!r} has no verbs below it")
        name, below, _ = command.resolve_command(above, [word])
        assert below is not None  # an unknown one was refused
        above, command = click.Context(below, info_name=name, parent=above), below
    click.echo(command.get_help(above))
