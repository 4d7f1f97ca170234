"""`panda chaos`: the fault lab."""

import os
from pathlib import Path

import click

from panda.cli import exits
from panda.cli.show import say
from panda.cli.verbs import Verb


@click.command(
    cls=Verb,
    examples=(
        "panda chaos --minutes 10 --seed 1",
        "panda chaos --minutes 1 --only kill-redis,erase-redis -o json",
        "panda chaos --minutes 10 --seed 1 --seed 2 --seed 3 --page docs/reference/chaos.md",
        "panda chaos --minutes 10 --database-url postgresql://panda@db/empty --redis-url redis://redis/0",
        "panda chaos --list",
    ),
)
@click.option("--minutes", type=click.FloatRange(min=0.1), default=10.0, show_default=True, help="Of faults.")
@click.option("--seed", "seeds", type=int, multiple=True, help="May be given more than once; otherwise 1.")
@click.option(
    "--rate", type=click.FloatRange(min=1), default=70.0, show_default=True, help="Jobs submitted per second."
)
@click.option("--only", default="", metavar="A,B", help="These faults alone.")
@click.option("--keep", type=click.Path(file_okay=False, path_type=Path), help="Folder for histories and logs.")
@click.option("--page", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures as a page.")
@click.option("--database-url", default="", metavar="URL", help="An empty PostgreSQL to break, not the embedded one.")
@click.option("--redis-url", default="", metavar="URL", help="An empty Redis to break, not the embedded one.")
@click.option("--list", "is_list", is_flag=True, help="Name the faults and do nothing.")
@click.option("-o", "--format", "form", type=click.Choice(["plain", "json"]), default="plain", help="How to write.")
def chaos(
    minutes: float, seeds: tuple[int, ...], rate: float, only: str, keep: Path | None, page: Path | None,
    database_url: str, redis_url: str, is_list: bool, form: str,
) -> int:  # fmt: skip
    """Break a real system of its own under load, and prove that no job was lost. Exits with 1 if one was."""
    import json

    from panda.chaos.faults import BY_NAME, FAULTS
    from panda.chaos.given import Given
    from panda.chaos.report import page as page_of
    from panda.chaos.run import Plan, run
    from panda.errors import UnknownName

    if is_list:
        for fault in FAULTS:
            click.echo(f"{fault.number}\t{fault.name}")
        return exits.OK
    names = [name.strip() for name in only.split(",") if name.strip()]
    for name in names:
        if name not in BY_NAME:
            raise UnknownName("fault", name, list(BY_NAME))
    chosen = [BY_NAME[name] for name in names] or list(FAULTS)
    environ = {name: text for name, text in os.environ.items() if not name.startswith("PANDA_")}
    given = Given(database_url, redis_url)
    reports = []
    for seed in seeds or (1,):
        report = run(Plan(minutes * 60, seed, rate=rate, faults=chosen), environ, keep, say, given)
        reports.append(report)
        if form == "plain":
            click.echo(report.text())
    found = [json.loads(report.to_json()) for report in reports]
    if form == "json":
        click.echo(json.dumps(found, indent=2))
    if page is not None:
        page.write_text(page_of(found), encoding="utf-8")
    return exits.OK if all(report.holds for report in reports) else exits.ERROR
