"""`panda login` and `panda logout`: who I am to a server, kept for the next commands."""

import sys
from typing import Any

import click

from panda.cli.session import where
from panda.cli.show import say
from panda.cli.verbs import Verb


@click.command(
    cls=Verb,
    examples=(
        "panda login https://panda.example.org",
        "panda login https://panda.example.org --as lab        # and name it in config.toml",
        "panda login --with-token < token.txt",
    ),
)
@click.argument("url", required=False, metavar="[URL]")
@click.option(
    "--as", "profile", metavar="PROFILE", help="Write the server down under this name, and use it from now on."
)
@click.option("--with-token", is_flag=True, help="Read a token of ours from stdin.")
def login(url: str | None, profile: str | None, with_token: bool) -> None:
    """Log in to a server: keep a token for it, where nobody else can read it.

    The token is asked for, or read from stdin, and tried before it is kept. It goes to this server and no other.
    """
    import os

    from panda.client import Client
    from panda.client.configuration import user_file
    from panda.client.credentials import keep
    from panda.client.environment import timeout_from
    from panda.client.transport import READ_S

    found = where()
    address = url or found.url.value
    facts = _facts(with_token)
    client = Client(address, facts["token"], ca=found.ca.value, read_s=timeout_from(found.timeout, READ_S))
    who = client.whoami()
    file = keep(os.environ, address, facts)
    say(f"{who['subject']} is logged in to {address}; the token is kept in {file}")
    if profile:
        from panda.cli.settingsfile import write

        write(user_file(), profile, "url", address)
        write(user_file(), "", "profile", profile)
        say(f"profile {profile} is used from now on; `panda config list --origin` shows it")
    elif address != found.url.value:
        say(f"say so with `panda --url {address} …`, or give it a name: panda login {address} --as NAME")


def _facts(with_token: bool) -> dict[str, Any]:
    """What is kept: the token that somebody gives us. Raises click.UsageError: it is none."""
    if with_token:
        token = sys.stdin.read().strip()
    elif sys.stdin.isatty():
        token = click.prompt("Token", hide_input=True, err=True).strip()
    else:
        raise click.UsageError("nobody can be asked here; give the token on stdin with --with-token")
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise click.UsageError("that is no token")
    return {"token": token}


@click.command(
    cls=Verb, examples=("panda logout", "panda --profile lab logout", "panda logout https://panda.example.org")
)
@click.argument("url", required=False, metavar="[URL]")
def logout(url: str | None) -> None:
    """Forget the token that `panda login` kept for a server."""
    import os

    from panda.client.credentials import forget

    address = url or where().url.value
    say(f"logged out of {address}" if forget(os.environ, address) else f"no token is kept for {address}")
