"""What travels over /v1, as msgspec structs: the one definition of every message.

What clients submit stands in `panda.jobs.specs`, what pilots say in `panda.dispatcher.words`; both
are named here too, so that this module is the whole list. Sizes are bytes or MB (10^6), times are
seconds or ISO 8601 UTC.
"""

from datetime import datetime
from typing import Any, Literal

from panda.dispatcher.words import (
    AcquireReply,
    AcquireRequest,
    HeartbeatReply,
    HeartbeatRequest,
    LogAccepted,
    UpdateReply,
    UpdateRequest,
)
from panda.jobs.specs import JobSetRequest
from panda.words import Name, Reply, Request, Text


class JobSetAccepted(Reply, kw_only=True):
    """201 (200 for a repeated idempotency key)."""

    jobset_id: int
    first_panda_id: int
    last_panda_id: int
    n_jobs: int
    output_dataset: str
    replayed: bool


class Ledger(Reply, kw_only=True):
    """accepted = unexpanded + waiting + running + finished + failed + cancelled."""

    accepted: int
    unexpanded: int
    waiting: int
    running: int
    finished: int
    failed: int
    cancelled: int


class JobSet(Reply, kw_only=True):
    jobset_id: int
    name: str
    owner: str
    status: str
    share: str
    created_at: datetime
    ended_at: datetime | None
    first_panda_id: int
    last_panda_id: int
    n_jobs: int
    output_dataset: str
    depends_on: list[int]
    on_parent_failure: str
    ledger: Ledger
    by_status: dict[str, int]


class Job(Reply, kw_only=True):
    panda_id: int
    jobset_id: int
    name: str
    owner: str
    status: str
    stage: str | None
    waits_for: str | None
    due_at: datetime | None
    attempt_nr: int
    max_attempts: int
    priority: int
    share: str
    cores: int
    memory_mb: int
    disk_mb: int
    walltime_s: int
    tags: list[str]
    queue: str | None
    site: str | None
    pilot_id: str | None
    node: str | None
    failed_stage: str | None
    error_code: str | None
    error_message: str | None
    exit_code: int | None
    wall_s: float | None
    cpu_s: float | None
    max_rss_mb: int | None
    created_at: datetime
    changed_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    kill_requested_at: datetime | None
    parent_id: int | None
    archived: bool
    command: list[str]


class JobEvent(Reply, kw_only=True):
    at: datetime
    was: str | None
    now: str
    attempt_nr: int
    stage: str | None
    by: str
    reason: str | None
    chain_id: str | None


class JobFile(Reply, kw_only=True):
    kind: str
    lfn: str
    dataset: str
    status: str
    size_bytes: int | None
    adler32: str | None
    attempt_nr: int | None


class Attempt(Reply, kw_only=True):
    attempt_nr: int
    from_stage: str
    queue: str | None
    pilot_id: str | None
    node: str | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    outcome: str | None
    failed_stage: str | None
    error_code: str | None
    error_message: str | None
    exit_code: int | None
    wall_s: float | None
    cpu_s: float | None
    max_rss_mb: int | None


class Verdict(Reply, kw_only=True):
    """One criterion of brokerage: how many queues were left after it, and whom it refused."""

    criterion: str
    left: int
    refused: dict[str, str]
    """queue -> why"""


class Why(Reply, kw_only=True):
    """GET /v1/jobs/{panda_id}/why"""

    panda_id: int
    status: str
    summary: str
    """One sentence that answers the question."""
    waits_for: str | None
    until: datetime | None
    funnel: list[Verdict]
    chosen: str | None
    weights: dict[str, float]
    decided_at: datetime | None
    facts: dict[str, Any]
    """Whatever else helps: pilots seen, missing files, parents, position."""


class RetryRequest(Request, kw_only=True):
    """POST /v1/jobs/{id}/retry, POST /v1/jobsets/{id}/retry (every failed job of the set)."""

    stage: Literal["define", "broker", "stage_in", "stage_out"] | None = None
    """Where the new attempt starts; none: where the last one failed, or `broker` if it had run."""
    reason: Text = ""


class CancelRequest(Request, kw_only=True):
    reason: Text = ""


class Affected(Reply, kw_only=True):
    """How many jobs an action reached; what it could not do, by PandaID."""

    n: int
    refused: dict[str, str] = {}


# ---- data -----------------------------------------------------------------------------------


class DatasetRequest(Request, kw_only=True):
    """POST /v1/datasets"""

    dataset: Name
    """`scope:name`"""


class Dataset(Reply, kw_only=True):
    dataset: str
    status: str
    owner: str
    n_files: int
    size_bytes: int
    created_at: datetime


class DatasetFile(Reply, kw_only=True):
    lfn: str
    size_bytes: int
    adler32: str
    guid: str
    storages: list[str]


__all__ = [
    "AcquireReply",
    "AcquireRequest",
    "HeartbeatReply",
    "HeartbeatRequest",
    "JobSetRequest",
    "LogAccepted",
    "UpdateReply",
    "UpdateRequest",
]
