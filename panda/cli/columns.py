"""What lists show of each kind of thing, and how one thing is named to other commands."""

from collections.abc import Callable, Mapping
from typing import Any

from panda.cli.show import Column

#: What a deed on one named thing came to.
DONE = (Column("name"), Column("n", kind="number"))
JOBS = (
    Column("panda_id", "job", "number"),
    Column("jobset_id", "set", "number"),
    Column("status", kind="status"),
    Column("attempt_nr", "try", "number"),
    Column("queue"),
    Column("waits_for", "waits for"),
    Column("error_code", "error"),
    Column("changed_at", "changed", "time"),
    Column("name"),
)
SETS = (
    Column("jobset_id", "set", "number"),
    Column("status", kind="status"),
    Column("n_jobs", "jobs", "number"),
    Column("ledger.finished", kind="number"),
    Column("ledger.failed", kind="number"),
    Column("ledger.cancelled", kind="number"),
    Column("ledger.running", kind="number"),
    Column("ledger.waiting", kind="number"),
    Column("created_at", "created", "time"),
    Column("name"),
)
#: On a terminal the bar tells the rest.
SETS_WITH_BAR = (*SETS[:3], Column("ledger", "progress", "bar"), SETS[4], *SETS[8:])
ACCEPTED = (
    Column("jobset_id", "set", "number"),
    Column("n_jobs", "jobs", "number"),
    Column("first_panda_id", "first job", "number"),
    Column("last_panda_id", "last job", "number"),
    Column("output_dataset", "outputs go to"),
)
EVENTS = (
    Column("at", "when", "time"),
    Column("attempt_nr", "try", "number"),
    Column("was"),
    Column("now", kind="status"),
    Column("stage"),
    Column("by"),
    Column("reason"),
)
ATTEMPTS = (
    Column("attempt_nr", "try", "number"),
    Column("from_stage", "from"),
    Column("queue"),
    Column("outcome", kind="status"),
    Column("exit_code", "exit", "number"),
    Column("error_code", "error"),
    Column("wall_s", "wall s", "number"),
    Column("ended_at", "ended", "time"),
    Column("node"),
    Column("error_message", "message"),
)
JOB_FILES = (
    Column("kind"),
    Column("status", kind="status"),
    Column("size_bytes", "size", "bytes"),
    Column("adler32"),
    Column("dataset"),
    Column("lfn", "file"),
)
DATASETS = (
    Column("status", kind="status"),
    Column("n_files", "files", "number"),
    Column("size_bytes", "size", "bytes"),
    Column("owner"),
    Column("created_at", "created", "time"),
    Column("dataset"),
)
FILES = (Column("size_bytes", "size", "bytes"), Column("adler32"), Column("storages"), Column("lfn", "file"))
LOGS = (Column("attempt_nr", "try", "number"), Column("size_bytes", "size", "bytes"), Column("name"))
QUEUES = (
    Column("name", "queue"),
    Column("site"),
    Column("status", kind="status"),
    Column("status_until", "until", "time"),
    Column("cores", kind="number"),
    Column("memory_mb", "memory MB", "number"),
    Column("disk_mb", "disk MB", "number"),
    Column("walltime_s", "wall time s", "number"),
    Column("storage"),
    Column("offers", "offers"),
    Column("status_by", "set by"),
    Column("status_reason", "reason"),
)
SITES = (Column("name", "site"), Column("cloud"), Column("description"))
VERSIONS = (
    Column("version_id", "version", "number"),
    Column("at", "when", "time"),
    Column("who"),
    Column("source"),
    Column("n_changed", "changed", "number"),
    Column("names"),
    Column("why"),
)
RULES = (
    Column("name", "rule"),
    Column("of"),
    Column("settings"),
    Column("n_acted", "acted in 90 days", "number"),
    Column("acted_at", "last", "time"),
)
ACTS = (
    Column("at", "when", "time"),
    Column("rule"),
    Column("queue"),
    Column("node"),
    Column("did"),
    Column("is_passive", "only told"),
    Column("because"),
)
DOWNTIMES = (
    Column("name", "downtime"),
    Column("status", kind="status"),
    Column("kind", "of"),
    Column("target"),
    Column("starts_at", "starts", "time"),
    Column("ends_at", "ends", "time"),
    Column("made_by", "by"),
    Column("reason"),
)
CHANGES = (Column("kind"), Column("name"), Column("change"), Column("field"), Column("was"), Column("now"))
STORAGES = (
    Column("name", "storage"),
    Column("site"),
    Column("status", kind="status"),
    Column("kind"),
    Column("used_bytes", "used", "bytes"),
    Column("room_bytes", "room", "bytes"),
    Column("full_because", "full because"),
    Column("root"),
)
STORAGE_QUOTAS = (
    Column("quota"),
    Column("owner"),
    Column("used_bytes", "used", "bytes"),
    Column("limit_bytes", "limit", "bytes"),
    Column("each"),
    Column("owners"),
    Column("storages"),
)
TRANSFERS = (
    Column("transfer_id", "transfer", "number"),
    Column("status", kind="status"),
    Column("source", "from"),
    Column("destination", "to"),
    Column("tries", kind="number"),
    Column("n_waiting", "jobs waiting", "number"),
    Column("size_bytes", "size", "bytes"),
    Column("dataset"),
    Column("lfn", "file"),
    Column("held_because", "held because"),
    Column("error"),
)
LINKS = (
    Column("source", "from"),
    Column("destination", "to"),
    Column("n_queued", "queued", "number"),
    Column("n_moving", "moving", "number"),
    Column("n_done", "done in 10 min", "number"),
    Column("n_failed", "failed", "number"),
    Column("bytes_done", "moved", "bytes"),
    Column("bytes_per_s", "a second", "bytes"),
)
SHARES = (
    Column("name", "share"),
    Column("parent", "below"),
    Column("weight", kind="number"),
    Column("part", kind="number"),
    Column("running_cores", kind="number"),
    Column("n_ready", "ready jobs", "number"),
    Column("deficit_cores", "deficit", "number"),
)

