"""The client that a command speaks through, and the settings that it goes by."""

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from panda.client import Client
    from panda.client.configuration import Configuration
    from panda.client.environment import Surroundings

#: Tries of a call, unless a command says otherwise (`panda.client.calls.TRIES`).
TRIES = 5


def connect(tries: int = TRIES) -> "Client":
    """A client for the server that --url, --profile, the environment or the files of settings name."""
    from panda.client import Client

    return Client.from_env(url=_flag("url"), profile=_flag("profile"), tries=tries)


def where() -> "Surroundings":
    """Which server that is, and with which token, without asking it."""
    from panda.client.environment import surroundings

    return surroundings(url=_flag("url"), profile=_flag("profile"))


def configuration() -> "Configuration":
    """What the files of settings and the environment say."""
    from panda.client.configuration import Configuration

    return Configuration(profile=_flag("profile"))


def _flag(name: str) -> str:
    """What stands before the verb."""
    return str(click.get_current_context().find_root().params.get(name) or "")
