"""`panda retry`, `cancel`, `priority`, `actions`: what is asked of jobs, one or many.

One job that is named is asked about directly. Whatever may be more is previewed by the server, confirmed here,
and carried out there: whether it reaches five jobs or five million, it is a few calls.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import click

from panda.cli import columns, exits
from panda.cli.asking import confirm
from panda.cli.completions import complete_jobs
from panda.cli.problems import CommandProblem
from panda.cli.progress import steps_shown
from panda.cli.selectors import Selection, select
from panda.cli.session import connect
from panda.cli.show import Column, Look, emit, output_options, say
from panda.cli.verbs import Verb
from panda.client import Action, Client, Preview

RESULTS = (Column("selector", "asked for"), Column("n", "jobs", "number"), Column("refused"))
#: PandaIDs in one filter.
IDS_AT_ONCE = 500
#: Jobs of a preview that --dry-run shows.
SHOWN = 3

STAGE = click.option(
    "--stage",
    type=click.Choice(["define", "broker", "stage_in", "stage_out"]),
    help="Where the new attempt starts; otherwise where the last one failed.",
)
SELECTORS = click.argument(
    "selectors", nargs=-1, required=True, metavar="JOB|SET|FILTER...", shell_complete=complete_jobs
)
REASON = click.option("--reason", default="", help="Stands in the job's history.")
DRY_RUN = click.option("--dry-run", is_flag=True, help="Tell what would be reached; change nothing.")
YES = click.option("-y", "--yes", is_flag=True, help="Do not ask.")
NO_WAIT = click.option("--no-wait", is_flag=True, help="Return when it has begun; `panda actions` tells how far it is.")


@dataclass(frozen=True)
class Wish:
    """What is asked of jobs: retry, cancel or priority, and with which words."""

    verb: str
    reason: str
    words: Mapping[str, Any] = field(default_factory=dict)


@click.command(
    cls=Verb,
    examples=(
        "panda retry 7000412958",
        "panda retry last                        # every failed job of my newest set",
        "panda retry set:9120 --stage stage_out  # only ship the outputs again",
        "panda retry 'status:failed site:HOL* changed:24h' --reason 'disk is back' --dry-run",
        "panda jobs --set last --status failed -q | panda retry - --yes",
    ),
)
@SELECTORS
@STAGE
@REASON
@DRY_RUN
@YES
@NO_WAIT
@output_options
def retry(
    selectors: Sequence[str], stage: str | None, reason: str, dry_run: bool, yes: bool, no_wait: bool, look: Look
) -> int:
    """Give failed jobs a new attempt. Of a job set: all its failed jobs."""
    client = connect()
    selection = select(client, selectors, spells_out=False)
    alone = selection.single_job
    if alone is not None and not dry_run:
        reached = client.retry(alone, stage=stage, reason=reason)
        return _told([{"selector": str(alone), "n": reached.n, "refused": reached.refused}], look)
    wish = Wish("retry", reason, {"stage": stage})
    return _carried_out(client, wish, _previewed(client, selection, wish), look, dry_run, yes, no_wait)


@click.command(
    cls=Verb,
    examples=(
        "panda cancel 7000412958",
        "panda cancel last --reason 'wrong input'",
        "panda cancel 100-120 set:9120 --yes",
        "panda cancel 'owner:ann status:pending,assigned' --dry-run",
    ),
)
@SELECTORS
@REASON
@DRY_RUN
@YES
@NO_WAIT
@output_options
def cancel(selectors: Sequence[str], reason: str, dry_run: bool, yes: bool, no_wait: bool, look: Look) -> int:
    """Cancel jobs that have not ended. A running one hears of it at its pilot's next heartbeat."""
    client = connect()
    selection = select(client, selectors, spells_out=False)
    alone = selection.single_job
    if alone is not None and not dry_run:
        reached = client.cancel(alone, reason=reason)
        return _told([{"selector": str(alone), "n": reached.n, "refused": reached.refused}], look)
    wish = Wish("cancel", reason)
    others = Selection(selection.jobs, (), selection.filters)
    open_jobs = {jobset_id: _n_open(client, jobset_id) for jobset_id in selection.jobsets}
    return _carried_out(client, wish, _previewed(client, others, wish), look, dry_run, yes, no_wait, open_jobs)


@click.command(
    cls=Verb,
    examples=(
        "panda priority last --to 500",
        "panda priority 'owner:ann status:activated' --to -10 --reason 'not urgent' --yes",
    ),
)
@SELECTORS
@click.option("--to", "priority", type=click.IntRange(-10_000, 10_000), required=True, help="Larger goes first.")
@REASON
@DRY_RUN
@YES
@NO_WAIT
@output_options
def priority(
    selectors: Sequence[str], priority: int, reason: str, dry_run: bool, yes: bool, no_wait: bool, look: Look
) -> int:
    """Give waiting jobs another priority. A point of it is worth a minute of waiting."""
    client = connect()
    wish = Wish("priority", reason, {"priority": priority})
    previews = _previewed(client, select(client, selectors, spells_out=False), wish)
    return _carried_out(client, wish, previews, look, dry_run, yes, no_wait)


