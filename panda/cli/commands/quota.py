"""`panda quota`: how much somebody may have queued, running and used, and how they stand to it."""

from collections.abc import Mapping, Sequence
from typing import Any

import click

from panda.cli.session import connect
from panda.cli.show import Column, Look, emit, output_options, say
from panda.cli.verbs import Verb, VerbGroup

LIMITS = ("queued_jobs", "running_jobs", "running_cores", "core_hours")
STANDING = (
    Column("subject"), Column("queued_jobs.used", "queued", "number"), Column("queued_jobs.limit", "of", "number"),
    Column("running_jobs.used", "running", "number"), Column("running_jobs.limit", "of", "number"),
    Column("running_cores.used", "cores", "number"), Column("running_cores.limit", "of", "number"),
    Column("core_hours.used", "core hours", "number"), Column("core_hours.limit", "of", "number"),
    Column("n_held", "held back", "number"), Column("outlook.used_up_on", "used up on"),
    Column("outlook.room_on", "room on"),
)  # fmt: skip
QUOTAS = (
    Column("subject"), *(Column(name, name.replace("_", " "), "number") for name in LIMITS), Column("beyond"),
    Column("members"),
)  # fmt: skip


def subject_of(item: Mapping[str, Any]) -> str:
    """How a quota is named to other commands."""
    return str(item["subject"])


@click.group(
    cls=VerbGroup, invoke_without_command=True, examples=("panda quota", "panda quota show ann", "panda quota list")
)
@output_options
@click.pass_context
def quota(context: click.Context, look: Look) -> None:
    """Show how I stand to each quota that binds me; or look at others, and change quotas."""
    if context.invoked_subcommand is None:
        client = connect()
        _show(client.users.quota(str(client.whoami()["subject"])).raw, look)


@quota.command("show", cls=Verb, examples=("panda quota show ann", "panda quota show ann -o json"))
@click.argument("name")
@output_options
def show(name: str, look: Look) -> None:
    """Show how a user stands to each quota that binds them."""
    _show(connect().users.quota(name).raw, look)


@quota.command("list", cls=Verb, examples=("panda quota list", "panda quota list -o json"))
@output_options
def list_quotas(look: Look) -> None:
    """List every quota that was set. A limit of 0 is none; one that is not there leaves it to the default."""
    emit(look, (each.raw for each in connect().quotas.list()), QUOTAS, subject_of)


@quota.command(
    "set",
    cls=Verb,
    examples=(
        "panda quota set user:ann --running-cores 500 --reason 'conference'",
        "panda quota set default --queued-jobs 100000 --beyond hold --reason 'one flood too many'",
        "panda quota set group:higgs --member ann --member bob --core-hours 20000 --reason 'agreed'",
        "panda quota set user:ann --unset running-cores --reason 'conference is over'",
    ),
)
@click.argument("subject")
@click.option("--queued-jobs", type=click.IntRange(0), help="Jobs that no pilot has; 0: any number.")
@click.option("--running-jobs", type=click.IntRange(0), help="0: any number.")
@click.option("--running-cores", type=click.IntRange(0), help="0: any number.")
@click.option("--core-hours", type=click.FloatRange(0), help="Within the server's period; 0: any number.")
@click.option("--beyond", type=click.Choice(["refuse", "hold"]), help="A job set with more jobs than may be queued.")
@click.option("--member", "members", multiple=True, help="Of a group; all of them, each time.")
@click.option(
    "--unset", multiple=True, type=click.Choice([name.replace("_", "-") for name in (*LIMITS, "beyond")]),
    help="Leave this to the default.",
)  # fmt: skip
@click.option("--reason", required=True, help="Kept in the audit log.")
@output_options
def set_quota(
    subject: str, members: Sequence[str], unset: Sequence[str], reason: str, look: Look, **limits: Any
) -> None:
    """Change what SUBJECT may have: default, limited, user:NAME or group:NAME. What is not named stays."""
    values = {name: value for name, value in limits.items() if value is not None}
    values |= {name.replace("-", "_"): None for name in unset}
    if members:
        values["members"] = list(members)
    if not values:
        raise click.UsageError("say what they may have, for example --running-cores 500")
    emit(look, [connect().quotas.set(subject, reason=reason, **values)], QUOTAS, subject_of, single=True)


@quota.command(
    "clear",
    cls=Verb,
    examples=("panda quota clear user:ann --reason 'left'", "panda quota clear limited --reason x -q"),
)
@click.argument("subject")
@click.option("--reason", required=True, help="Kept in the audit log.")
@output_options
def clear(subject: str, reason: str, look: Look) -> None:
    """Take away what was set for SUBJECT; the default says again what they may have."""
    done = connect().quotas.clear(subject, reason=reason)
    if done.get("comes_back"):
        say(f"quotas.toml names {subject}: the next start brings it back")
    emit(look, [done], (Column("subject"),), subject_of, single=True)


def _show(found: dict[str, Any], look: Look) -> None:
    for word in ("banned", "limited"):
        if found.get(word) is not None:
            say(f"{found['owner']} is {word}: {found[word]}")
    if found.get("throttled"):
        say(f"none of their ready jobs is started: {found['throttled']}")
    if found.get("late_s"):
        minutes, part = float(found["late_s"]) / 60, float(found.get("part") or 0)
        say(f"used {part:.0%} of everything of late; their jobs stand {minutes:.0f} min further back")
    emit(look, found["quotas"], STANDING, subject_of)
