"""`panda up`, `down`, `doctor`, `audit`: an installation on this machine."""

import os
from pathlib import Path
from typing import Any

import click

from panda.cli import exits
from panda.cli.show import Column, Look, emit, output_options, say
from panda.cli.verbs import Verb

FOLDER = click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=lambda: os.environ.get("PANDA_DATA_DIR") or "data",
    help="Folder of all its state; otherwise ./data.",
)


@click.command(
    cls=Verb,
    examples=("panda up", "panda up --data /srv/panda --port 25080 --detach", "panda up --without pilots"),
)
@FOLDER
@click.option("--port", type=click.IntRange(0, 65534), help="Of the API; the monitor takes the next; 0: free ones.")
@click.option("--detach", is_flag=True, help="Return when everything answers.")
@click.option("--only", multiple=True, metavar="NAME", help="Start this process of the Procfile alone.")
@click.option("--without", multiple=True, metavar="NAME", help="Leave this process of the Procfile out.")
def up(data: Path, port: int | None, detach: bool, only: tuple[str, ...], without: tuple[str, ...]) -> int:
    """Start a whole system on this machine. Ctrl-C ends it, unless it is detached."""
    from panda.local.up import run_up

    return run_up(data, port, detach=detach, only=only, without=without)


@click.command(cls=Verb, examples=("panda down", "panda down --data /srv/panda"))
@FOLDER
def down(data: Path) -> int:
    """End the system that `up` started."""
    from panda.local.up import run_down

    return run_down(data)


@click.command(cls=Verb, examples=("panda doctor", "panda doctor -o json"))
@FOLDER
@click.option("-o", "--format", "form", type=click.Choice(["plain", "json"]), default="plain", help="How to write.")
def doctor(data: Path, form: str) -> int:
    """Check an installation: what keeps it from working, and the mend of each."""
    from panda.local.doctor import run_doctor

    return run_doctor(data, as_json=form == "json")


@click.command(cls=Verb, examples=("panda audit", "PANDA_DATABASE_URL=postgresql://… panda audit -o json"))
@FOLDER
@output_options
def audit(data: Path, look: Look) -> int:
    """Check the invariants of the database. Exits with 1 if one is broken."""
    from panda.db.session import begin_of, make_engine
    from panda.jobs.audit import Finding
    from panda.jobs.audit import audit as findings_of
    from panda.jobs.spool import Spool

    engine = make_engine(database_url(data), pool_size=1)
    try:
        with begin_of(engine)() as connection:
            found = findings_of(connection, everything=True)
            if (data / "spool").is_dir():  # only where the spool is can its files be compared with the rows
                short = Spool(data).short_logs(connection)
                found += [Finding("I17", "every log has the bytes that its row counts", short)] if short else []
    finally:
        engine.dispose()
    items = [
        {"invariant": each.invariant, "sentence": each.sentence, "n": len(each.rows), "rows": told(each.rows)}
        for each in found
    ]
    shown = (Column("invariant"), Column("n", "rows", "number"), Column("sentence"))
    emit(look, items, shown, lambda item: str(item["invariant"]))
    say(f"{len(items)} broken" if items else "every invariant holds")
    return exits.ERROR if items else exits.OK


def told(rows: list[dict[str, Any]]) -> Any:
    """Rows as JSON can tell them: instants as text."""
    import msgspec

    return msgspec.to_builtins(rows, enc_hook=str)


def database_url(data: Path) -> str:
    """PANDA_DATABASE_URL, a setting, or what the system that runs in `data` uses. Raises ConfigError."""
    from panda.errors import ConfigError
    from panda.local.installation import Installation
    from panda.settings import load

    url = load().store.database_url or str(Installation(data).facts().get("database_url") or "")
    if not url:
        raise ConfigError(f"no database: set PANDA_DATABASE_URL, or start the system in {data} with `panda up`")
    return url
