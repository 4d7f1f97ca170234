"""`panda usage`: what was used, by whom and where; or by one job while it ran."""

import math

import click

from panda.cli import columns
from panda.cli.completions import complete_jobs
from panda.cli.selectors import select
from panda.cli.session import connect
from panda.cli.show import Column, Look, emit, output_options, plain, say
from panda.cli.verbs import Verb
from panda.cli.waits import seconds_of
from panda.client.calls import mapping

GROUPS = ("user", "share", "queue", "site", "day")
#: What is told in hours too.
KINDS = ("core", "cpu", "wall")
DAY_S = 86_400
SUMS = (
    Column("core_h", "core hours", "number"),
    Column("cpu_h", "cpu hours", "number"),
    Column("n_finished", "finished", "number"),
    Column("n_failed", "failed attempts", "number"),
    Column("n_cancelled", "cancelled", "number"),
    Column("name"),
)


@click.command(
    cls=Verb,
    examples=(
        "panda usage                                 # by user, the last 30 days",
        "panda usage --by site --period 7d",
        "panda usage --by day --owner ann -o csv",
        "panda usage 7000412958                      # one job's samples while it ran",
    ),
)
@click.argument("job", required=False, metavar="[JOB]", shell_complete=complete_jobs)
@click.option("--by", type=click.Choice(GROUPS), help="What to sum by; otherwise by user.")
@click.option("--period", metavar="TIME", help="How far back, in whole days, for example 7d; otherwise 30d.")
@click.option("--owner", metavar="NAME", help="Only what this user used.")
@output_options
def usage(job: str | None, by: str | None, period: str | None, owner: str | None, look: Look) -> None:
    """Show what was used, summed over the last days, today among them; or the samples of one job.

    Who may see only their own jobs sees their own use. Sums are some seconds late; what runs is in them when it ends.
    """
    client = connect()
    if job is None:
        days = math.ceil(seconds_of(period, "--period") / DAY_S) if period else 30
        found = [
            {**each.raw, **{f"{kind}_h": round(float(each.raw.get(f"{kind}_s") or 0) / 3600, 2) for kind in KINDS}}
            for each in client.used(by=by or "user", days=days, owner=owner)
        ]
        if not emit(look, found, SUMS, columns.own_name):
            say(f"nothing was used in {days} day{'' if days == 1 else 's'}")
        return
    if by or period or owner:
        raise click.UsageError("--by, --period and --owner are for sums, not for one job")
    panda_id = select(client, [job]).single_job
    if panda_id is None:
        raise click.UsageError(f"{job!r} is not one job")
    points = [mapping(point, "point") for point in client.usage(panda_id)["points"]]
    if not emit(look, points, columns.USAGE, lambda point: plain(point.get("at"))):
        say("it ran too briefly for a sample, or not yet")
