"""`panda logs`: what a job wrote."""

import re
import sys
from collections.abc import Iterable, Iterator, Sequence

import click

from panda.cli import columns, exits
from panda.cli.completions import complete_jobs
from panda.cli.problems import CommandProblem
from panda.cli.selectors import parse, select
from panda.cli.session import connect
from panda.cli.show import Look, emit, output_options, say
from panda.cli.verbs import Verb
from panda.client import Client, JobLog
from panda.client.logs import Logs

#: What is shown when no log is named: the first of these that there is.
USUAL = ("payload.stdout", "payload.stderr", "pilot.log")


@click.command(
    cls=Verb,
    examples=(
        "panda logs 7000412958                       # the payload's output",
        "panda logs 7000412958 pilot.log --tail 50",
        "panda logs 7000412958 -f",
        "panda logs 7000412958 --attempt 1 --grep 'ERROR|WARN'",
        "panda logs 7000412958 --list",
        "panda jobs --set last --status failed -q | panda logs - --tail 5",
    ),
)
@click.argument("words", nargs=-1, required=True, metavar="JOB... [NAME]", shell_complete=complete_jobs)
@click.option("-f", "--follow", is_flag=True, help="Go on as it is written, until the attempt has ended.")
@click.option("--tail", type=click.IntRange(0), metavar="N", help="Only the last N lines.")
@click.option("--attempt", type=click.IntRange(1), metavar="N", help="Of this attempt; otherwise of the newest.")
@click.option("--grep", metavar="RE", help="Only lines that this regular expression finds.")
@click.option("--list", "listing", is_flag=True, help="Tell which logs there are.")
@output_options
def logs(
    words: Sequence[str],
    follow: bool,
    tail: int | None,
    attempt: int | None,
    grep: str | None,
    listing: bool,
    look: Look,
) -> int:
    """Show a job's log, all of it or as it is written."""
    client = connect()
    selectors, name = _split(words)
    panda_ids = _jobs(client, selectors)
    wanted = _pattern(grep)
    if follow and len(panda_ids) != 1:
        raise click.UsageError("--follow wants one job")
    if listing:
        found = ({"panda_id": each, **log.raw} for each in panda_ids for log in client.logs(each).list())
        emit(look, found, (columns.JOBS[0], *columns.LOGS), columns.own_name)
        return exits.OK
    for panda_id in panda_ids:
        reader = client.logs(panda_id)
        log = _chosen(client, reader, panda_id, name, attempt, is_awaited=follow)
        if len(panda_ids) > 1:
            say(f"==> {panda_id} {log.name}, attempt {log.attempt_nr}")
        try:
            _write(_bytes_of(reader, log, tail, follow), wanted)
        except KeyboardInterrupt:
            say(f"\nno longer reading; come back with: panda logs {panda_id} {log.name}{' -f' if follow else ''}")
            return exits.INTERRUPTED
    return exits.OK


def _split(words: Sequence[str]) -> tuple[list[str], str]:
    """Selectors, and the name of a log if the last word is one."""
    if len(words) > 1:
        try:
            parse([word for word in words[-1:] if word != "-"])
        except click.UsageError:
            return list(words[:-1]), words[-1]
    return list(words), ""


def _jobs(client: Client, selectors: Sequence[str]) -> list[int]:
    selection = select(client, selectors)
    panda_ids = list(selection.jobs)
    for jobset_id in selection.jobsets:
        panda_ids += [job.panda_id for job in client.jobset_jobs(jobset_id)]
    return panda_ids


def _pattern(grep: str | None) -> re.Pattern[bytes] | None:
    try:
        return re.compile(grep.encode()) if grep is not None else None
    except re.error as problem:
        raise click.UsageError(f"--grep {grep!r}: {problem}") from None


def _chosen(client: Client, reader: Logs, panda_id: int, name: str, attempt: int | None, *, is_awaited: bool) -> JobLog:
    """The log that is meant: by name or the usual one, of that attempt or the newest that has it.

    Raises:
        CommandProblem: there is none; which there are is told.
    """
    there = [log for log in reader.list() if attempt in (None, log.attempt_nr)]
    for wanted in [name] if name else [*USUAL, *(log.name for log in there)]:
        fitting = [log for log in there if log.name == wanted]
        if fitting:
            return max(fitting, key=lambda log: log.attempt_nr)
    job = client.job(panda_id)
    if is_awaited and not job.is_ended:
        say(f"job {panda_id} is {job.status}; waiting for its {name or USUAL[0]}")
        return JobLog(name=name or USUAL[0], attempt_nr=attempt or job.attempt_nr)
    known = ", ".join(sorted({log.name for log in there}))
    raise CommandProblem(
        f"job {panda_id} ({job.status}) has no log{f' {name}' if name else ''}",
        code="no_log",
        exit_code=exits.NOT_FOUND,
        hint=f"there is: {known}" if known else f"panda why {panda_id} tells how far it came",
    )


def _bytes_of(reader: Logs, log: JobLog, tail: int | None, follow: bool) -> Iterator[bytes]:
    offset = 0
    if tail is not None:
        end, offset = reader.tail(log, tail)
        yield end
    if follow:
        yield from reader.follow(log.name, log.attempt_nr, offset)
    elif tail is None:
        yield from reader.blocks(log)


def _write(blocks: Iterable[bytes], wanted: re.Pattern[bytes] | None) -> None:
    """Bytes as they are, or their lines that `wanted` finds."""
    for block in blocks if wanted is None else _lines(blocks):
        if wanted is None or wanted.search(block):
            sys.stdout.buffer.write(block)
            sys.stdout.buffer.flush()


def _lines(blocks: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for block in blocks:
        *whole, rest = (rest + block).split(b"\n")
        yield from (line + b"\n" for line in whole)
    if rest:
        yield rest + b"\n"
