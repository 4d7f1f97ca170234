"""`panda login` and `panda logout`: who I am to a server, kept for the next commands."""

import os
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from panda.cli.session import where
from panda.cli.show import say
from panda.cli.verbs import Verb

if TYPE_CHECKING:
    from panda.client import Client
    from panda.client.environment import Surroundings


@click.command(
    cls=Verb,
    examples=(
        "panda login https://panda.example.org",
        "panda login https://panda.example.org --as lab        # and name it in config.toml",
        "panda login --with-token < token.txt",
    ),
)
@click.argument("url", required=False, metavar="[URL]")
@click.option("--as", "profile", metavar="NAME", help="Write the server down as this profile, and use it from now on.")
@click.option("--with-token", is_flag=True, help="Read a token of ours from stdin.")
def login(url: str | None, profile: str | None, with_token: bool) -> None:
    """Log in to a server: keep a token for it, where nobody else can read it.

    Where the server knows an issuer (OpenID Connect), a page of the issuer asks who you are, in any browser. Elsewhere
    the token is asked for, or read from stdin. It is tried before it is kept, and goes to this server and no other.
    """
    from panda.client.configuration import user_file
    from panda.client.credentials import keep

    found = where()
    address = url or found.url.value
    facts = _given(sys.stdin.read()) if with_token else _asked_for(address, found)
    subject = _client(address, found, facts["token"]).whoami()["subject"]
    file = keep(os.environ, address, facts)
    say(f"{subject} is logged in to {address}; the token is kept in {file}")
    if profile:
        from panda.cli.settingsfile import write

        write(user_file(), profile, "url", address)
        write(user_file(), "", "profile", profile)
        say(f"profile {profile} is used from now on; `panda config list --origin` shows it")
    elif address != found.url.value:
        say(f"say so with `panda --url {address} …`, or give it a name: panda login {address} --as NAME")


def _client(address: str, found: "Surroundings", token: str) -> "Client":
    from panda.client import Client
    from panda.client.environment import timeout_from
    from panda.client.transport import READ_S

    return Client(address, token, ca=found.ca.value, read_s=timeout_from(found.timeout, READ_S))


def _asked_for(address: str, found: "Surroundings") -> dict[str, Any]:
    """What is kept: from the server's issuer, if it has one, else what somebody types."""
    ways = _ways(_client(address, found, ""))
    if isinstance(ways.get("issuer"), str):
        return _of_issuer(address, found, ways)
    if not sys.stdin.isatty():
        raise click.UsageError("nobody can be asked here; give the token on stdin with --with-token")
    return _given(click.prompt("Token", hide_input=True, err=True))


def _ways(client: "Client") -> dict[str, Any]:
    from panda.client import NotFound

    try:
        return client.logins.ways()
    except NotFound:  # a server that knows no logins
        return {}


def _of_issuer(address: str, found: "Surroundings", ways: dict[str, Any]) -> dict[str, Any]:
    """A token of ours, for one that the issuer gives to who types the code in."""
    from panda.client import Unauthenticated
    from panda.client.device import Device

    device = Device(
        ways["issuer"], str(ways.get("client_id")), str(ways.get("scope")), ca=found.ca.value, sleep=time.sleep
    )
    code = device.begin()
    say(f"open {code.whole_address or code.address} in a browser, and see that it shows the code {code.user_code}")
    tokens = device.tokens(code)
    for token in tokens[:-1]:
        try:
            return _kept(_client(address, found, token).logins.exchange())
        except Unauthenticated:  # this one is for somebody else: the next one
            continue
    return _kept(_client(address, found, tokens[-1]).logins.exchange())


def _kept(made: dict[str, Any]) -> dict[str, Any]:
    return {"token": made["token"], "token_id": made["token_id"]}


def _given(text: str) -> dict[str, Any]:
    """The token that somebody gives us. Raises click.UsageError: it is none."""
    token = text.strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise click.UsageError("that is no token")
    return {"token": token}


@click.command(
    cls=Verb, examples=("panda logout", "panda --profile lab logout", "panda logout https://panda.example.org")
)
@click.argument("url", required=False, metavar="[URL]")
def logout(url: str | None) -> None:
    """Forget the token that `panda login` kept for a server; one that it made is ended there."""
    from panda.client import ClientError
    from panda.client.credentials import forget, kept

    found = where()
    address = url or found.url.value
    known = kept(os.environ, address)
    if not known:
        say(f"no token is kept for {address}")
        return
    ended = ""
    if isinstance(known.get("token_id"), int):
        try:
            _client(address, found, known["token"]).tokens.revoke(known["token_id"], reason="logged out")
        except ClientError as problem:
            ended = f"; it could not be ended there, and is good until its time is over: {problem.message}"
    forget(os.environ, address)
    say(f"logged out of {address}{ended}")
