"""`panda wait`: until jobs have ended."""

from collections.abc import Sequence

import click

from panda.cli.completions import complete_jobs
from panda.cli.selectors import select
from panda.cli.session import connect
from panda.cli.show import Look, output_options
from panda.cli.verbs import Verb
from panda.cli.waits import UNTIL, wait_for


@click.command(
    cls=Verb,
    examples=(
        "panda wait last",
        "panda wait set:9120 --timeout 2h && panda get set:9120",
        "panda submit jobs.yaml -q | panda wait -",
        "panda wait 7000412958 --job-code",
    ),
)
@click.argument("selectors", nargs=-1, required=True, metavar="JOB|SET|FILTER...", shell_complete=complete_jobs)
@click.option(
    "--for", "until", type=click.Choice(list(UNTIL)), default="done", show_default=True, help="Wait for this."
)
@click.option("--timeout", metavar="TIME", help="Give up after this, for example 2h.")
@click.option("--job-code", is_flag=True, help="Exit with the code of the one job's payload.")
@output_options
def wait(selectors: Sequence[str], until: str, timeout: str | None, job_code: bool, look: Look) -> int:
    """Wait until jobs have ended. Ctrl-C ends the watching, not the jobs.

    Exits with 0 when all finished, 9 when some did not, 8 when the time ran out.
    """
    client = connect()
    selection = select(client, selectors)
    if job_code and selection.single_job is None:
        raise click.UsageError("--job-code wants one job")
    return wait_for(client, selection, look, until=until, timeout=timeout, job_code=job_code)
