"""`panda users`, `token`, `incidents`: what admins and operators do."""

from collections.abc import Callable, Sequence
from typing import Any

import click

from panda.cli import columns
from panda.cli.commands.lists import SORT
from panda.cli.session import connect
from panda.cli.show import Column, Look, emit, output_options, say
from panda.cli.verbs import Verb, VerbGroup
from panda.client import Affected

DONE = (Column("name"), Column("n", kind="number"))
ROLES = click.option(
    "--role", "roles", multiple=True, required=True, help="viewer, user, production, pilot, operator or admin."
)


def _filter(example: str) -> Callable[[Any], Any]:
    return click.option("--filter", "text", metavar="FILTER", help=f"Only those that fit, as '{example}'.")


LIMIT = click.option("--limit", type=click.IntRange(1), help="At most so many.")


def _reached(name: str, affected: Affected, look: Look) -> None:
    emit(look, [{"name": name, "n": affected.n}], DONE, lambda item: str(item["name"]), single=True)


# ---- users ------------------------------------------------------------------------------------------------


@click.group(
    cls=VerbGroup,
    invoke_without_command=True,
    examples=("panda users", "panda users --filter 'role:operator' -o json", "panda users ban ann --reason 'left'"),
)
@_filter("role:operator banned!=none")
@SORT
@LIMIT
@output_options
@click.pass_context
def users(context: click.Context, text: str | None, sort: str | None, limit: int | None, look: Look) -> None:
    """List users, by name; or make, ban and let in again."""
    if context.invoked_subcommand is None:
        found = (each.raw for each in connect().find("users", text, sort=sort, limit=limit))
        emit(look, found, columns.USERS, columns.own_name)


@users.command(
    "create",
    cls=Verb,
    examples=("panda users create ann --role user", "panda users create ops --role operator --reason 'shift'"),
)
@click.argument("name")
@ROLES
@click.option("--reason", default="", help="Kept in the audit log.")
@output_options
def create_user(name: str, roles: Sequence[str], reason: str, look: Look) -> None:
    """Make a user, whose tokens may carry these roles and no others."""
    emit(look, [connect().users.create(name, roles, reason=reason).raw], columns.USERS, columns.own_name, single=True)


@users.command(
    "ban",
    cls=Verb,
    examples=("panda users ban ann --reason 'token was published'", "panda users ban ann --reason x --running kill -q"),
)
@click.argument("name")
@click.option("--reason", required=True, help="Kept in the audit log.")
@click.option(
    "--running", type=click.Choice(["finish", "kill"]), help="Their jobs that run; otherwise as the server is set."
)
@output_options
def ban(name: str, reason: str, running: str | None, look: Look) -> None:
    """Refuse every token of a user, within five seconds, and start none of their jobs any more."""
    _reached(name, connect().users.ban(name, reason=reason, running=running), look)


@users.command(
    "unban",
    cls=Verb,
    examples=("panda users unban ann --reason 'it was a mistake'", "panda users unban ann --reason x"),
)
@click.argument("name")
@click.option("--reason", required=True, help="Kept in the audit log.")
@output_options
def unban(name: str, reason: str, look: Look) -> None:
    """Let a user in again, with the tokens that they have."""
    _reached(name, connect().users.unban(name, reason=reason), look)


@users.command(
    "limit",
    cls=Verb,
    examples=("panda users limit ann --reason 'floods the queues'", "panda users limit ann --reason x -q"),
)
@click.argument("name")
@click.option("--reason", required=True, help="Kept in the audit log.")
@output_options
def limit(name: str, reason: str, look: Look) -> None:
    """Give a user the smaller quotas of those who are limited (`panda quota set limited …`)."""
    _reached(name, connect().users.limit(name, reason=reason), look)


@users.command(
    "unlimit",
    cls=Verb,
    examples=("panda users unlimit ann --reason 'mended her script'", "panda users unlimit ann --reason x"),
)
@click.argument("name")
@click.option("--reason", required=True, help="Kept in the audit log.")
@output_options
def unlimit(name: str, reason: str, look: Look) -> None:
    """Give a user their own quotas back."""
    _reached(name, connect().users.unlimit(name, reason=reason), look)


@users.command(
    "revoke-tokens",
    cls=Verb,
    examples=("panda users revoke-tokens ann", "panda users revoke-tokens ann --reason 'laptop was stolen'"),
)
@click.argument("name")
@click.option("--reason", default="", help="Kept in the audit log.")
@output_options
def revoke_tokens(name: str, reason: str, look: Look) -> None:
    """End every token of a user, within five seconds."""
    _reached(name, connect().users.revoke_tokens(name, reason=reason), look)


