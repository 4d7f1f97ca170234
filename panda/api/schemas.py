"""What travels over /v1, as msgspec structs: the one definition of every message.

What clients submit stands in `panda.jobs.specs`, what pilots say in `panda.dispatcher.words`; both
are named here too, so that this module is the whole list. Sizes are bytes or MB (10^6), times are
seconds or ISO 8601 UTC.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import Meta

from panda.api.service_schemas import (
    Alive,
    AuditEntry,
    BanRequest,
    Incident,
    IncidentAnswer,
    IncidentReport,
    IncidentReports,
    LoggedIn,
    LoginWays,
    PageEnd,
    Problem,
    Ready,
    RevokeRequest,
    Root,
    Switch,
    SwitchRequest,
    SwitchSet,
    Token,
    TokenCreated,
    TokenRequest,
    UnbanRequest,
    User,
    UserRequest,
    View,
    ViewRequest,
    WhoAmI,
)
from panda.api.why_schemas import Ahead, Change, Estimate, JobSetWhy, PilotWhy, Verdict, Waiting, Why, WhyGroup
from panda.dispatcher.words import (
    AcquireReply,
    AcquireRequest,
    HeartbeatReply,
    HeartbeatRequest,
    LogAccepted,
    PilotEnd,
    PilotEnvironment,
    ServerTime,
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
    held: bool = False
    """Some of its jobs wait for its owner's quota."""


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
    gpus: int
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
    kill_delivered_at: datetime | None
    kill_confirmed_at: datetime | None
    kill_state: str | None
    """`requested`, `delivered`, `confirmed`, `unconfirmed` (its pilot is silent) or `overtaken` (it ended first)."""
    failures_left: int | None = None
    """How much more may go wrong before it fails for good; only where one job is shown."""
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


class JobMoved(Reply, kw_only=True):
    """A move of a job, as GET /v1/events tells it."""

    event_id: int
    """The same number is the same event."""
    panda_id: int
    jobset_id: int
    owner: str
    at: datetime
    was: str | None
    now: str
    attempt_nr: int
    stage: str | None
    by: str
    reason: str | None


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


class UsagePoint(Reply, kw_only=True):
    """What all processes of a payload together used up to this moment."""

    at: datetime
    wall_s: float | None
    cpu_s: float | None
    rss_mb: int | None
    """At this moment, not up to it; so is `disk_mb`, what the work folder holds."""
    read_mb: int | None
    written_mb: int | None
    disk_mb: int | None
    n_processes: int | None


class JobUsage(Reply, kw_only=True):
    """GET /v1/jobs/{panda_id}/usage"""

    panda_id: int
    attempt_nr: int
    every: int
    """Each point stands for so many heartbeats: long curves are thinned to at most 200 points."""
    points: list[UsagePoint]


class PilotNotes(Reply, kw_only=True):
    """GET /v1/pilots/{pilot_id}/notes"""

    pilot_id: str
    queue: str
    version: str
    facts: dict[str, Any]
    problems: list[str]
    warnings: list[str]
    began_at: datetime
    ended_at: datetime | None
    exit_code: int | None
    """See the exit codes of the pilot in docs/reference/cli.md; none: it has not said goodbye."""
    why: str | None
    log: str | None


class RetryRequest(Request, kw_only=True):
    """POST /v1/jobs/{id}/retry, POST /v1/jobsets/{id}/retry (every failed job of the set)."""

    stage: Literal["define", "broker", "stage_in", "stage_out"] | None = None
    """Where the new attempt starts; none: where the last one failed, or `broker` if it had run."""
    reason: Text = ""


class CancelRequest(Request, kw_only=True):
    reason: Text = ""


class HoldRequest(Request, kw_only=True):
    """POST /v1/jobs/{id}/hold and /release, the same of job sets."""

    reason: Text = ""


class RebrokerRequest(Request, kw_only=True):
    """POST /v1/jobs/{id}/rebroker"""

    exclude: Annotated[list[Name], Meta(max_length=50)] = []
    """Sites and queues, or patterns of them, that the job is kept from for good."""
    reason: Text = ""