MOVES = (
    Column("at", "when", "time"),
    Column("panda_id", "job", "number"),
    Column("attempt_nr", "try", "number"),
    Column("was"),
    Column("now", kind="status"),
    Column("by"),
    Column("reason"),
)
ACTIONS = (
    Column("action_id", "action", "number"),
    Column("action", "what"),
    Column("status", kind="status"),
    Column("n_previewed", "jobs", "number"),
    Column("n_done", "done", "number"),
    Column("n_refused", "refused", "number"),
    Column("asked_by", "by"),
    Column("created_at", "created", "time"),
    Column("filter"),
    Column("note"),
)
ALL_ATTEMPTS = (Column("panda_id", "job", "number"), *ATTEMPTS)
ALL_FILES = (Column("size_bytes", "size", "bytes"), Column("adler32"), Column("dataset"), Column("lfn", "file"))
PILOTS = (
    Column("pilot_id", "pilot"),
    Column("queue"),
    Column("node"),
    Column("cores", kind="number"),
    Column("n_jobs", "jobs", "number"),
    Column("last_seen_at", "seen", "time"),
    Column("nothing_because", "got nothing because"),
)
NODES = (
    Column("node"),
    Column("sites"),
    Column("cores", kind="number"),
    Column("memory_mb", "memory MB", "number"),
    Column("n_pilots", "pilots", "number"),
    Column("n_jobs", "jobs", "number"),
    Column("last_seen_at", "seen", "time"),
)
AUDIT = (
    Column("audit_id", "number", "number"),
    Column("at", "when", "time"),
    Column("who"),
    Column("action", "what"),
    Column("target"),
    Column("reason"),
)
USERS = (
    Column("name", "user"),
    Column("roles"),
    Column("created_at", "since", "time"),
    Column("banned_at", "banned", "time"),
    Column("ban_reason", "because"),
)
TOKENS = (
    Column("token_id", "token", "number"),
    Column("owner"),
    Column("roles"),
    Column("label"),
    Column("expires_at", "expires", "time"),
    Column("revoked_at", "revoked", "time"),
)
INCIDENTS = (
    Column("incident_id", "number", "number"),
    Column("level"),
    Column("n", "times", "number"),
    Column("last_at", "last", "time"),
    Column("acknowledged_by", "looked after by"),
    Column("closed_at", "closed", "time"),
    Column("component"),
    Column("message"),
)
USAGE = (
    Column("at", "when", "time"),
    Column("wall_s", "wall s", "number"),
    Column("cpu_s", "cpu s", "number"),
    Column("rss_mb", "memory MB", "number"),
    Column("read_mb", "read MB", "number"),
    Column("written_mb", "written MB", "number"),
    Column("disk_mb", "disk MB", "number"),
    Column("n_processes", "processes", "number"),
)

Item = Mapping[str, Any]
Name = Callable[[Item], str]


def _named_by(field: str, before: str = "") -> Name:
    """The name that a field holds; "" where an answer lacks it."""
    return lambda item: f"{before}{'' if item.get(field) is None else item[field]}"


job_name = _named_by("panda_id")
set_name = _named_by("jobset_id", "set:")
own_name = _named_by("name")
version_name = _named_by("version_id")
act_name = _named_by("act_id")
dataset_name = _named_by("dataset")
file_name = _named_by("lfn")
action_name = _named_by("action_id")
pilot_name = _named_by("pilot_id")
node_name = _named_by("node")
audit_name = _named_by("audit_id")
token_name = _named_by("token_id")
incident_name = _named_by("incident_id")


def attempt_name(item: Item) -> str:
    return f"{item.get('panda_id')}.{item.get('attempt_nr')}"