@click.command(
    cls=Verb,
    examples=("panda actions", "panda actions 12 --wait", "panda actions --filter 'status:running' -o json"),
)
@click.argument("action_id", required=False, type=click.IntRange(1), metavar="[ACTION]")
@click.option("--wait", "waiting", is_flag=True, help="Wait until it has been carried out.")
@click.option("--filter", "text", metavar="FILTER", help="Only those that fit, as 'status:running by:ann'.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="At most so many.")
@output_options
def actions(action_id: int | None, waiting: bool, text: str | None, limit: int, look: Look) -> int:
    """Show actions on many jobs, newest first, or how far one is."""
    client = connect()
    if waiting and action_id is None:
        raise click.UsageError("--wait wants the number of an action")
    if action_id is None:
        found = (each.raw for each in client.actions.list(filter=text, limit=limit))
        emit(look, found, columns.ACTIONS, columns.action_name)
        return exits.OK
    action = _awaited(client, action_id) if waiting else client.actions.show(action_id)
    emit(look, [action.raw], columns.ACTIONS, columns.action_name, single=True)
    return exits.OK


def _n_open(client: Client, jobset_id: int) -> int:
    """Jobs of a set that have not ended, also those that are not made yet."""
    ledger = client.jobset(jobset_id).ledger
    return ledger.accepted - ledger.final


def filters_of(selection: Selection) -> Iterator[tuple[str, str]]:
    """(what was asked for, the filter that means it) for each action that a selection needs."""
    for text in selection.filters:
        yield text, text
    for jobset_id in selection.jobsets:
        yield f"set:{jobset_id}", f"jobset:{jobset_id}"
    for first in range(0, len(selection.jobs), IDS_AT_ONCE):
        ids = selection.jobs[first : first + IDS_AT_ONCE]
        name = str(ids[0]) if len(ids) == 1 else f"{ids[0]}…{ids[-1]}"
        yield name, f"panda_id:{','.join(map(str, ids))}"


def _previewed(client: Client, selection: Selection, wish: Wish) -> list[tuple[str, Preview]]:
    return [
        (name, client.actions.preview(wish.verb, text, reason=wish.reason, **wish.words))
        for name, text in filters_of(selection)
    ]


def _carried_out(
    client: Client,
    wish: Wish,
    previews: Sequence[tuple[str, Preview]],
    look: Look,
    dry_run: bool,
    yes: bool,
    no_wait: bool,
    jobsets: Mapping[int, int] | None = None,
) -> int:
    """Ask, begin, wait and tell. `jobsets`: those that are cancelled as a whole, and their open jobs."""
    whole = dict(jobsets or {})
    n_jobs = sum(preview.n for _, preview in previews) + sum(whole.values())
    names = [*(f"set:{jobset_id}" for jobset_id in whole), *(name for name, _ in previews)]
    if dry_run:
        say(f"{wish.verb} would reach {n_jobs} jobs: {', '.join(names[:20])}")
        shown = [job for _, preview in previews for job in preview.raw.get("first") or []][:SHOWN]
        emit(look, shown, columns.JOBS, columns.job_name)
        _tell_refused({why: n for _, preview in previews for why, n in preview.untouched.items()})
        return exits.OK
    confirm(wish.verb, n_jobs, names, yes=yes)
    results = [_cancelled(client, jobset_id, wish.reason) for jobset_id in whole]
    results += [_begun(client, name, preview, no_wait) for name, preview in previews]
    return _told(results, look)


def _cancelled(client: Client, jobset_id: int, reason: str) -> dict[str, Any]:
    reached = client.cancel_jobset(jobset_id, reason=reason)
    return {"selector": f"set:{jobset_id}", "n": reached.n, "refused": reached.refused}


def _begun(client: Client, name: str, preview: Preview, no_wait: bool) -> dict[str, Any]:
    """What became of one action; it is not begun where it would reach nothing."""
    if not preview.n:
        return {"selector": name, "n": 0, "refused": preview.untouched}
    action = client.actions.confirm(preview)
    if not no_wait:
        action = _awaited(client, action.action_id)
    refused = {**preview.untouched, **action.refused}
    n = preview.n if no_wait else action.n_done
    if action.note:
        say(f"action {action.action_id}: {action.note}")
    return {
        "selector": name, "n": n, "refused": refused, "action_id": action.action_id, "status": action.status,
    }  # fmt: skip


def _awaited(client: Client, action_id: int) -> Action:
    """The action when it has been carried out. Raises CommandProblem: Ctrl-C; the action goes on."""
    try:
        with steps_shown(f"action {action_id}") as hear:
            return client.actions.wait(
                action_id, on_look=lambda seen: hear(seen.n_done + seen.n_refused, seen.n_previewed or 0)
            )
    except KeyboardInterrupt:
        raise CommandProblem(
            "no longer watching; the action goes on",
            code="interrupted",
            exit_code=exits.INTERRUPTED,
            hint=f"come back with: panda actions {action_id} --wait",
        ) from None


def _told(results: Sequence[dict[str, Any]], look: Look) -> int:
    emit(look, results, RESULTS, lambda item: str(item["selector"]))
    n_jobs = sum(int(result["n"]) for result in results)
    refused = {why: n for result in results for why, n in result["refused"].items()}
    _tell_refused(refused)
    return exits.CONFLICT if refused and not n_jobs else exits.OK


def _tell_refused(refused: Mapping[str, Any]) -> None:
    """`not 7: …` for a job, `not 12 jobs: …` for a reason and how many."""
    for why, told in list(refused.items())[:10]:
        say(f"not {told} jobs: {why}" if isinstance(told, int) else f"not {why}: {told}")
    if len(refused) > 10:
        say(f"… and {len(refused) - 10} more")
