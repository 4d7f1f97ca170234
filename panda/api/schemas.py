"""What travels over /v1, as msgspec structs: the one definition of every message.

A request is decoded strictly (unknown fields and wrong types are errors); replies only gain
fields. Sizes are bytes or MB (10^6), times are seconds or ISO 8601 UTC.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

Name = Annotated[str, Meta(min_length=1, max_length=250)]
Text = Annotated[str, Meta(max_length=10_000)]
Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Positive = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Bytes = Annotated[int, Meta(ge=0, le=2**60)]
PandaId = Annotated[int, Meta(ge=1, le=2**62)]
Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Adler32 = Annotated[str, Meta(pattern="^[0-9a-f]{8}$")]
Word = Annotated[str, Meta(max_length=131_072)]
Command = Annotated[list[Word], Meta(min_length=1, max_length=4_096)]
Env = dict[Annotated[str, Meta(pattern="^[A-Za-z_][A-Za-z0-9_]*$", max_length=200)], Word]


class Request(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """Base of what clients send."""


class Reply(msgspec.Struct, kw_only=True):
    """Base of what the server answers."""


# ---- submission -----------------------------------------------------------------------------


class Resources(Request, kw_only=True):
    """What a job needs; unset values come from the set's `defaults`, then from ours."""

    cores: Annotated[int, Meta(ge=1, le=4_096)] | None = None
    memory_mb: Positive | None = None
    disk_mb: Positive | None = None
    walltime_s: Positive | None = None
    tags: Annotated[list[Name], Meta(max_length=20)] | None = None


class Defaults(Resources, kw_only=True):
    """Values for every job of the set that says nothing else."""

    priority: Annotated[int, Meta(ge=-10_000, le=10_000)] = 0
    max_attempts: Annotated[int, Meta(ge=1, le=50)] = 3
    env: Env = {}
    sandbox: Sha256 | None = None


class JobSpec(Resources, kw_only=True):
    """One job, spelt out."""

    command: Command
    name: Annotated[str, Meta(max_length=250)] = ""
    env: Env = {}
    sandbox: Sha256 | None = None
    inputs: Annotated[list[Name], Meta(max_length=10_000)] = []
    """`scope:dataset/lfn`, or `scope:dataset` for all files that it has when the job is defined."""
    outputs: Annotated[list[Name], Meta(max_length=1_000)] = []
    """Names of files that the payload writes into its work folder; they join `output_dataset`."""
    priority: Annotated[int, Meta(ge=-10_000, le=10_000)] | None = None
    max_attempts: Annotated[int, Meta(ge=1, le=50)] | None = None


class Range(Request, kw_only=True):
    """Whole numbers from `first` to `last`, both included."""

    range: Annotated[list[Annotated[int, Meta(ge=-(2**53), le=2**53)]], Meta(min_length=2, max_length=2)]


class InputTemplate(Request, kw_only=True):
    """Files of a dataset, dealt out to jobs in order of name."""

    dataset: Name
    files_per_job: Annotated[int, Meta(ge=1, le=10_000)] = 1
    match: Annotated[str, Meta(max_length=250)] = "*"
    """Shell pattern over the names."""


Scalar = str | int | float | bool


class Template(Resources, kw_only=True):
    """One job for each combination of `matrix` values × group of input files.

    `${name}` in `command`, `env`, `name` and `outputs` stands for a matrix value, `${seq}` for the
    job's number in the set (from 0; `${seq:06d}` pads), `${INPUT.files}` for the names of its input
    files (a word of its own in `command` becomes as many words), `$${` for a plain `${`.
    """

    command: Command
    name: Annotated[str, Meta(max_length=250)] = ""
    env: Env = {}
    matrix: dict[Name, list[Scalar] | Range] = {}
    inputs: dict[Name, InputTemplate] = {}
    outputs: Annotated[list[Name], Meta(max_length=1_000)] = []
    count: Annotated[int, Meta(ge=1, le=2**31)] = 1
    """Copies of each combination."""


class Brokerage(Request, kw_only=True):
    """Where jobs of the set may go; a name may hold `*`."""

    sites: list[Name] = []
    exclude: list[Name] = []


class JobSetRequest(Request, kw_only=True):
    """POST /v1/jobsets. Either `jobs` or `template`."""

    name: Name
    jobs: list[JobSpec] | None = None
    template: Template | None = None
    defaults: Defaults = msgspec.field(default_factory=Defaults)
    output_dataset: Name | None = None
    """`scope:name`; made if it does not exist. Without it, `user.<owner>:<jobset id>.<name>`."""
    output_storage: Name | None = None
    """Storage that outputs are shipped to; without it they stay at the site that made them."""
    share: Name = "default"
    depends_on: Annotated[list[PandaId], Meta(max_length=100)] = []
    on_parent_failure: Literal["cancel", "run", "hold"] = "cancel"
    brokerage: Brokerage = msgspec.field(default_factory=Brokerage)


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


