"""Which queues would take a job, as far as their own facts tell: what `submit --dry-run` shows.

Brokerage itself looks at more (where the inputs are, how full a queue is); `panda why` tells what it decided.
"""

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

Facts = Mapping[str, Any]

_NEEDS = (
    ("cores", "cores"),
    ("memory_mb", "MB of memory"),
    ("disk_mb", "MB of disk"),
    ("walltime_s", "s of wall time"),
    ("gpus", "GPUs"),
)


def verdicts(job: Facts, brokerage: Facts, queues: Sequence[Facts]) -> Iterator[tuple[Facts, str]]:
    """(queue, why it would not take the job; "": it would) for each queue.

    Args:
        job: cores, memory_mb, disk_mb, walltime_s, gpus, tags.
        brokerage: the job set's `sites` and `exclude`.
    """
    for queue in queues:
        yield queue, _refusal(job, brokerage, queue)


def _refusal(job: Facts, brokerage: Facts, queue: Facts) -> str:
    sites = [str(site) for site in brokerage.get("sites") or []]
    status = queue.get("status")
    is_named = {queue.get("name"), queue.get("site")} & set(sites) and not queue.get("status_rule")
    if status != "online" and not (status == "test" and (brokerage.get("test") or is_named)):
        return f"the queue is {status}"
    if sites and not _is_named(queue, sites):
        return f"the job set goes only to {', '.join(sites)}"
    if _is_named(queue, brokerage.get("exclude") or []):
        return "the job set excludes it"
    for name, words in _NEEDS:
        needed, has = job.get(name) or 0, queue.get(name) or 0
        if needed > has:
            return f"needs {needed} {words}, the queue has {has}"
    lacking = sorted(set(job.get("tags") or []) - set(queue.get("tags") or []))
    return f"needs {', '.join(lacking)}" if lacking else ""


def _is_named(queue: Facts, patterns: Sequence[str]) -> bool:
    names = (str(queue.get("name")), str(queue.get("site")))
    return any(fnmatchcase(name, str(pattern)) for name in names for pattern in patterns)