# ---- tokens -----------------------------------------------------------------------------------------------


@click.group(
    cls=VerbGroup,
    examples=(
        "panda token create ann --role user --ttl 90d",
        "panda token list --filter 'owner:ann revoked:none'",
        "panda token revoke 12",
    ),
)
def token() -> None:
    """Make tokens, list and end them."""


@token.command(
    "create",
    cls=Verb,
    examples=(
        "panda token create ann --role user --ttl 90d",
        "panda token create pilots --role pilot --queue NORTH-Q",
    ),
)
@click.argument("owner")
@ROLES
@click.option("--label", default="", help="What it is for.")
@click.option("--ttl", metavar="TIME", help="How long it is good, for example 90d; otherwise for ever.")
@click.option("--queue", default="", help="The one queue that a pilot with it may serve.")
@output_options
def create_token(owner: str, roles: Sequence[str], label: str, ttl: str | None, queue: str, look: Look) -> None:
    """Make a token for somebody (admins only). It is shown this once. Who is no user yet becomes one."""
    from panda.cli.units import seconds

    try:
        ttl_s = None if ttl is None else seconds(ttl)
    except ValueError as problem:
        raise click.UsageError(f"--ttl: {problem}") from None
    made = connect().create_token(owner, roles, label=label, ttl_s=ttl_s, queue=queue)
    if made.get("user_made"):
        say(f"user {owner} was made")
    emit(look, [made], (Column("token"),), lambda item: str(item.get("token", "")), single=True)


@token.command(
    "list", cls=Verb, examples=("panda token list", "panda token list --filter 'owner:ann revoked:none' -o json")
)
@_filter("owner:ann revoked:none")
@SORT
@LIMIT
@output_options
def list_tokens(text: str | None, sort: str | None, limit: int | None, look: Look) -> None:
    """List what tokens are for, newest first; never the tokens themselves."""
    found = (each.raw for each in connect().find("tokens", text, sort=sort, limit=limit))
    emit(look, found, columns.TOKENS, columns.token_name)


@token.command(
    "revoke", cls=Verb, examples=("panda token revoke 12", "panda token revoke 12 --reason 'laptop was stolen'")
)
@click.argument("token_id", type=click.IntRange(1))
@click.option("--reason", default="", help="Kept in the audit log.")
@output_options
def revoke(token_id: int, reason: str, look: Look) -> None:
    """End a token, within five seconds. Its number stands in `panda token list`."""
    _reached(str(token_id), connect().tokens.revoke(token_id, reason=reason), look)


# ---- incidents --------------------------------------------------------------------------------------------


@click.group(
    cls=VerbGroup,
    invoke_without_command=True,
    examples=(
        "panda incidents",
        "panda incidents --filter 'closed:none level:error,critical' -o json",
        "panda incidents ack 12 --comment 'I look after it'",
    ),
)
@_filter("closed:none level:error")
@SORT
@LIMIT
@output_options
@click.pass_context
def incidents(context: click.Context, text: str | None, sort: str | None, limit: int | None, look: Look) -> None:
    """List what operators should know, newest first; or answer it."""
    if context.invoked_subcommand is None:
        found = (each.raw for each in connect().find("incidents", text, sort=sort, limit=limit))
        emit(look, found, columns.INCIDENTS, columns.incident_name)


@incidents.command(
    "ack", cls=Verb, examples=("panda incidents ack 12", "panda incidents ack 12 --comment 'I look after it'")
)
@click.argument("incident_id", type=click.IntRange(1))
@click.option("--comment", default="", help="For the others.")
@output_options
def acknowledge(incident_id: int, comment: str, look: Look) -> None:
    """Say that I look after an incident."""
    answered = connect().incidents.acknowledge(incident_id, comment=comment)
    emit(look, [answered.raw], columns.INCIDENTS, columns.incident_name, single=True)


@incidents.command(
    "close", cls=Verb, examples=("panda incidents close 12", "panda incidents close 12 --comment 'disk replaced'")
)
@click.argument("incident_id", type=click.IntRange(1))
@click.option("--comment", default="", help="For the others.")
@output_options
def close(incident_id: int, comment: str, look: Look) -> None:
    """Say that an incident is over."""
    answered = connect().incidents.close(incident_id, comment=comment)
    emit(look, [answered.raw], columns.INCIDENTS, columns.incident_name, single=True)
