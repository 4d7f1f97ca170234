"""What pilots and the dispatcher say to each other. The pilot keeps its own copy of these words:
it ships alone, and may be older or newer than the server. Both only ever gain fields."""

from typing import Annotated, Literal

from msgspec import Meta

from panda.words import Adler32, Bytes, Count, Name, PandaId, Positive, Reply, Request


class FromPilot(Request, kw_only=True, forbid_unknown_fields=False):
    """What a pilot says. It may be older or newer than the server: what one side does not know it passes over."""


class AcquireRequest(FromPilot, kw_only=True):
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
    gpus: Count = 0
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
    """`file:///…` on a storage that the node sees; `http(s)://…`, with the right to read it; `root://…`.
    Empty: the file has no replica at the queue's storage any more."""
    direct: bool = False
    """The payload reads it there: it is given the address, not a copy."""


class PilotPlace(Reply, kw_only=True):
    storage: str
    url: str


class PilotOutput(Reply, kw_only=True):
    lfn: str
    url: str
    """Where the pilot must put it; unique to the attempt."""
    alternatives: list[PilotPlace] = []
    """Where it may put it instead, in this order, if the first place does not take it; the report names the storage."""


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
    gpus: int
    inputs: list[PilotInput]
    outputs: list[PilotOutput]


class AcquireReply(Reply, kw_only=True):
    jobs: list[PilotJob]
    heartbeat_s: int
    lease_s: int


class OutputReport(FromPilot, kw_only=True):
    lfn: Name
    size_bytes: Bytes
    adler32: Adler32
    guid: Annotated[str, Meta(max_length=36)] = ""
    storage: Annotated[str, Meta(max_length=250)] = ""
    """Where it was put, if that is one of the alternatives; empty: the first place."""


class LogReport(FromPilot, kw_only=True):
    name: Name
    size_bytes: Bytes


class Report(FromPilot, kw_only=True):
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


class UpdateRequest(FromPilot, kw_only=True):
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


class Beat(FromPilot, kw_only=True):
    panda_id: PandaId
    attempt_nr: Annotated[int, Meta(ge=1, le=10_000)]
    token: Annotated[str, Meta(max_length=100)]
    cpu_s: Annotated[float, Meta(ge=0, le=1e12)] | None = None
    rss_mb: Count | None = None
    wall_s: Annotated[float, Meta(ge=0, le=1e9)] | None = None
    """Since the payload began; with it the beat is a point of the attempt's curves (GET /v1/jobs/{id}/usage)."""
    read_mb: Count | None = None
    written_mb: Count | None = None
    disk_mb: Count | None = None
    """What the work folder holds."""
    n_processes: Count | None = None


class HeartbeatRequest(FromPilot, kw_only=True):
    """POST /v1/pilots/heartbeat"""

    pilot_id: Name
    beats: Annotated[list[Beat], Meta(max_length=10_000)]


class HeartbeatReply(Reply, kw_only=True):
    results: list[ReportResult]


class LogAccepted(Reply, kw_only=True):
    """PUT /v1/pilots/logs/{panda_id}/{attempt_nr}/{name}?offset=N; the token is in `X-Lease-Token`.

    409 `log_gap` tells the size that the server has, so that the pilot goes on from there."""

    size_bytes: int
    watched: bool = False
    """Somebody reads this log just now: send what grows every second or so."""


class PilotEnvironment(Request, kw_only=True):
    """POST /v1/pilots/{pilot_id}/environment: what the node is, before the pilot asks for work."""

    queue: Name
    version: Annotated[str, Meta(max_length=50)] = ""
    facts: Annotated[dict[str, str | int | float | bool | None], Meta(max_length=100)] = {}
    problems: Annotated[list[Annotated[str, Meta(max_length=1_000)]], Meta(max_length=50)] = []
    """Why this node cannot work; the pilot leaves."""
    warnings: Annotated[list[Annotated[str, Meta(max_length=1_000)]], Meta(max_length=50)] = []


class ServerTime(Reply, kw_only=True):
    now_s: float
    """Seconds since 1970 by the one clock that counts, so that a pilot knows how far off its own is."""


class PilotEnd(Request, kw_only=True):
    """POST /v1/pilots/{pilot_id}/end: the pilot's last words."""

    queue: Name
    exit_code: Annotated[int, Meta(ge=-255, le=255)]
    why: Annotated[str, Meta(max_length=1_000)] = ""
    log: Annotated[str, Meta(max_length=100_000)] = ""
    """The end of its own log."""
