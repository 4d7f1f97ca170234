"""What is asked of jobs, carried out: counted, confirmed, begun, waited for, told.

One job that is named is asked about directly. Whatever may be more is previewed by the server, confirmed here,
and carried out there: whether it reaches five jobs or five million, it is a few calls.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from panda.cli import columns, exits
from panda.cli.asking import confirm
from panda.cli.problems import CommandProblem
from panda.cli.progress import steps_shown
from panda.cli.selectors import Selection
from panda.cli.show import Column, Look, emit, say
from panda.client import Action, Affected, Client, Preview

RESULTS = (Column("selector", "asked for"), Column("n", "jobs", "number"), Column("refused"))
#: PandaIDs in one filter.
IDS_AT_ONCE = 500
#: Jobs of a preview that --dry-run shows.
SHOWN = 3


@dataclass(frozen=True)
class Wish:
    """What is asked of jobs: retry, cancel, priority, hold or release, and with which words."""

    verb: str
    reason: str
    words: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Manner:
    """How it is asked: --dry-run, --yes, --no-wait."""

    dry_run: bool
    yes: bool
    no_wait: bool


@dataclass(frozen=True)
class Whole:
    """A job set that is asked about as a whole: the jobs of it that are reached, and the call that reaches them."""

    jobset_id: int
    n: int
    call: Callable[..., Affected]


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


def previewed(client: Client, selection: Selection, wish: Wish) -> list[tuple[str, Preview]]:
    """What the wish would reach, by what was asked for."""
    return [
        (name, client.actions.preview(wish.verb, text, reason=wish.reason, **wish.words))
        for name, text in filters_of(selection)
    ]


def alone(panda_id: int, reached: Affected, look: Look) -> int:
    """Tell what became of the one job that was named."""
    return told([{"selector": str(panda_id), "n": reached.n, "refused": reached.refused}], look)


def carried_out(
    client: Client,
    wish: Wish,
    previews: Sequence[tuple[str, Preview]],
    look: Look,
    manner: Manner,
    wholes: Sequence[Whole] = (),
) -> int:
    """Ask, begin, wait and tell."""
    n_jobs = sum(preview.n for _, preview in previews) + sum(whole.n for whole in wholes)
    names = [*(f"set:{whole.jobset_id}" for whole in wholes), *(name for name, _ in previews)]
    if manner.dry_run:
        say(f"{wish.verb} would reach {n_jobs} jobs: {', '.join(names[:20])}")
        shown = [job for _, preview in previews for job in preview.raw.get("first") or []][:SHOWN]
        emit(look, shown, columns.JOBS, columns.job_name)
        _tell_refused({why: n for _, preview in previews for why, n in preview.untouched.items()})
        for _, preview in previews:
            _tell_foreseen(preview)
        return exits.OK
    confirm(wish.verb, n_jobs, names, yes=manner.yes)
    results = [_of_whole(client, whole, wish.reason, manner) for whole in wholes]
    results += [_begun(client, name, preview, manner) for name, preview in previews]
    return told(results, look)


def _of_whole(client: Client, whole: Whole, reason: str, manner: Manner) -> dict[str, Any]:
    reached = whole.call(whole.jobset_id, reason=reason)
    result: dict[str, Any] = {"selector": f"set:{whole.jobset_id}", "n": reached.n, "refused": reached.refused}
    if reached.action_id is not None and not manner.no_wait:
        action = awaited(client, reached.action_id)
        result |= {"n": action.n_done, "refused": action.refused, "action_id": action.action_id}
    return result


def _begun(client: Client, name: str, preview: Preview, manner: Manner) -> dict[str, Any]:
    """What became of one action; it is not begun where it would reach nothing."""
    if not preview.n:
        return {"selector": name, "n": 0, "refused": preview.untouched}
    action = client.actions.confirm(preview)
    if not manner.no_wait:
        action = awaited(client, action.action_id)
    refused = {**preview.untouched, **action.refused}
    n = preview.n if manner.no_wait else action.n_done
    if action.note:
        say(f"action {action.action_id}: {action.note}")
    return {
        "selector": name, "n": n, "refused": refused, "action_id": action.action_id, "status": action.status,
    }  # fmt: skip


def awaited(client: Client, action_id: int) -> Action:
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


def told(results: Sequence[dict[str, Any]], look: Look) -> int:
    """Write what became of each; returns the exit code."""
    emit(look, results, RESULTS, lambda item: str(item["selector"]))
    n_jobs = sum(int(result["n"]) for result in results)
    refused = {why: n for result in results for why, n in result["refused"].items()}
    _tell_refused(refused)
    return exits.CONFLICT if refused and not n_jobs else exits.OK


def _tell_foreseen(preview: Preview) -> None:
    """What a retry would be refused for."""
    of = "" if preview.n_looked >= preview.n else f" of the newest {preview.n_looked}"
    for why, n in preview.refused.items():
        say(f"would be refused: {n} jobs{of}: {why}" if n != 1 else f"would be refused: 1 job{of}: {why}")


def _tell_refused(refused: Mapping[str, Any]) -> None:
    """`not 7: …` for a job, `not 12 jobs: …` for a reason and how many."""
    for why, what in list(refused.items())[:10]:
        say(f"not {what} jobs: {why}" if isinstance(what, int) else f"not {why}: {what}")
    if len(refused) > 10:
        say(f"… and {len(refused) - 10} more")
