"""`panda storage scan`, `panda storage quotas`: a storage compared with the catalogue, and what owners may keep."""

from pathlib import Path

import click

from panda.cli import columns, exits
from panda.cli.commands.local import FOLDER, database_url
from panda.cli.problems import CommandProblem
from panda.cli.session import connect
from panda.cli.show import Column, Look, emit, output_options, say
from panda.cli.verbs import Verb, VerbGroup

FOUND = (
    Column("kind"),
    Column("size_bytes", "size", "bytes"),
    Column("expected_bytes", "expected", "bytes"),
    Column("path"),
)
DAY_S = 86_400.0


@click.group(
    cls=VerbGroup,
    examples=(
        "panda storage quotas",
        "panda storage scan NORTH-DISK",
    ),
)
def storage() -> None:
    """Compare storages with the catalogue; show who may keep how much."""


@storage.command("quotas", cls=Verb, examples=("panda storage quotas", "panda storage quotas --owner ann -o json"))
@click.option("--owner", metavar="NAME", help="Those that concern this user.")
@output_options
def quotas(owner: str | None, look: Look) -> None:
    """Show how much may be kept where, and how much is."""
    found = (each.raw for each in connect().storage_quotas(owner))
    emit(look, found, columns.STORAGE_QUOTAS, lambda quota: str(quota["quota"]))


@storage.command("scan", cls=Verb, examples=("panda storage scan NORTH-DISK", "panda storage scan NORTH-DISK -o csv"))
@click.argument("name", metavar="STORAGE")
@click.option("--min-age", type=click.FloatRange(0), default=24.0, show_default=True, metavar="HOURS",
              help="Younger files are not called dark: they may be on their way.")  # fmt: skip
@FOLDER
@output_options
def scan(name: str, min_age: float, data: Path, look: Look) -> int:
    """List what a storage and the catalogue disagree about; changes nothing. Exits with 1 if there is something.

    dark: a file that is in no catalogue. lost: a replica that is not there. wrong_size: another size.
    odd: listed under a name that is none of ours and might mean another file: look yourself.
    """
    from dataclasses import asdict

    from panda.dataservice.scan import scan as findings_of
    from panda.db.session import begin_of, make_engine

    engine = make_engine(database_url(data), pool_size=1)
    try:
        found = findings_of(begin_of(engine), name, min_age_s=min_age * DAY_S / 24)
        n = emit(look, (asdict(each) for each in found), FOUND, lambda item: str(item["path"]))
    except KeyboardInterrupt:
        hint = "nothing was changed; the same command begins anew"
        raise CommandProblem("broken off", code="interrupted", exit_code=exits.INTERRUPTED, hint=hint) from None
    finally:
        engine.dispose()
    say(f"{n} found" if n else "storage and catalogue agree")
    return exits.ERROR if n else exits.OK
