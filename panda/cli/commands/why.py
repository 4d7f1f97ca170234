"""`panda why`: the sentence, what would change it, and what it rests on; of jobs and of pilots."""

import re
from collections.abc import Iterator, Sequence

import click

from panda.cli.completions import complete_jobs
from panda.cli.selectors import names_jobs, select
from panda.cli.session import connect
from panda.cli.show import Column, Item, Look, emit, output_options, plain, say
from panda.cli.verbs import Verb
from panda.client import Client, Why

#: Before the id of a pilot that looks like something else.
PILOT = "pilot:"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")
PILOT_SHORT = (Column("pilot_id", "pilot"), Column("queue"), Column("since", kind="time"), Column("summary"))
#: Who could make a change.
WHO = {"owner": "you: ", "operator": "an operator: ", "time": ""}
SHORT = (
    Column("panda_id", "job", "number"),
    Column("status", kind="status"),
    Column("waits_for", "waits for"),
    Column("until", kind="time"),
    Column("chosen", "queue"),
    Column("summary"),
)
#: In a pipe, with all that people are told: of a set also how many jobs are alike.
WHOLE = (*SHORT, Column("n"), Column("changes"), Column("funnel"))


@click.command(
    cls=Verb,
    examples=(
        "panda why 7000412958",
        "panda why last       # its jobs that have not ended, by what they wait for",
        "panda why 7000412958 -o json | jq .changes",
        "panda why NORTH-Q-3f9c01aa   # a pilot: why it got nothing",
    ),
)
@click.argument("selectors", nargs=-1, required=True, metavar="JOB|SET|FILTER|PILOT...", shell_complete=complete_jobs)
@output_options
def why(selectors: Sequence[str], look: Look) -> None:
    """Tell why a job is where it is: what it waits for, who comes first, which single change would let it run, and what
    brokerage said of each queue. Of a pilot: why it got nothing."""
    client = connect()
    pilots = [word.removeprefix(PILOT) for word in selectors if _is_pilot(word)]
    if pilots:
        _tell_of_pilots(client, pilots, look)
    jobs = [word for word in selectors if not _is_pilot(word)]
    if jobs or not pilots:
        _tell_of_jobs(client, jobs, look)


def _is_pilot(word: str) -> bool:
    """Whether a word names a pilot: it names no job, no set and no filter."""
    return word.startswith(PILOT) or (_NAME.match(word) is not None and not names_jobs(word))


def _tell_of_pilots(client: Client, pilot_ids: Sequence[str], look: Look) -> None:
    answers = [client.why_pilot(pilot_id) for pilot_id in pilot_ids]
    if look.is_for_people and not look.fields:
        for answer in answers:
            click.echo("\n".join(pilot_story(answer.raw)))
        return
    emit(look, [answer.raw for answer in answers], PILOT_SHORT, lambda item: str(item["pilot_id"]),
         single=len(answers) == 1)  # fmt: skip


def _tell_of_jobs(client: Client, selectors: Sequence[str], look: Look) -> None:
    selection = select(client, selectors)
    answers = [client.why(panda_id) for panda_id in selection.jobs]
    kinds = [kind for jobset_id in selection.jobsets for kind in _kinds(client, jobset_id)]
    if look.is_for_people and not look.fields:
        for text in [*_grouped(answers), *("\n".join(story(each, each["panda_ids"], each["n"])) for each in kinds)]:
            click.echo(text)
        return
    items = [*(answer.raw for answer in answers), *kinds]
    if look.chosen in ("plain", "csv") and not look.fields and not look.query and not look.jq:
        items = [_in_words(item) for item in items]
    is_single = selection.single_job is not None
    emit(look, items, WHOLE, lambda item: str(item["panda_id"]), single=is_single)


def _kinds(client: Client, jobset_id: int) -> list[Item]:
    """The jobs of a set that have not ended, by what they wait for: why the first one is where it is, with the number
    of those that are alike (`n`). Of a set without such jobs: its newest one."""
    found = client.why_set(jobset_id)
    not_made = f", {found.n_not_made} not made yet" if found.n_not_made else ""
    part = "" if found.is_whole else f"; looked at {found.n_seen} of every part of it"
    more = f"; {_jobs(found.n_more)} of further kinds" if found.n_more else ""
    say(f"set:{jobset_id}: {_jobs(found.n_open)} open{not_made}{part}{more}")
    if not found.groups:
        newest = [client.why(job.panda_id).raw for job in client.jobset_jobs(jobset_id, limit=1)]
        return [{**why, "jobset_id": jobset_id, "n": 1, "panda_ids": [why["panda_id"]]} for why in newest]
    return [
        {**group["why"], "jobset_id": jobset_id, "n": group["n"], "panda_ids": group["panda_ids"]}
        for group in found.raw["groups"]
    ]


