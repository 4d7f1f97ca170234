"""What the server answers, as frozen structs.

A field that an older server leaves out has its default; what a newer one adds is kept in `raw`,
which is the server's whole answer. Times are aware UTC instants, sizes bytes or MB (10^6).
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeVar

import msgspec

from panda.client.errors import ServerError

#: A job or a job set in one of these has ended (a failed job may be reopened by a retry).
ENDED = frozenset({"finished", "failed", "cancelled", "closed"})


class Reply(msgspec.Struct, kw_only=True, frozen=True):
    """Base of all answers."""

    raw: dict[str, Any] = {}

    def _repr_html_(self) -> str:
        from panda.client.notebook import card

        return card(type(self).__name__, self.raw)


R = TypeVar("R", bound=Reply)


def parsed(kind: type[R], document: Any) -> R:
    """`document` as a `kind`.

    Raises:
        ServerError: a field is missing that names the thing, or has another type.
    """
    if not isinstance(document, Mapping):
        raise ServerError(f"the answer is no {kind.__name__}", code="not_understood")
    try:
        return msgspec.convert({**document, "raw": dict(document)}, kind)
    except msgspec.ValidationError as problem:
        raise ServerError(f"the answer is no {kind.__name__}: {problem}", code="not_understood") from problem


class Accepted(Reply, kw_only=True, frozen=True):
    """A job set was taken; its jobs have the PandaIDs from `first_panda_id` to `last_panda_id`."""

    jobset_id: int
    first_panda_id: int
    last_panda_id: int
    n_jobs: int
    output_dataset: str = ""
    replayed: bool = False
    """An earlier try of the same submission had already arrived."""


class Ledger(Reply, kw_only=True, frozen=True):
    """accepted = unexpanded + waiting + running + finished + failed + cancelled."""

    accepted: int
    unexpanded: int = 0
    waiting: int = 0
    running: int = 0
    finished: int = 0
    failed: int = 0
    cancelled: int = 0

    @property
    def final(self) -> int:
        """Jobs that have ended."""
        return self.finished + self.failed + self.cancelled


class JobSet(Reply, kw_only=True, frozen=True):
    jobset_id: int
    status: str
    ledger: Ledger
    name: str = ""
    owner: str = ""
    share: str = ""
    created_at: datetime | None = None
    ended_at: datetime | None = None
    first_panda_id: int | None = None
    last_panda_id: int | None = None
    n_jobs: int = 0
    output_dataset: str = ""
    depends_on: list[int] = []
    on_parent_failure: str = ""
    by_status: dict[str, int] = {}

    @property
    def is_ended(self) -> bool:
        return self.status in ENDED


class Job(Reply, kw_only=True, frozen=True):
    panda_id: int
    status: str
    jobset_id: int | None = None
    name: str = ""
    owner: str = ""
    stage: str | None = None
    waits_for: str | None = None
    due_at: datetime | None = None
    attempt_nr: int = 1
    max_attempts: int = 1
    priority: int = 0
    share: str = ""
    cores: int = 0
    memory_mb: int = 0
    disk_mb: int = 0
    walltime_s: int = 0
    gpus: int = 0
    tags: list[str] = []
    queue: str | None = None
    site: str | None = None
    pilot_id: str | None = None
    node: str | None = None
    failed_stage: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    exit_code: int | None = None
    wall_s: float | None = None
    cpu_s: float | None = None
    max_rss_mb: int | None = None
    created_at: datetime | None = None
    changed_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    kill_requested_at: datetime | None = None
    kill_delivered_at: datetime | None = None
    kill_confirmed_at: datetime | None = None
    kill_state: str | None = None
    failures_left: int | None = None
    parent_id: int | None = None
    archived: bool = False
    command: list[str] = []

    @property
    def is_ended(self) -> bool:
        return self.status in ENDED


class JobEvent(Reply, kw_only=True, frozen=True):
    """One move of a job."""

    now: str
    at: datetime | None = None
    was: str | None = None
    attempt_nr: int = 1
    stage: str | None = None
    by: str = ""
    reason: str | None = None
    chain_id: str | None = None


class JobFile(Reply, kw_only=True, frozen=True):
    lfn: str
    kind: str = ""
    dataset: str = ""
    status: str = ""
    size_bytes: int | None = None
    adler32: str | None = None
    attempt_nr: int | None = None


class Attempt(Reply, kw_only=True, frozen=True):
    attempt_nr: int
    from_stage: str = ""
    queue: str | None = None
    pilot_id: str | None = None
    node: str | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    outcome: str | None = None
    failed_stage: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    exit_code: int | None = None
    wall_s: float | None = None
    cpu_s: float | None = None
    max_rss_mb: int | None = None


class JobLog(Reply, kw_only=True, frozen=True):
    name: str
    attempt_nr: int = 1
    size_bytes: int = 0


class Verdict(Reply, kw_only=True, frozen=True):
    """One criterion of brokerage: how many queues were left after it, and whom it refused (queue -> why)."""

    criterion: str
    left: int
    refused: dict[str, str] = {}


class Change(Reply, kw_only=True, frozen=True):
    """A single thing that would let a job run. `who` could do it: owner, operator, or time alone."""

    say: str
    who: str = ""
    queues: list[str] = []
    command: str = ""


class Ahead(Reply, kw_only=True, frozen=True):
    """Others that come first, and by which rule: share, rank, turn or transfers."""

    say: str
    rule: str = ""
    who: str = ""
    n: int | None = None


class Estimate(Reply, kw_only=True, frozen=True):
    """When a job will start; `coverage` is the part of `n_compared` past estimates that were right."""

    earliest_at: datetime
    latest_at: datetime
    coverage: float | None = None
    n_compared: int = 0
    because: str = ""


class PilotWhy(Reply, kw_only=True, frozen=True):
    """Why a pilot got nothing, what is ready at its queue, and how asks there ended."""

    pilot_id: str
    summary: str
    queue: str = ""
    since: datetime | None = None
    changes: list[Change] = []
    ready: list[dict[str, Any]] = []
    asks: dict[str, int] = {}
    refusals: dict[str, int] = {}
    facts: dict[str, Any] = {}


class Why(Reply, kw_only=True, frozen=True):
    """Why a job is where it is, who comes first, and which single changes would let it run."""

    panda_id: int
    status: str
    summary: str = ""
    waits_for: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    changes: list[Change] = []
    ahead: list[Ahead] = []
    estimate: Estimate | None = None
    policy: str = ""
    terms: dict[str, dict[str, float]] = {}
    funnel: list[Verdict] = []
    chosen: str | None = None
    weights: dict[str, float] = {}
    decided_at: datetime | None = None
    facts: dict[str, Any] = {}


class WhyGroup(Reply, kw_only=True, frozen=True):
    """Jobs of a set that are where they are for the same reason; `why` is of the first of `panda_ids`."""

    n: int
    why: Why
    status: str = ""
    waits_for: str | None = None
    queue: str | None = None
    panda_ids: list[int] = []


class JobSetWhy(Reply, kw_only=True, frozen=True):
    """Why the jobs of a set have not ended, the largest group first; `n_more` are of further kinds."""

    jobset_id: int
    n_open: int = 0
    n_not_made: int = 0
    n_seen: int = 0
    is_whole: bool = True
    groups: list[WhyGroup] = []
    n_more: int = 0


class Affected(Reply, kw_only=True, frozen=True):
    """How many jobs an action reached; what it could not do, by PandaID."""

    n: int
    refused: dict[str, str] = {}
    action_id: int | None = None
    """The action that brings those that are left; none: these were all."""


class Dataset(Reply, kw_only=True, frozen=True):
    dataset: str
    kind: str = "dataset"
    """`dataset`, or `container`: it holds datasets."""
    status: str = ""
    owner: str = ""
    jobset_id: int | None = None
    """The job set that it was made for."""
    n_files: int = 0
    size_bytes: int = 0
    created_at: datetime | None = None


class DatasetFile(Reply, kw_only=True, frozen=True):
    lfn: str
    size_bytes: int
    adler32: str
    sha256: str | None = None
    """None: nobody said it. So is `md5`."""
    md5: str | None = None
    guid: str = ""
    storages: list[str] = []
