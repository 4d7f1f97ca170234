"""What `why` answers, of jobs and of pilots; named in `panda.api.schemas` like all messages."""

from datetime import datetime
from typing import Any

from panda.words import Reply


class Verdict(Reply, kw_only=True):
    """One criterion of brokerage: how many queues were left after it, and whom it refused."""

    criterion: str
    left: int
    refused: dict[str, str]
    """queue -> why"""


class Change(Reply, kw_only=True):
    """A single thing that would let the job run, if it were different."""

    who: str
    """Who could do it: `owner`, `operator`, or `time` alone."""
    say: str
    """In words, with what is gained by it."""
    queues: list[str]
    """Where the job could run then."""
    command: str
    """What to type, if it is one command; else empty."""


class Ahead(Reply, kw_only=True):
    """Others that come first."""

    rule: str
    """`share`, `rank` (submitted earlier, or of higher priority), `turn` or `transfers`."""
    who: str
    n: int | None
    """None: they are not counted one by one."""
    say: str


class Estimate(Reply, kw_only=True):
    """When a job that waits for a pilot will start."""

    earliest_at: datetime
    latest_at: datetime
    coverage: float | None
    """The part of `n_compared` past estimates in which the job did start between the two; none: too few."""
    n_compared: int
    because: str


class Why(Reply, kw_only=True):
    """GET /v1/jobs/{panda_id}/why"""

    panda_id: int
    status: str
    summary: str
    """One sentence that answers the question."""
    waits_for: str | None
    since: datetime | None
    """When it came to where it stands."""
    until: datetime | None
    changes: list[Change]
    """Single changes that would let it run, those first that its owner could make."""
    ahead: list[Ahead]
    estimate: Estimate | None
    policy: str
    """Of brokerage, which decided for it."""
    funnel: list[Verdict]
    chosen: str | None
    weights: dict[str, float]
    terms: dict[str, dict[str, float]]
    """What the weights of the heaviest queues are made of; terms that change nothing are left out."""
    decided_at: datetime | None
    facts: dict[str, Any]
    """Whatever else helps: pilots seen, missing files, parents, position."""


class WhyGroup(Reply, kw_only=True):
    """Jobs of a set that are where they are for the same reason."""

    n: int
    """Of those that were looked at."""
    status: str
    waits_for: str | None
    queue: str | None
    """Where they wait for a pilot, or for data."""
    panda_ids: list[int]
    """The first ones."""
    why: Why
    """Of the first one."""


class JobSetWhy(Reply, kw_only=True):
    """GET /v1/jobsets/{jobset_id}/why"""

    jobset_id: int
    n_open: int
    n_not_made: int
    """Jobs that are accepted, and not made yet."""
    n_seen: int
    """Jobs that were made, have not ended, and were looked at."""
    is_whole: bool
    """All were looked at; else some of every part of the set."""
    groups: list[WhyGroup]
    """The largest first."""
    n_more: int
    """Jobs of further kinds, among those that were looked at."""


class Waiting(Reply, kw_only=True):
    """Ready jobs of one size at a pilot's queue."""

    share: str
    n: int
    """Counting stops at 1,000."""
    cores: int
    memory_mb: int
    disk_mb: int
    walltime_s: int
    gpus: int
    tags: list[str]
    misfit: str | None
    """Why this pilot cannot take them, as far as the server knows it; none: it could."""


class PilotWhy(Reply, kw_only=True):
    """GET /v1/pilots/{pilot_id}/why"""

    pilot_id: str
    queue: str
    summary: str
    """One sentence that answers the question."""
    since: datetime | None
    changes: list[Change]
    ready: list[Waiting]
    """What is ready at its queue."""
    asks: dict[str, int]
    """How asks at its queue ended in two hours: `got`, `offline`, `nothing_ready`, `nothing_fits`, `over_quota`,
    `quicker`."""
    refusals: dict[str, int]
    """Why brokerage sent nothing there in the last hour, in words, and of how many jobs."""
    facts: dict[str, Any]
