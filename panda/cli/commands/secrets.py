"""`panda secrets`: the key that users' secrets are sealed with."""

from pathlib import Path

import click

from panda.cli import exits
from panda.cli.commands.local import FOLDER, database_url
from panda.cli.show import say
from panda.cli.verbs import Verb, VerbGroup


@click.group(
    cls=VerbGroup,
    examples=(
        "panda secrets rotate",
        "panda secrets rotate --data /srv/panda",
    ),
)
def secrets() -> None:
    """Look after the key that users' secrets are sealed with."""


@secrets.command("rotate", cls=Verb, examples=("panda secrets rotate", "panda secrets rotate --data /srv/panda"))
@FOLDER
def rotate(data: Path) -> int:
    """Make a new key, and seal every secret anew with it. The system may run meanwhile.

    The key before it stays in the file until the next rotation, for processes that have just read it.
    """
    from getpass import getuser

    from panda.auth.secrets import rotate as rotate_all
    from panda.auth.secrets import vault_of
    from panda.db.session import begin_of, make_engine

    engine = make_engine(database_url(data), pool_size=1)
    try:
        n_sealed, n_lost = rotate_all(begin_of(engine), vault_of(data.absolute()), by=getuser())
    finally:
        engine.dispose()
    say(f"{n_sealed} secrets are sealed with the new key")
    if n_lost:
        say(f"{n_lost} cannot be opened: the key that they were sealed with is not in {data / 'secrets.key'}")
    return exits.ERROR if n_lost else exits.OK
