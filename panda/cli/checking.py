"""The server's own checks, before anything is sent: the same code, as far as it needs no database."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from panda.cli.problems import FileProblem
from panda.errors import PandaError, TooLarge
from panda.jobs.specs import Defaults, JobSetRequest, JobSpec
from panda.jobs.templates import Binding, Expansion, FileName, bound, check
from panda.settings import Api

#: What a job needs that does not say so; as `panda.jobs.expansion` has it (a test compares).
CORES, MEMORY_MB, DISK_MB, WALLTIME_S = 1, 2000, 1000, 6 * 3600
#: Jobs that are shown before anything is sent.
SHOWN = 3


class Size(NamedTuple):
    """How many jobs a job set makes. `n_jobs` None: only the server can count them, `because`."""

    n_jobs: int | None
    because: str = ""
    first: tuple[dict[str, Any], ...] = ()
    """The first jobs, as brokerage will know them: command, cores, memory_mb, disk_mb, walltime_s, gpus, tags."""


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
        jobs = request.jobs or []
        return Size(len(jobs), first=tuple(_facts(seq, job, request.defaults) for seq, job in enumerate(jobs[:SHOWN])))
    dealt = {name: each.dataset for name, each in request.template.inputs.items() if each.files_per_job}
    # As if every dataset held the files of one group: names and formats are checked all the same.
    bindings: dict[str, Binding] = {
        name: bound(each, max(1, each.files_per_job), 0) for name, each in request.template.inputs.items()
    }
    expansion = Expansion(request.template, bindings)
    n_jobs = expansion.n_jobs
    first = tuple(_first(expansion, request.defaults))
    if dealt:
        return Size(None, f"{n_jobs} for each group of files of {', '.join(sorted(dealt.values()))}", first)
    return Size(n_jobs, first=first)


def _first(expansion: Expansion, defaults: Defaults) -> Iterator[dict[str, Any]]:
    """The first jobs; a file whose name only the server knows is called `(a file of IN)`."""
    for seq in range(min(SHOWN, expansion.n_jobs)):
        yield _facts(seq, expansion.job(seq, lambda name, _group: [FileName("", f"(a file of {name})")]), defaults)


def _facts(seq: int, job: JobSpec, defaults: Defaults) -> dict[str, Any]:
    return {
        "seq": seq,
        "cores": job.cores or defaults.cores or CORES,
        "memory_mb": job.memory_mb or defaults.memory_mb or MEMORY_MB,
        "disk_mb": job.disk_mb or defaults.disk_mb or DISK_MB,
        "walltime_s": job.walltime_s or defaults.walltime_s or WALLTIME_S,
        "gpus": (job.gpus if job.gpus is not None else defaults.gpus) or 0,
        "tags": job.tags if job.tags is not None else defaults.tags or [],
        "outputs": job.outputs,
        "command": job.command,
    }
