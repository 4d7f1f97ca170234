"""`panda recover`, `panda quarantine`: after a restore from a backup."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from panda.cli import exits
from panda.cli.commands.local import FOLDER, database_url, told
from panda.cli.show import Column, Look, emit, output_options, say
from panda.cli.verbs import Verb
from panda.cli.waits import seconds_of

SHOWN = (
    Column("panda_id", "job", "number"),
    Column("attempt_nr", "try", "number"),
    Column("size_bytes", "size", "bytes"),
    Column("reason"),
    Column("at", "when", "time"),
    Column("storage"),
    Column("path"),
    Column("lfn", "file"),
)


@click.command(
    cls=Verb, examples=("panda recover --data /srv/panda", "PANDA_DATABASE_URL=postgresql://… panda recover")
)
@FOLDER
def recover(data: Path) -> int:
    """Make a database that was restored from a backup safe to start. Nothing of the system may run."""
    from getpass import getuser

    from panda.db.migrate import upgrade
    from panda.db.session import begin_of, make_engine
    from panda.errors import Conflict
    from panda.jobs.restoring import after_restore
    from panda.local.installation import Installation

    if Installation(data).supervisor() is not None:
        raise Conflict(f"a system runs in {data}; end it with: panda down")
    with _database(data) as url:
        upgrade(url)
        engine = make_engine(url, pool_size=1)
        try:
            with begin_of(engine)() as connection:
                done = after_restore(connection, by=getuser())
        finally:
            engine.dispose()
    say(
        f"new jobs begin above {done.first_panda_id}; {done.n_leases} attempts ran when the backup was made;"
        f" {done.n_renamed} outputs have a new place"
    )
    return exits.OK


@click.command(
    cls=Verb,
    examples=("panda quarantine", "panda quarantine -o json", "panda quarantine --delete --older-than 7d --yes"),
)
@FOLDER
@click.option("--limit", type=click.IntRange(1, 100_000), default=1000, show_default=True, help="At most so many.")
@click.option("--delete", is_flag=True, help="Have those of archived jobs removed, instead of listing any.")
@click.option("--older-than", metavar="TIME", help="With --delete: only those that have been there for, say, 7d.")
@click.option("-y", "--yes", is_flag=True, help="With --delete: do not ask.")
@output_options
def quarantine(data: Path, limit: int, delete: bool, older_than: str | None, yes: bool, look: Look) -> int:
    """List outputs that were written and are not published: of attempts that failed or were superseded.

    They go by themselves after a while (`[data] quarantine_stays_s`). The data service of the running system removes
    the bytes.
    """
    from panda.cli.asking import confirm
    from panda.db.session import begin_of, make_engine
    from panda.jobs.quarantine import let_go, newest, old

    if (older_than or yes) and not delete:
        raise click.UsageError("--older-than and --yes go with --delete")
    stay_s = seconds_of(older_than, "--older-than") if older_than else 0
    engine = make_engine(database_url(data), pool_size=1)
    try:
        if delete:
            with begin_of(engine)() as connection:
                n_reached, named = old(connection, stay_s=stay_s)
            confirm("remove", n_reached, named, yes=yes, things="quarantined outputs for good")
            n = let_go(begin_of(engine), stay_s=stay_s)
            say(f"{n} output{'' if n == 1 else 's'} will be removed")
            return exits.OK
        with begin_of(engine)() as connection:
            found: list[dict[str, Any]] = [row._asdict() for row in newest(connection, limit=limit)]
    finally:
        engine.dispose()
    emit(look, told(found), SHOWN, lambda item: f"{item['panda_id']}.{item['attempt_nr']}/{item['lfn']}")
    return exits.OK


@contextmanager
def _database(data: Path) -> Iterator[str]:
    """The URL of the database: the one that is named, or the embedded one, which runs meanwhile."""
    from panda.local.installation import Installation
    from panda.local.postgres import EmbeddedPostgres
    from panda.settings import load

    url = load().store.database_url
    if url:
        yield url
        return
    installation = Installation(data)
    with installation.held():
        server = EmbeddedPostgres(installation.folder / "postgres", log=installation.log("postgres"))
        server.start()
        try:
            yield server.url
        finally:
            server.stop()