class Affected(Reply, kw_only=True):
    """How many jobs an action reached; what it could not do, by PandaID."""

    n: int
    refused: dict[str, str] = {}


class JobSetRetried(Affected, kw_only=True):
    action_id: int | None = None
    """The action that brings those that are left; none: these were all."""


class JobSetActed(JobSetRetried, kw_only=True):
    """POST /v1/jobsets/{id}/hold and /release"""

    n_parents: int = 0
    """Parents that did not finish and are waited for no longer."""


class JobCount(Reply, kw_only=True):
    by: dict[str, str | None]
    """field -> its value"""
    n: int


class JobCounts(Reply, kw_only=True):
    """GET /v1/jobs/counts"""

    data: list[JobCount]
    n: int
    exact: bool
    """False: there are older jobs that were not looked at."""
    down_to: int | None
    """The PandaID that the look ended with, if it was not exact."""


class JobActionRequest(Request, kw_only=True):
    """POST /v1/jobs/actions"""

    action: Literal["retry", "cancel", "priority", "hold", "release", "rebroker"]
    filter: Annotated[str, Meta(max_length=8_000)]
    """Which jobs, as in `jobset:7 status:failed error:stageout:*`."""
    reason: Text
    stage: Literal["define", "broker", "stage_in", "stage_out"] | None = None
    """Where the new attempts start; none: where each one failed."""
    priority: Annotated[int, Meta(ge=-10_000, le=10_000)] | None = None
    exclude: Annotated[list[Name], Meta(max_length=50)] = []
    """Sites and queues, or patterns of them, that a rebrokerage keeps the jobs from for good."""
    dry_run: bool = False
    """Only tell what would be done."""
    token: Annotated[str, Meta(max_length=200)] = ""
    """Of the preview."""
    count: Annotated[int, Meta(ge=0, le=2**53)] | None = None
    """The number of jobs that the preview told."""


class JobActionReply(Reply, kw_only=True):
    """A preview (200, with a token), or an action that was begun (202)."""

    action_id: int
    n: int
    status: str
    token: str | None = None
    expires_at: datetime | None = None
    first: list[Job] = []
    """Some of the jobs, the newest ones."""
    untouched: dict[str, int] = {}
    """Live jobs that the filter finds and the action leaves alone: why, and how many. Archived ones are not counted."""
    refused: dict[str, int] = {}
    """Of a retry: why, and how many of the newest `n_looked` jobs that it reaches would get no new attempt as they
    stand."""
    n_looked: int = 0


class JobAction(Reply, kw_only=True):
    action_id: int
    action: str
    stage: str | None
    priority: int | None
    filter: str
    owner: str | None
    """Of whose jobs alone."""
    asked_by: str
    reason: str
    status: str
    """`previewed`, `running`, `done`, or `stopped` (`note` tells why)."""
    note: str
    n_previewed: int | None
    n_done: int
    n_refused: int
    refused: dict[str, int]
    """why -> how many jobs"""
    created_at: datetime
    confirmed_at: datetime | None
    ended_at: datetime | None


class JobAttempt(Attempt, kw_only=True):
    panda_id: int


# ---- data -----------------------------------------------------------------------------------


class DatasetRequest(Request, kw_only=True):
    """POST /v1/datasets"""

    dataset: Name
    """`scope:name`"""
    kind: Literal["dataset", "container"] = "dataset"
    """A container holds datasets instead of files."""


class Dataset(Reply, kw_only=True):
    dataset: str
    kind: str
    """`dataset`, or `container`: then its numbers are those of its datasets."""
    status: str
    owner: str
    jobset_id: int | None
    """The job set that it was made for, and is filled by."""
    n_files: int
    size_bytes: int
    created_at: datetime
    pinned: bool
    """It neither expires nor can be deleted."""
    expires_at: datetime | None
    """When it is deleted; None: never."""