def _in_words(why: Item) -> Item:
    """For a line of a pipe: changes and funnel as text, their parts between bars."""
    changes = [f"{each.get('who')}: {each['say']}" for each in why.get("changes") or []]
    funnel = [
        f"{verdict['criterion']}: {verdict['left']} left"
        + "".join(f", not {queue}: {reason}" for queue, reason in (verdict.get("refused") or {}).items())
        for verdict in why.get("funnel") or []
    ]
    return {**why, "changes": " | ".join(changes), "funnel": " | ".join(funnel)}


def _grouped(answers: Sequence[Why]) -> Iterator[str]:
    """Each story once, with the jobs that share it."""
    stories: dict[tuple[str, str], list[Why]] = {}
    for answer in answers:
        stories.setdefault((answer.status, answer.summary), []).append(answer)
    for alike in stories.values():
        yield "\n".join(story(alike[0].raw, [answer.panda_id for answer in alike]))


def story(why: Item, panda_ids: Sequence[int], n: int | None = None) -> list[str]:
    """The answer in lines: the sentence, the wait, who comes first, what would change it, the funnel, the facts.

    `n`: jobs that it is of, if `panda_ids` are only the first of them."""
    n = len(panda_ids) if n is None else n
    named = ", ".join(str(panda_id) for panda_id in panda_ids[:5]) + (", …" if n > 5 else "")
    lines = [f"{'job' if n == 1 else _jobs(n)} {named} ({why['status']})"]
    lines.append(f"  {plain(why.get('summary'))}")
    if why.get("waits_for"):
        since = f" since {why['since']}" if why.get("since") else ""
        until = f", until {why['until']}" if why.get("until") else ""
        lines.append(f"  waits for {why['waits_for']}{since}{until}")
    lines += [f"  before it: {plain(each['say'])}" for each in why.get("ahead") or []]
    lines += _estimate(why.get("estimate"))
    lines += _changes(why)
    lines += _funnel(why)
    lines += _facts(why)
    return lines


def pilot_story(why: Item) -> list[str]:
    """The answer about a pilot in lines."""
    lines = [f"pilot {plain(why['pilot_id'])} ({plain(why.get('queue'))})", f"  {plain(why.get('summary'))}"]
    lines += _changes(why)
    for kind in why.get("ready") or []:
        misfit = f": {plain(kind['misfit'])}" if kind.get("misfit") else ""
        needs = f"{kind['cores']} cores, {kind['memory_mb']} MB, {kind['walltime_s']} s"
        lines.append(f"  ready: {_jobs(kind['n'])} of share {plain(kind['share'])} ({needs}){misfit}")
    asks = [f"{word.replace('_', ' ')} {n}" for word, n in (why.get("asks") or {}).items()]
    lines += [f"  asks at its queue in two hours: {', '.join(asks)}"] if asks else []
    lines += [f"  kept from there: {_jobs(n)}: {plain(reason)}" for reason, n in (why.get("refusals") or {}).items()]
    return lines + _facts(why)


def _jobs(n: int) -> str:
    return "1 job" if n == 1 else f"{n} jobs"


def _estimate(estimate: Item | None) -> Iterator[str]:
    if not estimate:
        return
    right = "no estimate was compared yet"
    if estimate.get("coverage") is not None:
        right = f"of the last {estimate['n_compared']} such estimates {estimate['coverage']:.0%} were right"
    yield f"  starts between {estimate['earliest_at']} and {estimate['latest_at']} ({right})"
    yield f"    {plain(estimate.get('because'))}"


def _changes(why: Item) -> Iterator[str]:
    found = why.get("changes") or []
    if found:
        yield "  what would let it run:" if "panda_id" in why else "  what would bring it jobs:"
    for each in found:
        command = f"   {plain(each['command'])}" if each.get("command") else ""
        yield f"    {WHO.get(each.get('who'), '')}{plain(each['say'])}{command}"


def _facts(why: Item) -> list[str]:
    facts = why.get("facts") or {}
    return [f"  {plain(name).replace('_', ' ')}: {plain(value)}" for name, value in facts.items() if value]


def _funnel(why: Item) -> Iterator[str]:
    funnel = why.get("funnel") or []
    if funnel:
        policy = f" by policy {plain(why['policy'])}" if why.get("policy") else ""
        yield f"  brokerage{policy} at {why['decided_at']}:" if why.get("decided_at") else f"  brokerage{policy}:"
    width = max((len(verdict["criterion"]) for verdict in funnel), default=0)
    for verdict in funnel:
        n_left = verdict["left"]
        yield f"    {verdict['criterion']:{width}}  {n_left} queue{'' if n_left == 1 else 's'} left"
        for queue, reason in (verdict.get("refused") or {}).items():
            yield f"    {'':{width}}    not {plain(queue)}: {plain(reason)}"
    for queue, weight in sorted((why.get("weights") or {}).items(), key=lambda pair: -pair[1]):
        chosen = "  <- chosen" if queue == why.get("chosen") else ""
        terms = ", ".join(f"{term} {value:g}" for term, value in ((why.get("terms") or {}).get(queue) or {}).items())
        yield f"    weight of {plain(queue)}: {weight:g}{f' ({terms})' if terms else ''}{chosen}"
