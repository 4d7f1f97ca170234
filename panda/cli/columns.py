"""What lists show of each kind of thing, and how one thing is named to other commands."""

from collections.abc import Callable, Mapping
from typing import Any

from panda.cli.show import Column

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
    Column("cores", kind="number"),
    Column("memory_mb", "memory MB", "number"),
    Column("disk_mb", "disk MB", "number"),
    Column("walltime_s", "wall time s", "number"),
    Column("storage"),
    Column("tags"),
    Column("status_reason", "reason"),
)
SITES = (Column("name", "site"), Column("cloud"), Column("description"))
STORAGES = (Column("name", "storage"), Column("site"), Column("status", kind="status"), Column("kind"), Column("root"))

Item = Mapping[str, Any]
Name = Callable[[Item], str]


def job_name(item: Item) -> str:
    return str(item["panda_id"])


def set_name(item: Item) -> str:
    return f"set:{item['jobset_id']}"


def own_name(item: Item) -> str:
    return str(item["name"])


def dataset_name(item: Item) -> str:
    return str(item["dataset"])


def file_name(item: Item) -> str:
    return str(item["lfn"])
