"""The server's own checks, before anything is sent: the same code, as far as it needs no database."""

from typing import Any, NamedTuple

import msgspec

from panda.cli.problems import FileProblem
from panda.errors import PandaError, TooLarge
from panda.jobs.specs import JobSetRequest
from panda.jobs.templates import Binding, Expansion, bound, check
from panda.settings import Api


class Size(NamedTuple):
    """How many jobs a job set makes. `n_jobs` None: only the server can count them, `because`."""

    n_jobs: int | None
    because: str = ""


def checked(request: dict[str, Any]) -> Size:
    """Check a request and count its jobs.

    Raises:
        FileProblem: the server would refuse it.
    """
    try:
        strict = msgspec.convert(request, JobSetRequest)
        check(strict, Api())
        return _size(strict)
    except msgspec.ValidationError as problem:
        message, _, where = str(problem).partition(" - at `$")
        raise FileProblem(where.strip("`").removeprefix("."), message) from None
    except TooLarge as problem:
        raise FileProblem("", str(problem), code=problem.code) from None
    except PandaError as problem:
        raise FileProblem("", str(problem), code=problem.code) from None


def _size(request: JobSetRequest) -> Size:
    if request.template is None:
        return Size(len(request.jobs or []))
    dealt = {name: each.dataset for name, each in request.template.inputs.items() if each.files_per_job}
    # As if every dataset held the files of one group: names and formats are checked all the same.
    bindings: dict[str, Binding] = {
        name: bound(each, max(1, each.files_per_job), 0) for name, each in request.template.inputs.items()
    }
    n_jobs = Expansion(request.template, bindings).n_jobs
    if dealt:
        return Size(None, f"{n_jobs} for each group of files of {', '.join(sorted(dealt.values()))}")
    return Size(n_jobs)
