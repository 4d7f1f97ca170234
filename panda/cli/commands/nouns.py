"""Lists of what is neither job nor set: attempts, files, pilots, nodes, queues, storages, the audit log."""

from collections.abc import Iterator, Sequence
from typing import Any

import click

from panda.cli import columns
from panda.cli.commands.lists import LIMIT, SORT, limited
from panda.cli.session import connect
from panda.cli.show import Column, Item, Look, output_options
from panda.cli.verbs import Verb


def _listing(
    verb: str, noun: str, shown: Sequence[Column], name: columns.Name, told: str, example: str, sorts: bool = True
) -> click.Command:
    """The command that lists a noun of the server."""

    def listed(text: str | None, limit: int | None, look: Look, sort: str | None = None) -> None:
        found: Iterator[Item] = (each.raw for each in connect().find(noun, text, sort=sort, limit=limit))
        limited(look, found, shown, name, limit)

    listed.__doc__ = told
    options: list[Any] = [
        click.option("--filter", "text", metavar="FILTER", help=f"Only those that fit, as '{example}'."),
        LIMIT,
        output_options,
    ]
    if sorts:
        options.insert(1, SORT)
    command: Any = listed
    for option in reversed(options):
        command = option(command)
    examples = (f"panda {verb}", f"panda {verb} --filter '{example}' -o json")
    made: click.Command = click.command(verb, cls=Verb, examples=examples)(command)
    return made


queues = _listing(
    "queues", "queues", columns.QUEUES, columns.own_name, "List the queues that run jobs.", "status:online cores>=8"
)
storages = _listing("storages", "storages", columns.STORAGES, columns.own_name, "List the storages.", "site:NORTH")
pilots = _listing(
    "pilots", "pilots", columns.PILOTS, columns.pilot_name,
    "List the pilots that came for work, by id.", "seen:10m queue:NORTH-Q",
)  # fmt: skip
nodes = _listing(
    "nodes", "nodes", columns.NODES, columns.node_name, "List the machines that pilots came from.", "seen:1h cores>=8"
)
attempts = _listing(
    "attempts", "attempts", columns.ALL_ATTEMPTS, columns.attempt_name,
    "List attempts that have ended, those of the newest jobs first.", "outcome:failed site:NORTH ended:24h",
)  # fmt: skip
files = _listing(
    "files", "files", columns.ALL_FILES, columns.file_name,
    "List files, newest first.", "dataset:user.me:numbers lfn:*.txt",
)  # fmt: skip
audit_log = _listing(
    "audit-log", "audit", columns.AUDIT, columns.audit_name,
    "List what people with power did, newest first.", "who:ann at:7d",
)  # fmt: skip
