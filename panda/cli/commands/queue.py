"""`panda queue show`: a queue, and what pilots that ask there have too little of."""

from collections.abc import Mapping
from typing import Any

import click

from panda.cli import columns
from panda.cli.completions import complete_queues
from panda.cli.session import connect
from panda.cli.show import Column, Look, emit, output_options
from panda.cli.verbs import Verb, VerbGroup
from panda.names import ASKED, amount

#: How asks end, for people.
ENDS = {"got": "got jobs", "offline": "the queue was closed", "paused": "paused, or at a cap", "quicker": "others were "
        "quicker", "nothing_ready": "nothing was ready", "nothing_fits": "nothing fitted",
        "over_quota": "over a quota"}  # fmt: skip
MISMATCHES = (
    Column("what", "too little"),
    Column("n", "asks", "number"),
    Column("needed", "jobs need"),
    Column("most", "most had"),
    Column("last_at", "last", "time"),
)


@click.group(cls=VerbGroup, examples=("panda queue show NORTH-Q", "panda queue show NORTH-Q -o json"))
def queue() -> None:
    """Show one queue."""


@queue.command(
    "show", cls=Verb, examples=("panda queue show NORTH-Q", "panda queue show NORTH-Q -o json --jq .mismatches")
)
@click.argument("name", metavar="QUEUE", shell_complete=complete_queues)
@output_options
def show(name: str, look: Look) -> None:
    """Show a queue, how the asks of pilots there ended in 24 h, and what they had too little of."""
    client = connect()
    found = {**client.queue(name).raw, **client.mismatches(name)}
    emit(look, [found], columns.QUEUES, columns.own_name, single=True)
    if not look.is_for_people:
        return
    asks = [f"{ask['n']} {ENDS.get(ask['outcome'], ask['outcome'])}" for ask in found["asks"]]
    click.echo(f"\nasks of pilots in 24 h: {', '.join(asks) or 'none'}")
    if found["mismatches"]:
        click.echo()
        mismatches = [_told(each) for each in found["mismatches"]]
        emit(Look(look.form), mismatches, MISMATCHES, lambda item: str(item["what"]))


def _told(mismatch: Mapping[str, Any]) -> dict[str, Any]:
    """Sizes as people read them."""
    word = str(mismatch["what"])
    if word not in ASKED:
        return {**mismatch, "needed": ", ".join(mismatch["tags"]), "most": ""}
    told = {part: amount(word, mismatch[part]) for part in ("needed", "most")}
    return {**mismatch, "what": ASKED[word], **told}
