"""`panda why`: the sentence, and the funnel that it rests on."""

from collections.abc import Iterator, Sequence
from itertools import islice

import click

from panda.cli.completions import complete_jobs
from panda.cli.selectors import select
from panda.cli.session import connect
from panda.cli.show import Column, Item, Look, emit, output_options, plain, say
from panda.cli.verbs import Verb
from panda.client import Client, Why
from panda.client.replies import ENDED

#: Jobs of a set that are asked about; their reasons are few.
SAMPLE = 20
SHORT = (
    Column("panda_id", "job", "number"),
    Column("status", kind="status"),
    Column("waits_for", "waits for"),
    Column("until", kind="time"),
    Column("chosen", "queue"),
    Column("summary"),
)


@click.command(
    cls=Verb,
    examples=(
        "panda why 7000412958",
        f"panda why last      # a sample of {SAMPLE} of its jobs that have not ended",
        "panda why 7000412958 -o json | jq .funnel",
    ),
)
@click.argument("selectors", nargs=-1, required=True, metavar="JOB|SET|FILTER...", shell_complete=complete_jobs)
@output_options
def why(selectors: Sequence[str], look: Look) -> None:
    """Tell why a job is where it is: what it waits for, and what brokerage said of each queue."""
    client = connect()
    selection = select(client, selectors)
    answers = [client.why(panda_id) for panda_id in selection.jobs]
    for jobset_id in selection.jobsets:
        answers += [client.why(panda_id) for panda_id in _sample(client, jobset_id)]
    if look.is_for_people and not look.fields:
        for text in _grouped(answers):
            click.echo(text)
        return
    is_single = selection.single_job is not None
    emit(look, [answer.raw for answer in answers], SHORT, lambda item: str(item["panda_id"]), single=is_single)


def _sample(client: Client, jobset_id: int) -> list[int]:
    open_jobs = (job.panda_id for job in client.jobset_jobs(jobset_id) if job.status not in ENDED)
    sample = list(islice(open_jobs, SAMPLE)) or [job.panda_id for job in client.jobset_jobs(jobset_id, limit=1)]
    say(f"set:{jobset_id}: asked about {len(sample)} of its jobs")
    return sample


def _grouped(answers: Sequence[Why]) -> Iterator[str]:
    """Each story once, with the jobs that share it."""
    stories: dict[tuple[str, str], list[Why]] = {}
    for answer in answers:
        stories.setdefault((answer.status, answer.summary), []).append(answer)
    for alike in stories.values():
        yield "\n".join(story(alike[0].raw, [answer.panda_id for answer in alike]))


def story(why: Item, panda_ids: Sequence[int]) -> list[str]:
    """The answer in lines: the sentence, the deadline, the funnel, the weights, the facts."""
    named = ", ".join(str(panda_id) for panda_id in panda_ids[:5]) + (", …" if len(panda_ids) > 5 else "")
    lines = [f"{'job' if len(panda_ids) == 1 else f'{len(panda_ids)} jobs'} {named} ({why['status']})"]
    lines.append(f"  {plain(why.get('summary'))}")
    if why.get("waits_for"):
        until = f", until {why['until']}" if why.get("until") else ""
        lines.append(f"  waits for {why['waits_for']}{until}")
    lines += _funnel(why)
    facts = why.get("facts") or {}
    lines += [f"  {plain(name).replace('_', ' ')}: {plain(value)}" for name, value in facts.items() if value]
    return lines


def _funnel(why: Item) -> Iterator[str]:
    funnel = why.get("funnel") or []
    if funnel:
        yield f"  brokerage at {why['decided_at']}:" if why.get("decided_at") else "  brokerage:"
    width = max((len(verdict["criterion"]) for verdict in funnel), default=0)
    for verdict in funnel:
        n_left = verdict["left"]
        yield f"    {verdict['criterion']:{width}}  {n_left} queue{'' if n_left == 1 else 's'} left"
        for queue, reason in (verdict.get("refused") or {}).items():
            yield f"    {'':{width}}    not {plain(queue)}: {plain(reason)}"
    for queue, weight in sorted((why.get("weights") or {}).items(), key=lambda pair: -pair[1]):
        chosen = "  <- chosen" if queue == why.get("chosen") else ""
        yield f"    weight of {plain(queue)}: {weight:g}{chosen}"
