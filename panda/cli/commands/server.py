"""`panda whoami`, `api`, `completion`: the server itself, and the shell."""

from pathlib import Path
from typing import Any

import click

from panda.cli.session import connect
from panda.cli.show import Column, Look, emit, output_options
from panda.cli.verbs import Verb


@click.command(cls=Verb, examples=("panda whoami", "PANDA_TOKEN_FILE=other.token panda whoami -q"))
@output_options
def whoami(look: Look) -> None:
    """Show who the server takes me for, and what I may do."""
    who = connect().whoami()
    emit(look, [who], (Column("subject", "user"), Column("roles")), lambda item: str(item["subject"]), single=True)


@click.command(
    cls=Verb,
    examples=(
        "panda api GET /v1/jobs?status=failed",
        'panda api POST /v1/jobs/7000412958/cancel -d \'{"reason": "wrong input"}\'',
        "panda api POST /v1/jobsets -d @request.json",
    ),
)
@click.argument("method", type=click.Choice(["GET", "POST", "PUT", "DELETE"], case_sensitive=False))
@click.argument("path")
@click.option("-d", "--data", metavar="JSON|@FILE", help="The body.")
def api(method: str, path: str, data: str | None) -> None:
    """Call the HTTP interface directly; the answer goes to stdout as JSON."""
    import json

    if not path.startswith("/"):
        raise click.UsageError(f"{path!r} is no path: it starts with /")
    answer = connect().request(method.upper(), path, _document(data))
    if answer is not None:
        click.echo(json.dumps(answer, indent=2, ensure_ascii=False))


def _document(data: str | None) -> Any:
    import json

    if data is None:
        return None
    try:
        return json.loads(Path(data[1:]).read_text(encoding="utf-8") if data.startswith("@") else data)
    except ValueError as problem:
        raise click.UsageError(f"--data is no JSON: {problem}") from None


@click.group()
def token() -> None:
    """Make tokens (admins only)."""


@token.command(
    "create",
    cls=Verb,
    examples=(
        "panda token create ann --role user --ttl 90d",
        "panda token create pilots --role pilot --queue NORTH-Q",
    ),
)
@click.argument("owner")
@click.option("--role", "roles", multiple=True, required=True, help="user, production, pilot, operator or admin.")
@click.option("--label", default="", help="What it is for.")
@click.option("--ttl", metavar="TIME", help="How long it is good, for example 90d; otherwise for ever.")
@click.option("--queue", default="", help="The one queue that a pilot with it may serve.")
@output_options
def create_token(owner: str, roles: tuple[str, ...], label: str, ttl: str | None, queue: str, look: Look) -> None:
    """Make a token for somebody. It is shown this once."""
    from panda.cli.units import seconds

    try:
        ttl_s = None if ttl is None else seconds(ttl)
    except ValueError as problem:
        raise click.UsageError(f"--ttl: {problem}") from None
    made = connect().create_token(owner, roles, label=label, ttl_s=ttl_s, queue=queue)
    emit(look, [made], (Column("token"),), lambda item: str(item["token"]), single=True)


@click.command(
    cls=Verb,
    examples=(
        'eval "$(panda completion bash)"',
        "panda completion zsh > ~/.zfunc/_panda",
        "panda completion fish > ~/.config/fish/completions/panda.fish",
    ),
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(ctx.find_root().command, {}, "panda", "_PANDA_COMPLETE").source())
