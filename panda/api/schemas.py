"""What travels over /v1, as msgspec structs: the one definition of every message.

What clients submit stands in `panda.jobs.specs`, what pilots say in `panda.dispatcher.words`; both
are named here too, so that this module is the whole list. Sizes are bytes or MB (10^6), times are
seconds or ISO 8601 UTC.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import Meta

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


class JobLog(Reply, kw_only=True):
    name: str
    attempt_nr: int
    size_bytes: int
    changed_at: datetime


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


class SandboxStored(Reply, kw_only=True):
    """201, or 200 when the same bytes were there before."""

    sha256: str
    size_bytes: int


# ---- sites ----------------------------------------------------------------------------------


class Site(Reply, kw_only=True):
    name: str
    cloud: str
    description: str


class Storage(Reply, kw_only=True):
    name: str
    site: str
    kind: str
    root: str
    status: str


class Queue(Reply, kw_only=True):
    name: str
    site: str
    cloud: str
    storage: str
    status: str
    status_reason: str
    cores: int
    memory_mb: int
    disk_mb: int
    walltime_s: int
    tags: list[str]
    submitter: str
    max_pilots: int
    pilot_cores: int
    pilot_options: list[str]
    max_ready: int


class QueueStatusRequest(Request, kw_only=True):
    """POST /v1/queues/{name}/status"""

    status: Name
    reason: Text


class QueueStatusSet(Reply, kw_only=True):
    queue: str
    status: str
    n_woken: int
    """Waiting jobs that brokerage looks at again at once; the others follow."""


# ---- people and system ----------------------------------------------------------------------


class WhoAmI(Reply, kw_only=True):
    subject: str
    roles: list[str]
    queue: str | None
    """A pilot of this queue alone."""


class TokenRequest(Request, kw_only=True):
    """POST /v1/tokens"""

    owner: Name
    roles: Annotated[list[Name], Meta(min_length=1, max_length=10)]
    label: Annotated[str, Meta(max_length=200)] = ""
    ttl_s: Annotated[int, Meta(ge=1, le=10 * 366 * 86_400)] | None = None
    """Seconds until it expires; none: never."""
    queue: Annotated[str, Meta(max_length=250)] = ""
    """The one queue that a pilot with this token may serve."""


class TokenCreated(Reply, kw_only=True):
    token: str
    """Shown this once."""
    owner: str
    roles: list[str]


class Ready(Reply, kw_only=True):
    """GET /readyz: `ok`, `degraded` (jobs are accepted, they wait) or `down` (503)."""

    status: str
    parts: dict[str, str]


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
