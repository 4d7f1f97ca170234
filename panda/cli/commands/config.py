"""`panda config`: settings of the client, and where each comes from."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from panda.cli.session import configuration, where
from panda.cli.show import Column, Look, emit, output_options, say
from panda.cli.verbs import Verb, VerbGroup

if TYPE_CHECKING:
    from panda.client.environment import Surroundings

NAME, VALUE, ORIGIN = Column("name", "setting"), Column("value"), Column("origin", "from")


@click.group(
    cls=VerbGroup,
    examples=(
        "panda config list --origin",
        "panda config set profiles.lab.url https://panda.lab.example.org",
        "panda config path",
    ),
)
def config() -> None:
    """Show and change settings of this command and of the Python client."""


@config.command(
    "list", cls=Verb, examples=("panda config list", "panda config list --origin", "panda --profile lab config list")
)
@click.option("--origin", is_flag=True, help="Tell where each comes from.")
@output_options
def list_settings(origin: bool, look: Look) -> None:
    """List every setting as it goes now."""
    found = where()
    items = [{"name": name, "value": value, "origin": place} for name, (value, place) in configuration().all()]
    for item in items:
        if item["name"] == "url":
            item |= {"value": found.url.value, "origin": found.url.origin}
    items.append({"name": "token", "value": _hidden(found), "origin": found.token.origin})
    emit(look, items, (NAME, VALUE, ORIGIN) if origin else (NAME, VALUE), lambda item: str(item["name"]))


def _hidden(found: "Surroundings") -> str:
    """That there is a token, never which."""
    return "(kept to itself)" if found.token.value else ""


@config.command("get", cls=Verb, examples=("panda config get url", "panda config get profile"))
@click.argument("name")
def get(name: str) -> None:
    """Show one setting."""
    from panda.client.configuration import NAMES

    _check(name, list(NAMES))
    click.echo(where().url.value if name == "url" else configuration().get(name).value)


@config.command(
    "set",
    cls=Verb,
    examples=(
        "panda config set profiles.lab.url https://panda.lab.example.org",
        "panda config set profile lab",
        "panda config set output json",
        "panda config set output ''                 # forget it",
    ),
)
@click.argument("name")
@click.argument("value")
def set_setting(name: str, value: str) -> None:
    """Write a setting into the user's file; an empty VALUE takes it out."""
    from panda.cli.settingsfile import write
    from panda.client.configuration import NAMES, user_file

    profile, dot, last = (
        name.removeprefix("profiles.").rpartition(".") if name.startswith("profiles.") else ("", "", name)
    )
    _check(last, [each for each in NAMES if not (dot and each == "profile")])
    path = user_file()
    write(path, profile, last, value)
    say(f"{name} {'is set' if value else 'is not set any more'} in {path}")


@config.command("path", cls=Verb, examples=("panda config path", '$EDITOR "$(panda config path)"'))
def path() -> None:
    """Show where the user's settings are."""
    from panda.client.configuration import user_file

    file: Path = user_file()
    click.echo(str(file))


def _check(name: str, known: list[str]) -> None:
    if name not in known:
        raise click.UsageError(f"there is no setting {name!r}; there are: {', '.join(known)}")
