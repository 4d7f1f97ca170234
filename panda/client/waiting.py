"""Waiting for job sets and jobs: looks that grow apart, patience with a server that restarts."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from panda.client.errors import NotFound, Unavailable, WaitTimeout
from panda.client.replies import Job, JobSet

FIRST_LOOK_S, LAST_LOOK_S, GROWTH = 0.2, 2.0, 1.3
#: Seconds that a server may be away while somebody waits.
PATIENCE_S = 120.0
#: The server's word for a job that was accepted and is not made yet.
NOT_EXPANDED = "not_expanded"


@dataclass(frozen=True)
class Waited:
    """What was waited for, as the last look saw it."""

    jobsets: tuple[JobSet, ...] = ()
    jobs: tuple[Job, ...] = ()

    @property
    def is_ended(self) -> bool:
        """Everything has ended."""
        return all(each.is_ended for each in self.jobsets) and all(each.is_ended for each in self.jobs)

    @property
    def is_finished(self) -> bool:
        """Everything has ended, and ended well."""
        statuses = [each.status for each in self.jobsets] + [each.status for each in self.jobs]
        return all(status == "finished" for status in statuses)

    @property
    def by_status(self) -> dict[str, int]:
        """Jobs by where they stand, over everything that is waited for; `accepted`: not made yet."""
        counts: dict[str, int] = {}
        for jobset in self.jobsets:
            for status, n in _counts(jobset).items():
                counts[status] = counts.get(status, 0) + n
        for job in self.jobs:
            counts[job.status] = counts.get(job.status, 0) + 1
        return {status: n for status, n in counts.items() if n}


def is_ended(waited: Waited) -> bool:
    """The usual end of a wait."""
    return waited.is_ended


def wait(
    look: Callable[[Waited], Waited],
    *,
    until: Callable[[Waited], bool] = is_ended,
    timeout_s: float | None = None,
    on_look: Callable[[Waited], None] = lambda _: None,
    patience_s: float = PATIENCE_S,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Waited:
    """Look again and again until `until` holds.

    Args:
        look: asks the server anew about what the look before left open.
        on_look: hears each look.
        patience_s: a server that is away for longer ends the wait.
    Raises:
        WaitTimeout: `timeout_s` passed.
        Unavailable: the server stayed away.
    """
    started = seen = clock()
    waited, look_s = Waited(), FIRST_LOOK_S
    while True:
        try:
            waited = look(waited)
            seen = clock()
            on_look(waited)
            if until(waited):
                return waited
        except Unavailable:
            if clock() - seen >= patience_s:
                raise
        left_s = float("inf") if timeout_s is None else started + timeout_s - clock()
        if left_s <= 0:
            raise WaitTimeout(f"not ended after {timeout_s:g} s: {_told(waited)}")
        sleep(min(look_s, left_s))
        look_s = min(LAST_LOOK_S, look_s * GROWTH)


def look_at(
    jobsets: Sequence[int], jobs: Sequence[int], jobset: Callable[[int], JobSet], job: Callable[[int], Job]
) -> Callable[[Waited], Waited]:
    """A look at these job sets and jobs; those that have ended are not asked about again."""

    def seen(panda_id: int) -> Job:
        try:
            return job(panda_id)
        except NotFound as problem:
            if problem.code != NOT_EXPANDED:
                raise
            return Job(panda_id=panda_id, status="pending")

    def look(before: Waited) -> Waited:
        ended_sets = {each.jobset_id: each for each in before.jobsets if each.is_ended}
        ended_jobs = {each.panda_id: each for each in before.jobs if each.is_ended}
        return Waited(
            tuple(ended_sets.get(jobset_id) or jobset(jobset_id) for jobset_id in jobsets),
            tuple(ended_jobs.get(panda_id) or seen(panda_id) for panda_id in jobs),
        )

    return look


def _counts(jobset: JobSet) -> dict[str, int]:
    if jobset.by_status:
        return {"accepted": jobset.ledger.unexpanded, **jobset.by_status}
    names = ("waiting", "running", "finished", "failed", "cancelled")
    return {"accepted": jobset.ledger.unexpanded, **{name: int(getattr(jobset.ledger, name)) for name in names}}


def _told(waited: Waited) -> str:
    return ", ".join(f"{n} {status}" for status, n in waited.by_status.items()) or "nothing was seen yet"
