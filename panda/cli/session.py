"""The client that a command speaks through."""

import click

from panda.client import Client
from panda.client.calls import TRIES


def connect(tries: int = TRIES) -> Client:
    """A client for the server that --url or the environment names."""
    url = click.get_current_context().find_root().params.get("url")
    return Client.from_env(url=url or "", tries=tries)