# ---- pilots ---------------------------------------------------------------------------------


class AcquireRequest(Request, kw_only=True):
    """POST /v1/pilots/acquire. The resources are what the pilot has free right now."""

    pilot_id: Name
    queue: Name
    request_id: Name
    """Repeated with the same id, the answer holds the same jobs (with new tokens)."""
    n: Annotated[int, Meta(ge=1, le=10_000)] = 1
    cores: Positive
    memory_mb: Positive
    disk_mb: Positive
    walltime_s: Positive
    tags: list[Name] = []
    node: Name = "unknown"
    version: Annotated[str, Meta(max_length=50)] = ""
    wait_s: Annotated[float, Meta(ge=0, le=60)] = 0
    """Long poll: wait this long for work before an empty answer."""


class PilotInput(Reply, kw_only=True):
    lfn: str
    size_bytes: int
    adler32: str
    url: str
    """`file:///…` on a storage that the node sees."""


class PilotOutput(Reply, kw_only=True):
    lfn: str
    url: str
    """Where the pilot must put it; unique to the attempt."""


class PilotJob(Reply, kw_only=True):
    """Everything a pilot needs for one attempt."""

    panda_id: int
    attempt_nr: int
    token: str
    command: list[str]
    env: dict[str, str]
    sandbox: str | None
    """sha256 of a tar.gz at GET /v1/sandboxes/{sha256}, unpacked into the work folder first."""
    cores: int
    memory_mb: int
    disk_mb: int
    walltime_s: int
    inputs: list[PilotInput]
    outputs: list[PilotOutput]


class AcquireReply(Reply, kw_only=True):
    jobs: list[PilotJob]
    heartbeat_s: int
    lease_s: int


class OutputReport(Request, kw_only=True):
    lfn: Name
    size_bytes: Bytes
    adler32: Adler32
    guid: Annotated[str, Meta(max_length=36)] = ""


class LogReport(Request, kw_only=True):
    name: Name
    size_bytes: Bytes


class Report(Request, kw_only=True):
    """One job's news. The final word is `finished`, `failed` or `cancelled` (killed on command)."""

    panda_id: PandaId
    attempt_nr: Annotated[int, Meta(ge=1, le=10_000)]
    token: Annotated[str, Meta(max_length=100)]
    status: Literal["starting", "running", "finished", "failed", "cancelled"]
    error_code: Annotated[int, Meta(ge=0, le=100_000)] = 0
    """PanDA's pilot error number, e.g. 1305; 0: none."""
    error_message: Annotated[str, Meta(max_length=2_000)] = ""
    exit_code: Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)] | None = None
    wall_s: Annotated[float, Meta(ge=0, le=1e9)] | None = None
    cpu_s: Annotated[float, Meta(ge=0, le=1e12)] | None = None
    max_rss_mb: Count | None = None
    outputs: list[OutputReport] = []
    logs: list[LogReport] = []


class UpdateRequest(Request, kw_only=True):
    """POST /v1/pilots/update"""

    pilot_id: Name
    reports: Annotated[list[Report], Meta(min_length=1, max_length=10_000)]


class ReportResult(Reply, kw_only=True):
    panda_id: int
    attempt_nr: int
    outcome: str
    """`ok`, `already_done`, `stale_lease` (stop the payload, the job is not yours), `not_found`."""
    command: str | None = None
    """`kill`: end the payload and report `cancelled`."""


class UpdateReply(Reply, kw_only=True):
    results: list[ReportResult]


class Beat(Request, kw_only=True):
    panda_id: PandaId
    attempt_nr: Annotated[int, Meta(ge=1, le=10_000)]
    token: Annotated[str, Meta(max_length=100)]
    cpu_s: Annotated[float, Meta(ge=0, le=1e12)] | None = None
    rss_mb: Count | None = None


class HeartbeatRequest(Request, kw_only=True):
    """POST /v1/pilots/heartbeat"""

    pilot_id: Name
    beats: Annotated[list[Beat], Meta(max_length=10_000)]


class HeartbeatReply(Reply, kw_only=True):
    results: list[ReportResult]


class LogAccepted(Reply, kw_only=True):
    """PUT /v1/pilots/logs/{panda_id}/{attempt_nr}/{name}?offset=N; the token is in `X-Lease-Token`.

    409 `log_gap` tells the size that the server has, so that the pilot goes on from there."""

    size_bytes: int
