"""`panda switches`, `pause`, `resume`: what operators stop for a while, and where."""

from collections.abc import Callable, Mapping
from typing import Any

import click

from panda.cli.completions import complete_queues
from panda.cli.session import connect
from panda.cli.show import Column, Look, emit, output_options
from panda.cli.units import seconds
from panda.cli.verbs import Verb

WHAT = ("brokerage", "dispatch")
PAUSED = (
    Column("what"), Column("site"), Column("queue"), Column("node"), Column("by"), Column("at", "since", "time"),
    Column("until", kind="time"), Column("reason"),
)  # fmt: skip
SET = (Column("what"), Column("site"), Column("queue"), Column("node"), Column("paused"))


def _place(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that name a place."""
    for option in (
        click.option("--reason", required=True, help="For those who wonder; kept in the audit log."),
        click.option("--node", default="", help="One node of that queue; dispatch alone."),
        click.option("--queue", default="", shell_complete=complete_queues, help="At this queue."),
        click.option("--site", default="", help="At this site. Nothing named: everywhere."),
    ):
        command = option(command)
    return command


@click.command(cls=Verb, examples=("panda switches", "panda switches -o json --fields what,queue,reason"))
@output_options
def switches(look: Look) -> None:
    """List what is paused, the newest first."""
    emit(look, (each.raw for each in connect().switches()), PAUSED, _name)


@click.command(
    cls=Verb,
    examples=(
        "panda pause dispatch --reason 'database upgrade'                # everywhere",
        "panda pause brokerage --site NORTH --for 4h --reason 'cooling'",
        "panda pause dispatch --queue NORTH-Q --node wn-117 --reason 'black hole'",
    ),
)
@click.argument("what", type=click.Choice(WHAT))
@_place
@click.option("--for", "span", metavar="TIME", help="Ends by itself after this, e.g. 4h; else somebody resumes it.")
@output_options
def pause(what: str, site: str, queue: str, node: str, reason: str, span: str | None, look: Look) -> None:
    """Send no job to queues (brokerage), or give pilots none (dispatch). What runs is left to end."""
    try:
        for_s = None if span is None else seconds(span)
    except ValueError as problem:
        raise click.UsageError(f"--for: {problem}") from None
    done = connect().pause(what, site=site, queue=queue, node=node, reason=reason, for_s=for_s)
    emit(look, [done], SET, _name, single=True)


@click.command(
    cls=Verb,
    examples=("panda resume dispatch --reason 'upgraded'", "panda resume brokerage --site NORTH --reason 'cooled'"),
)
@click.argument("what", type=click.Choice(WHAT))
@_place
@output_options
def resume(what: str, site: str, queue: str, node: str, reason: str, look: Look) -> None:
    """End a pause; name the place as it was paused."""
    done = connect().resume(what, site=site, queue=queue, node=node, reason=reason)
    emit(look, [done], SET, _name, single=True)


def _name(item: Mapping[str, Any]) -> str:
    return str(item.get("what", ""))