class DatasetFile(Reply, kw_only=True):
    lfn: str
    size_bytes: int
    adler32: str
    sha256: str | None
    """Of what was uploaded through this server; of what jobs wrote: null."""
    md5: str | None
    """Where the uploader told it."""
    guid: str
    storages: list[str]


class File(Reply, kw_only=True):
    file_id: int
    dataset: str
    lfn: str
    size_bytes: int
    adler32: str
    sha256: str | None
    md5: str | None
    guid: str
    panda_id: int | None
    """The job that wrote it."""
    attempt_nr: int | None
    created_at: datetime
    storages: list[str]


class SandboxStored(Reply, kw_only=True):
    """201, or 200 when the same bytes were there before."""

    sha256: str
    size_bytes: int


# ---- sites ----------------------------------------------------------------------------------


class Pilot(Reply, kw_only=True):
    pilot_id: str
    queue: str
    site: str | None
    node: str
    version: str
    cores: int
    memory_mb: int
    started_at: datetime
    last_seen_at: datetime
    """When it asked for jobs last."""
    n_jobs: int
    """Jobs that it was given so far."""
    last_panda_ids: list[int] | None
    nothing_because: str | None
    """Why it got no job when it asked last."""


class Node(Reply, kw_only=True):
    """A machine, as its pilots tell of it."""

    node: str
    sites: list[str]
    queues: list[str]
    n_pilots: int
    n_jobs: int
    cores: int
    memory_mb: int
    first_seen_at: datetime
    last_seen_at: datetime


class Share(Reply, kw_only=True):
    name: str
    parent: str | None
    kind: str
    """`share` (job sets may name it), `group` (it has shares below it) or `stray` (jobs name it, the tree does not)."""
    weight: float
    part: float
    """Of all running cores, 0 to 1, among those that want anything now; 0: nothing of it runs or is ready."""
    running_cores: int
    n_ready: int
    """Jobs that pilots may take; more than 10,000 of one share are not told apart."""
    deficit_cores: float
    """Cores that it runs below its part; negative: above it."""


class ShareWeightRequest(Request, kw_only=True):
    """PUT /v1/shares/{name}"""

    weight: Annotated[float, Meta(gt=0, le=1e6)]
    reason: Text


class ShareWeightSet(Reply, kw_only=True):
    share: str
    weight: float
    was: float


class ShareRequest(Request, kw_only=True):
    """POST /v1/shares"""

    name: str
    weight: Annotated[float, Meta(gt=0, le=1e6)]
    parent: str = ""
    """The share that it stands below; empty: it stands at the top."""
    reason: Text


class ShareMoveRequest(Request, kw_only=True):
    """POST /v1/shares/{name}/move"""

    parent: str
    """Empty: to the top."""
    reason: Text


class ShareRemovalRequest(Request, kw_only=True):
    """POST /v1/shares/{name}/remove"""

    reason: Text


class SharePlaced(Reply, kw_only=True):
    """Where a share stands now; empty: at the top."""

    share: str
    parent: str


class ShareRemoved(Reply, kw_only=True):
    share: str


__all__ = [
    "AcquireReply",
    "AcquireRequest",
    "Ahead",
    "Alive",
    "AuditEntry",
    "BanRequest",
    "Change",
    "Estimate",
    "HeartbeatReply",
    "HeartbeatRequest",
    "Incident",
    "IncidentAnswer",
    "IncidentReport",
    "IncidentReports",
    "JobSetRequest",
    "JobSetWhy",
    "LogAccepted",
    "LoggedIn",
    "LoginWays",
    "PageEnd",
    "PilotEnd",
    "PilotEnvironment",
    "PilotWhy",
    "Problem",
    "Ready",
    "RevokeRequest",
    "Root",
    "ServerTime",
    "Switch",
    "SwitchRequest",
    "SwitchSet",
    "Token",
    "TokenCreated",
    "TokenRequest",
    "UnbanRequest",
    "UpdateReply",
    "UpdateRequest",
    "User",
    "UserRequest",
    "Verdict",
    "View",
    "ViewRequest",
    "Waiting",
    "WhoAmI",
    "Why",
    "WhyGroup",
]
