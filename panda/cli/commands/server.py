"""`panda whoami`, `health`, `api`, `completion`: the server itself, and the shell."""

from pathlib import Path
from typing import Any

import click

from panda.cli import exits
from panda.cli.session import connect
from panda.cli.show import PICKING, Column, Look, emit, output_options, plain, say
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
        "panda api GET /v1/jobs?status=failed --query 'data[].panda_id'",
        'panda api POST /v1/jobs/7000412958/cancel -d \'{"reason": "wrong input"}\'',
        "panda api POST /v1/jobsets -d @request.json",
    ),
)
@click.argument("method", type=click.Choice(["GET", "POST", "PUT", "DELETE"], case_sensitive=False))
@click.argument("path")
@click.option("-d", "--data", metavar="JSON|@FILE", help="The body.")
@PICKING[0]
@PICKING[1]
def api(method: str, path: str, data: str | None, query: str, jq: str) -> None:
    """Call the HTTP interface directly; the answer goes to stdout as JSON."""
    import json

    from panda.cli.picking import line_of, picked

    if not path.startswith("/"):
        raise click.UsageError(f"{path!r} is no path: it starts with /")
    answer = connect().request(method.upper(), path, _document(data))
    if query or jq:
        for result in picked(answer, query=query, jq=jq):
            click.echo(line_of(result))
    elif answer is not None:
        click.echo(json.dumps(answer, indent=2, ensure_ascii=False))


def _document(data: str | None) -> Any:
    import json

    if data is None:
        return None
    try:
        return json.loads(Path(data[1:]).read_text(encoding="utf-8") if data.startswith("@") else data)
    except ValueError as problem:
        raise click.UsageError(f"--data is no JSON: {problem}") from None


@click.command(cls=Verb, examples=("panda health", "panda health -o json || echo 'the server is not well'"))
@output_options
def health(look: Look) -> int:
    """Show which part of the server is well. Exits with 7 when it cannot work."""
    found = connect().health()
    items = [{"part": name, "status": status} for name, status in found["parts"].items()]
    emit(look, items, (Column("part"), Column("status", kind="status")), lambda item: str(item["part"]))
    say(f"the server is {plain(found['status'])}")
    return exits.OK if found["status"] in ("ok", "degraded") else exits.UNAVAILABLE


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
