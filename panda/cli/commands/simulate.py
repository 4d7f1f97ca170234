"""`panda simulate`: fleets that are played."""

import os
from pathlib import Path

import click

from panda.cli import exits
from panda.cli.problems import CommandProblem
from panda.cli.session import where
from panda.cli.show import say
from panda.cli.verbs import Verb, VerbGroup


@click.group(
    cls=VerbGroup,
    examples=(
        "panda simulate fleet examples/fleet/fleet.toml --seconds 60",
        "panda simulate fleet fleet.toml --jobs 20000 --seconds 1800 --seed 7 -o json",
    ),
)
def simulate() -> None:
    """Play a fleet of pilots against a server, for tests of load and fairness."""


@simulate.command(
    "fleet",
    cls=Verb,
    examples=(
        "panda simulate fleet examples/fleet/fleet.toml --seconds 60",
        "panda simulate fleet fleet.toml --jobs 20000 --seconds 1800 --seed 7 -o json",
        "panda simulate fleet fleet.toml --pilots-only --pilot-token-file data/pilot-token",
    ),
)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--seed", type=int, default=1, show_default=True, help="Fixes what becomes of each job.")
@click.option("--seconds", type=click.FloatRange(min=0.1), default=60.0, show_default=True, help="At most so long.")
@click.option("--jobs", type=click.IntRange(min=0), default=0, help="Until so many attempts have ended.")
@click.option(
    "--connections", type=click.IntRange(1, 10_000), default=64, show_default=True,
    help="To the server, for all pilots together.",
)  # fmt: skip
@click.option(
    "--drain", "drain_s", type=click.FloatRange(min=0), default=60.0, show_default=True,
    help="Seconds in which pilots may end what they run.",
)  # fmt: skip
@click.option(
    "--pilot-token-file", type=click.Path(dir_okay=False, path_type=Path),
    help="Otherwise pilot-token in PANDA_DATA_DIR (./data).",
)  # fmt: skip
@click.option("--pilots-only", is_flag=True, help="Submit nothing and act on nothing; needs the pilots' token alone.")
@click.option("-o", "--format", "form", type=click.Choice(["plain", "json"]), default="plain", help="How to write.")
def fleet(
    file: Path, seed: int, seconds: float, jobs: int, connections: int, drain_s: float, pilot_token_file: Path | None,
    pilots_only: bool, form: str,
) -> int:  # fmt: skip
    """Play the pilots that FILE describes, and submit the load that stands in it, until the time is over.

    The pilots run nothing. Whoever calls this must be allowed what the file wants: submit, and more for owners,
    events and tokens that expire. The server must start no pilots of its own for these queues.
    """
    from msgspec.structs import replace

    from panda.errors import ConfigError
    from panda.simulation.fleet import Plan, play
    from panda.simulation.fleetfile import load_file

    described = load_file(file)
    if pilots_only:
        described = replace(described, load=[], events=[])
    token_file = pilot_token_file or Path(os.environ.get("PANDA_DATA_DIR") or "data") / "pilot-token"
    try:
        pilot_token = token_file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as problem:
        raise ConfigError(f"no token for the pilots: {problem}") from problem
    server = where()
    plan = Plan(
        described, server.url.value, pilot_token, "" if pilots_only else server.token.value, seed=seed, seconds=seconds,
        jobs=jobs, n_connections=connections, drain_s=drain_s,
    )  # fmt: skip
    try:
        report = play(plan, say)
    except KeyboardInterrupt:
        hint = "its pilots are gone; what it submitted stays (`panda sets`)"
        raise CommandProblem("broken off", code="interrupted", exit_code=exits.INTERRUPTED, hint=hint) from None
    click.echo(report.to_json() if form == "json" else report.text())
    return exits.OK
