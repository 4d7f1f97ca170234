"""Which jobs a command means: `7000412958`, `100-120`, `set:9120`, `last`, `last:3`, or `-` for stdin.

Commas join them: `7,9-12`. What is read from stdin is what `-q` of another command prints.
"""

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from panda.client import Client

STDIN = "-"
#: Jobs that one range may name; more belong together in a job set.
MAX_RANGE = 10_000

_RANGE = re.compile(r"([0-9]{1,18})(?:-([0-9]{1,18}))?\Z")
_SET = re.compile(r"set:([0-9]{1,18})\Z")
_LAST = re.compile(r"last(?::([0-9]{1,3}))?\Z")


@dataclass(frozen=True)
class Words:
    """Selectors as they were written; `n_last`: that many of my newest job sets."""

    jobs: tuple[range, ...] = ()
    jobsets: tuple[int, ...] = ()
    n_last: int = 0


@dataclass(frozen=True)
class Selection:
    """Jobs and job sets, each once, in the order in which they were named."""

    jobs: tuple[int, ...] = ()
    jobsets: tuple[int, ...] = ()

    @property
    def names(self) -> list[str]:
        """As selectors again."""
        return [f"set:{jobset_id}" for jobset_id in self.jobsets] + [str(panda_id) for panda_id in self.jobs]

    @property
    def single_job(self) -> int | None:
        """The job, if it is one and nothing else."""
        return self.jobs[0] if len(self.jobs) == 1 and not self.jobsets else None


def parse(texts: Sequence[str]) -> Words:
    """What the selectors say. Raises click.UsageError: one of them is none."""
    jobs: list[range] = []
    jobsets: list[int] = []
    n_last = 0
    for text in (part for word in texts for part in word.split(",") if part):
        if found := _RANGE.match(text):
            jobs.append(_range(text, int(found[1]), int(found[2] or found[1])))
        elif found := _SET.match(text):
            jobsets.append(int(found[1]))
        elif found := _LAST.match(text):
            n_last = max(n_last, int(found[1] or 1))
        else:
            raise click.UsageError(f"{text[:60]!r} names no job: write 7000412958, 100-120, set:9120, last or -")
    return Words(tuple(jobs), tuple(dict.fromkeys(jobsets)), n_last)


def select(client: "Client", texts: Sequence[str]) -> Selection:
    """The jobs and job sets that `texts` mean. Raises click.UsageError: none at all."""
    words = parse(list(_spelt_out(texts)))
    jobsets = list(words.jobsets)
    if words.n_last:
        jobsets += newest(client, words.n_last)
    jobs = dict.fromkeys(panda_id for each in words.jobs for panda_id in each)
    selection = Selection(tuple(jobs), tuple(dict.fromkeys(jobsets)))
    if not selection.names:
        raise click.UsageError("no job is named: write 7000412958, 100-120, set:9120, last or -")
    return selection


def newest(client: "Client", n: int) -> list[int]:
    """My `n` newest job sets, the newest first. Raises CommandProblem: I have none."""
    from panda.cli import exits
    from panda.cli.problems import CommandProblem

    mine = str(client.whoami()["subject"])
    found = [jobset.jobset_id for jobset in client.jobsets(owner=mine, limit=n)]
    if not found:
        raise CommandProblem(
            f"{mine} has no job set yet", code="not_found", exit_code=exits.NOT_FOUND, hint="panda submit --help"
        )
    return found


def _spelt_out(texts: Sequence[str]) -> Iterator[str]:
    for text in texts:
        if text == STDIN:
            yield from sys.stdin.read().split()
        else:
            yield text


def _range(text: str, first: int, last: int) -> range:
    if last < first:
        raise click.UsageError(f"{text!r} goes backwards")
    if last - first >= MAX_RANGE:
        raise click.UsageError(f"{text!r} names more than {MAX_RANGE} jobs; write set:ID for those of a job set")
    return range(first, last + 1)
