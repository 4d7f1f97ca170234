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

GROUPS = ("user", "group", "share", "queue", "site", "kind", "day")
BINS = ("day", "week", "month")
#: What is told in hours too.
KINDS = ("core", "cpu", "wall")
DAY_S = 86_400
SUMS = (
    Column("core_h", "core hours", "number"),
    Column("cpu_h", "cpu hours", "number"),
    Column("n_finished", "finished", "number"),
    Column("n_failed", "failed attempts", "number"),
    Column("n_cancelled", "cancelled", "number"),
    Column("in_bytes", "read", "bytes"),
    Column("out_bytes", "made", "bytes"),
    Column("name"),
)


@click.command(
    cls=Verb,
    examples=(
        "panda usage                                 # by user, the last 30 days",
        "panda usage --by site --period 7d",
        "panda usage --by kind --group higgs         # production or analysis, of one working group",
        "panda usage --by day --owner ann -o csv",
        "panda usage --by group --bin week --period 90d -o csv",
        "panda usage 7000412958                      # one job's samples while it ran",
    ),
)
@click.argument("job", required=False, metavar="[JOB]", shell_complete=complete_jobs)
@click.option("--by", type=click.Choice(GROUPS), help="What to sum by; otherwise by user.")
@click.option("--period", metavar="TIME", help="How far back, in whole days, for example 7d; otherwise 30d.")
@click.option("--bin", type=click.Choice(BINS), help="A sum for each of these: a series.")
@click.option("--owner", metavar="NAME", help="Only what this user used.")
@click.option("--group", metavar="NAME", help="Only what was used for this working group.")
@click.option("--share", metavar="NAME", help="Only what was used of this share.")
@click.option("--queue", metavar="NAME", help="Only what was used at this queue.")
@click.option("--site", metavar="NAME", help="Only what was used at this site.")
@click.option("--kind", metavar="WORD", help="Only what sets of this kind used, for example production.")
@output_options
def usage(job: str | None, by: str | None, period: str | None, bin: str | None, look: Look, **only: str | None) -> None:
    """Show what was used, summed over the last days, today among them; or the samples of one job.

    Who may see only their own jobs sees their own use. Sums are some seconds late; what runs is in them when it ends.
    """
    client = connect()
    if job is None:
        days = math.ceil(seconds_of(period, "--period") / DAY_S) if period else 30
        found = [
            {**each.raw, **{f"{kind}_h": round(float(each.raw.get(f"{kind}_s") or 0) / 3600, 2) for kind in KINDS}}
            for each in client.used(by=by or "user", days=days, bin=bin, **only)
        ]
        shown = (Column("day"), *SUMS) if bin else SUMS
        if not emit(look, found, shown, columns.own_name):
            say(f"nothing was used in {days} day{'' if days == 1 else 's'}")
        return
    if by or period or bin or any(only.values()):
        raise click.UsageError("options but those of the output are for sums, not for one job")
    panda_id = select(client, [job]).single_job
    if panda_id is None:
        raise click.UsageError(f"{job!r} is not one job")
    points = [mapping(point, "point") for point in client.usage(panda_id)["points"]]
    if not emit(look, points, columns.USAGE, lambda point: plain(point.get("at"))):
        say("it ran too briefly for a sample, or not yet")
