"""Which jobs a command means: `7000412958`, `100-120`, `set:9120`, `last`, `last:3`, `-` for stdin, or a filter
in quotes: `'status:failed site:HOL* changed:24h'`. `@NAME` stands for a saved view, alone or in a filter.

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
#: As the server knows them; what stands in quotes is left alone there.
_VIEW = re.compile(r"(?:^|[\s(])@[A-Za-z0-9]")
_NAMED = re.compile(r'"(?:[^"\\]|\\.)*"|(?<![\w:=<>!,@])@([A-Za-z0-9][\w.-]*)')
_LAST = re.compile(r"last(?::([0-9]{1,3}))?\Z")
#: A comparison somewhere in it, and not just a misspelt selector.
_FILTER = re.compile(r"(?!(?:set|last|task):\S*\Z)[^:=<>]*[A-Za-z_]\s*(?:!=|[:=<>])\s*\S")
HOW = "write 7000412958, 100-120, set:9120, last, - or a filter as 'status:failed site:HOL*'"


@dataclass(frozen=True)
class Words:
    """Selectors as they were written; `n_last`: that many of my newest job sets."""

    jobs: tuple[range, ...] = ()
    jobsets: tuple[int, ...] = ()
    n_last: int = 0
    filters: tuple[str, ...] = ()


@dataclass(frozen=True)
class Selection:
    """Jobs and job sets, each once, in the order in which they were named; and filters for others."""

    jobs: tuple[int, ...] = ()
    jobsets: tuple[int, ...] = ()
    filters: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """As selectors again."""
        jobsets = [f"set:{jobset_id}" for jobset_id in self.jobsets]
        return [*self.filters, *jobsets, *(str(panda_id) for panda_id in self.jobs)]

    @property
    def single_job(self) -> int | None:
        """The job, if it is one and nothing else."""
        return self.jobs[0] if len(self.jobs) == 1 and not self.jobsets and not self.filters else None


def parse(texts: Sequence[str]) -> Words:
    """What the selectors say. Raises click.UsageError: one of them is none."""
    jobs: list[range] = []
    jobsets: list[int] = []
    n_last = 0
    filters = [word for word in texts if is_filter(word)]
    for text in (part for word in texts if not is_filter(word) for part in word.split(",") if part):
        if found := _RANGE.match(text):
            jobs.append(_range(text, int(found[1]), int(found[2] or found[1])))
        elif found := _SET.match(text):
            jobsets.append(int(found[1]))
        elif found := _LAST.match(text):
            n_last = max(n_last, int(found[1] or 1))
        else:
            raise click.UsageError(f"{text[:60]!r} names no job: {HOW}")
    return Words(tuple(jobs), tuple(dict.fromkeys(jobsets)), n_last, tuple(dict.fromkeys(filters)))


def is_filter(word: str) -> bool:
    """Whether a word is a filter, rather than the name of a job or a job set."""
    if _VIEW.search(word):
        return True
    is_named = all(pattern.match(part) is None for part in word.split(",") for pattern in (_RANGE, _SET, _LAST))
    return is_named and _FILTER.match(word) is not None


def names_jobs(word: str) -> bool:
    """Whether a word is a selector of jobs, or a filter."""
    parts = [part for part in word.split(",") if part]
    is_named = all(any(pattern.match(part) for pattern in (_RANGE, _SET, _LAST)) for part in parts)
    return word == STDIN or is_filter(word) or (bool(parts) and is_named)


def select(client: "Client", texts: Sequence[str], *, spells_out: bool = True) -> Selection:
    """The jobs and job sets that `texts` mean.

    Args:
        spells_out: filters become the jobs that fit, MAX_RANGE at most.
    Raises:
        click.UsageError: nothing at all is named.
    """
    words = parse([_without_views(client, text) for text in _spelt_out(texts)])
    jobsets = list(words.jobsets)
    if words.n_last:
        jobsets += newest(client, words.n_last)
    jobs = dict.fromkeys(panda_id for each in words.jobs for panda_id in each)
    selection = Selection(tuple(jobs), tuple(dict.fromkeys(jobsets)), words.filters)
    if not selection.names:
        raise click.UsageError(f"no job is named: {HOW}")
    return _spelt(client, selection) if spells_out and selection.filters else selection


def _without_views(client: "Client", text: str) -> str:
    """Each `@NAME` in it replaced by what that view says. Raises CommandProblem: there is no such view."""
    from panda.cli import exits
    from panda.cli.problems import CommandProblem

    if not _VIEW.search(text):
        return text
    known = {str(view.raw["name"]): str(view.raw["filter"]) for view in client.views()}

    def meant(found: re.Match[str]) -> str:
        name = found[1]
        if name and name not in known:
            hint = f"known: {', '.join(known) or 'none'}; keep one with `panda views save`"
            raise CommandProblem(f"there is no view @{name}", code="not_found", exit_code=exits.NOT_FOUND, hint=hint)
        return f"({known[name]})" if name else found[0]

    return _NAMED.sub(meant, text)


def _spelt(client: "Client", selection: Selection) -> Selection:
    """The selection with the jobs that its filters find. Raises CommandProblem: they find none."""
    from panda.cli import exits
    from panda.cli.problems import CommandProblem

    found = [job.panda_id for text in selection.filters for job in client.jobs(filter=text, limit=MAX_RANGE + 1)]
    if len(found) > MAX_RANGE:
        raise click.UsageError(f"more than {MAX_RANGE} jobs fit; write set:ID for those of a job set")
    whole = Selection(tuple(dict.fromkeys([*selection.jobs, *found])), selection.jobsets)
    if not whole.names:
        raise CommandProblem(f"no job fits {', '.join(selection.filters)}", code="not_found", exit_code=exits.NOT_FOUND)
    return whole


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
            yield from (word for word in sys.stdin.read().split() if word)
        else:
            yield text


def _range(text: str, first: int, last: int) -> range:
    if last < first:
        raise click.UsageError(f"{text!r} goes backwards")
    if last - first >= MAX_RANGE:
        raise click.UsageError(f"{text!r} names more than {MAX_RANGE} jobs; write set:ID for those of a job set")
    return range(first, last + 1)
