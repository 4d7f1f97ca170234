"""`panda web`: pages of the monitor."""

from urllib.parse import urlencode

import click

from panda.cli import exits
from panda.cli.completions import complete_jobs
from panda.cli.problems import CommandProblem
from panda.cli.selectors import select
from panda.cli.session import connect
from panda.cli.verbs import Verb
from panda.client import Client
from panda.client.calls import mapping


@click.command(
    cls=Verb,
    examples=(
        "panda web                       # the overview",
        "panda web last --open",
        "panda web 'status:failed site:HOL*'",
    ),
)
@click.argument("selector", required=False, metavar="[JOB|SET|FILTER]", shell_complete=complete_jobs)
@click.option("--open", "opens", is_flag=True, help="Open it in a browser.")
def web(selector: str | None, opens: bool) -> None:
    """Tell the address of a page of the monitor: of a job, a job set, the jobs that fit, or the overview."""
    client = connect()
    address = _monitor(client) + (_page(client, selector) if selector else "/")
    click.echo(address)
    if opens:
        click.launch(address)


def _monitor(client: Client) -> str:
    address = mapping(client.request("GET", "/"), "list of links", links=dict)["links"].get("monitor")
    if not isinstance(address, str) or not address.startswith(("http://", "https://")):
        raise CommandProblem(
            "the server does not say where its pages are", code="no_monitor", exit_code=exits.NOT_FOUND,
            hint="an operator sets [monitor] url",
        )  # fmt: skip
    return address.rstrip("/")


def _page(client: Client, selector: str) -> str:
    selection = select(client, [selector], spells_out=False)
    if selection.single_job is not None:
        return f"/jobs/{selection.single_job}"
    if len(selection.jobsets) == 1 and not selection.jobs and not selection.filters:
        return f"/jobsets/{selection.jobsets[0]}"
    if selection.filters:
        return "/jobs?" + urlencode({"q": selection.filters[0]})
    return "/jobs?" + urlencode({"q": f"panda_id:{','.join(map(str, selection.jobs[:500]))}"})
