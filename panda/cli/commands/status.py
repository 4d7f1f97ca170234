"""`panda status`: my job sets, or one job set or job closely."""

from collections.abc import Sequence
from itertools import islice

import click

from panda.cli import columns
from panda.cli.bars import bar, counts
from panda.cli.completions import complete_jobs
from panda.cli.selectors import Selection, select
from panda.cli.session import connect
from panda.cli.show import Column, Item, Look, emit, output_options, plain, say, value_of
from panda.cli.verbs import Verb
from panda.client import Client
from panda.client.calls import mapping

N_SETS = 20
#: What a job's card shows, in this order; what is empty is left out.
CARD = (
    "status", "stage", "waits_for", "due_at", "name", "owner", "jobset_id", "attempt_nr", "max_attempts",
    "failures_left", "queue", "site", "node", "pilot_id", "exit_code", "failed_stage", "error_code", "error_message",
    "cores", "memory_mb", "disk_mb", "walltime_s", "gpus", "tags", "wall_s", "cpu_s", "max_rss_mb", "priority", "share",
    "created_at", "started_at", "ended_at", "changed_at", "kill_state", "kill_requested_at", "kill_delivered_at",
    "kill_confirmed_at", "parent_id", "archived", "command",
)  # fmt: skip


@click.command(
    cls=Verb,
    examples=(
        "panda status                 # my newest job sets",
        "panda status last            # the newest of them, with its ledger",
        "panda status 7000412958      # one job",
        "panda status 7000412958 --events",
        "panda status set:9120 -o json --fields status,ledger",
    ),
)
@click.argument("selectors", nargs=-1, metavar="[JOB|SET|FILTER]...", shell_complete=complete_jobs)
@click.option("--events", "part", flag_value="events", help="Every move of a job.")
@click.option("--files", "part", flag_value="files", help="Inputs and outputs of a job.")
@click.option("--attempts", "part", flag_value="attempts", help="Attempts of a job.")
@click.option("--usage", "part", flag_value="usage", help="What a job used while it ran.")
@output_options
def status(selectors: Sequence[str], part: str | None, look: Look) -> None:
    """Show my newest job sets, or one job set or job closely."""
    client = connect()
    if part is not None:
        _show_part(client, selectors, part, look)
    elif not selectors:
        _show_mine(client, look)
    else:
        _show_closely(client, select(client, selectors), look)


def _show_mine(client: Client, look: Look) -> None:
    mine = str(client.whoami()["subject"])
    found = (jobset.raw for jobset in islice(client.jobsets(owner=mine), N_SETS))
    shown = columns.SETS_WITH_BAR if look.is_for_people else columns.SETS
    if not emit(look, found, shown, columns.set_name):
        say(f"{mine} has no job sets; `panda submit --help` shows how to make one")


def _show_closely(client: Client, selection: Selection, look: Look) -> None:
    is_single = len(selection.names) == 1
    jobsets: list[Item] = [client.jobset(jobset_id).raw for jobset_id in selection.jobsets]
    jobs = [client.job(panda_id).raw for panda_id in selection.jobs]
    if not look.is_for_people or look.fields:
        if jobsets:
            emit(look, jobsets, columns.SETS, columns.set_name, single=is_single)
        if jobs:
            emit(look, jobs, columns.JOBS, columns.job_name, single=is_single)
        return
    for jobset in jobsets:
        click.echo("\n".join(jobset_card(jobset)))
    for job in jobs:
        click.echo("\n".join(job_card(job)))


def jobset_card(jobset: Item) -> list[str]:
    """A job set in a few lines: its bar, its ledger, where its jobs stand."""
    ledger = jobset["ledger"]
    shown = counts(ledger)
    final = shown["finished"] + shown["failed"] + shown["cancelled"]
    lines = [
        f"set:{jobset['jobset_id']}  {plain(jobset.get('name'))}  {jobset['status']}",
        "  " + "".join(cells for _, cells in bar(ledger, 40)),
        f"  accepted {ledger['accepted']} = waiting {shown['waiting']} + running {shown['running']} + final {final}"
        f" (finished {shown['finished']}, failed {shown['failed']}, cancelled {shown['cancelled']})",
    ]
    if ledger.get("unexpanded"):
        lines.append(f"  of those that wait, {ledger['unexpanded']} are accepted and not made yet")
    if jobset.get("by_status"):
        lines.append("  " + ", ".join(f"{n} {word}" for word, n in jobset["by_status"].items()))
    for field, title in (("first_panda_id", "jobs"), ("output_dataset", "outputs"), ("created_at", "created"),
                         ("ended_at", "ended"), ("depends_on", "after")):  # fmt: skip
        if value := jobset.get(field):
            text = f"{value}-{jobset.get('last_panda_id')}" if field == "first_panda_id" else plain(value)
            lines.append(f"  {title:8} {text}")
    return lines


def job_card(job: Item) -> list[str]:
    """A job's facts, one to a line."""
    facts = [(field, plain(value_of(job, field))) for field in CARD if job.get(field) is not False]
    facts = [(field, text) for field, text in facts if text]
    return [f"job {job['panda_id']}", *(f"  {field.replace('_', ' '):18} {text}" for field, text in facts)]


def _show_part(client: Client, selectors: Sequence[str], part: str, look: Look) -> None:
    panda_id = select(client, selectors).single_job
    if panda_id is None:
        raise click.UsageError(f"--{part} wants one job")
    shown: Sequence[Column]
    if part == "events":
        items, shown = [event.raw for event in client.events(panda_id)], columns.EVENTS
    elif part == "usage":
        items = [mapping(point, "point") for point in client.usage(panda_id)["points"]]
        shown = columns.USAGE
    elif part == "files":
        items, shown = [file.raw for file in client.files(panda_id)], columns.JOB_FILES
    else:
        items, shown = [attempt.raw for attempt in client.attempts(panda_id)], columns.ATTEMPTS
    emit(look, items, shown, lambda item: plain(value_of(item, shown[0].field)))
