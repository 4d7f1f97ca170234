"""A job as upstream's client reads it: 126 attributes by name, and its files.

What was submitted stays as it was said; over it goes what the engine knows, and what the job's pilot reported.
"""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy.engine import Connection, Row

from panda.auth import policy
from panda.auth.policy import Action
from panda.db.session import rows
from panda.errors import Forbidden, Invalid, NotFound
from panda.jobs import queries
from panda.upstream import keeping
from panda.upstream.calls import Asked, given
from panda.upstream.words import (
    FILE_ATTRIBUTES,
    IN_KB,
    JOB_ATTRIBUTES,
    LONGEST,
    NUMBERS,
    REPORTED,
    ZERO_ATTRIBUTES,
    resource_type,
)

SUBMITTED = "SELECT panda_id, attributes, files FROM upstream_jobs WHERE panda_id = ANY(%(panda_ids)s)"
FILES = """
SELECT panda_id, kind, lfn, did, status, size_bytes, adler32, guid, storage FROM job_files
WHERE panda_id = ANY(%(panda_ids)s) AND kind IN ('input', 'output') ORDER BY panda_id, kind, lfn
"""
OF_JOBSET = """
SELECT panda_id FROM jobs WHERE jobset_id = %(jobset_id)s
UNION ALL SELECT panda_id FROM jobs_archive WHERE jobset_id = %(jobset_id)s ORDER BY panda_id LIMIT %(limit)s
"""
#: Jobs that one question may name.
MAX_JOBS = 5_000
#: A file's status in upstream's words.
FILE_STATUS = {"registered": "ready", "written": "holding", "lost": "failed", "defined": "defined"}
#: The component of an error code of ours, and the attributes that take it, with upstream's nearest number.
ERRORS = {
    "stage_in": ("ddmErrorCode", "ddmErrorDiag", 100),
    "stage_out": ("ddmErrorCode", "ddmErrorDiag", 200),
    "dispatch": ("jobDispatcherErrorCode", "jobDispatcherErrorDiag", 100),
    "broker": ("brokerageErrorCode", "brokerageErrorDiag", 100),
    "define": ("taskBufferErrorCode", "taskBufferErrorDiag", 103),
}


class JobIds(msgspec.Struct, kw_only=True):
    job_ids: list[int]


class TaskId(msgspec.Struct, kw_only=True):
    task_id: int


def get_description(asked: Asked) -> Any:
    """Jobs in the order of the question; null for what is unknown, and for what the caller may not see."""
    wanted, identity = checked_ids(given(asked, JobIds).job_ids), asked.identity
    with asked.house.begin() as connection:
        seen = []
        for row in rows(connection, queries.OWNERS, {"panda_ids": wanted}):
            try:
                policy.require(identity, Action.READ_JOBS, row.owner)
            except Forbidden:
                continue
            seen.append(row.panda_id)
        found = describe(connection, seen)
    return [found.get(each) for each in wanted]


def get_metadata(asked: Asked) -> Any:
    """Job reports by PandaID, of the job set whose number is asked for as a task's; an empty list: there are none."""
    wanted, identity = given(asked, TaskId).task_id, asked.identity
    with asked.house.begin() as connection:
        try:
            policy.require(identity, Action.READ_JOBS, queries.jobset_owner(connection, wanted))
        except NotFound:
            return []
        values = {"jobset_id": wanted, "limit": MAX_JOBS}
        panda_ids = [row.panda_id for row in rows(connection, OF_JOBSET, values)]
        reports = keeping.newest(connection, panda_ids)
    found = {str(each): _document(fields["metaData"]) for each, fields in reports.items() if "metaData" in fields}
    return found or []


def checked_ids(panda_ids: Sequence[int]) -> list[int]:
    """Raises Invalid: too many, or numbers that no job can have."""
    if len(panda_ids) > MAX_JOBS:
        raise Invalid(f"at most {MAX_JOBS} jobs can be asked for at once", where="job_ids")
    if any(not 0 < each < 2**62 for each in panda_ids):
        raise Invalid("a PandaID is above 0", where="job_ids")
    return list(panda_ids)


def describe(connection: Connection, panda_ids: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Those that exist, by PandaID."""
    jobs = rows(connection, queries.JOBS, {"panda_ids": list(panda_ids)})
    seen = {"panda_ids": [row.panda_id for row in jobs]}
    submitted = {row.panda_id: row for row in rows(connection, SUBMITTED, seen)}
    reported = keeping.newest(connection, seen["panda_ids"])
    files: dict[int, list[Row[Any]]] = defaultdict(list)
    for file in rows(connection, FILES, seen):
        files[file.panda_id].append(file)
    return {
        row.panda_id: _job(row, submitted.get(row.panda_id), reported.get(row.panda_id, {}), files[row.panda_id])
        for row in jobs
    }


def _job(row: Row[Any], submitted: Row[Any] | None, reported: dict[str, Any], files: list[Row[Any]]) -> dict[str, Any]:
    job: dict[str, Any] = dict.fromkeys(JOB_ATTRIBUTES) | dict.fromkeys(ZERO_ATTRIBUTES, 0)
    if submitted is not None:
        job |= {name: value for name, value in submitted.attributes.items() if name in job and value is not None}
    job |= {ours: _value(ours, reported[word], word) for word, ours in REPORTED.items() if word in reported}
    job |= _facts(row)
    if row.status == "failed" and row.error_code:
        component, _, _ = row.error_code.partition(":")
        code, text, number = ERRORS.get(component, ("", "", 0))
        if code:
            job |= {code: number, text: row.error_message}
    job = {name: _cut(name, value) for name, value in job.items()}
    log_files = [file for file in (submitted.files if submitted else []) if file.get("type") == "log"]
    return job | {"Files": [_file(row.panda_id, file) for file in files] + [_log(row.panda_id, f) for f in log_files]}


def _facts(row: Row[Any]) -> dict[str, Any]:
    """What the engine knows better than anybody."""
    facts = {
        "PandaID": row.panda_id, "jobStatus": row.status, "jobName": row.name or None, "attemptNr": row.attempt_nr,
        "maxAttempt": row.max_attempts, "currentPriority": row.priority, "prodUserName": row.owner,
        "prodUserID": row.owner, "gshare": row.share, "coreCount": row.cores, "minRamCount": row.memory_mb,
        "minRamUnit": "MB", "maxDiskCount": row.disk_mb, "maxDiskUnit": "MB", "maxWalltime": row.walltime_s,
        "jobsetID": row.jobset_id, "taskID": row.jobset_id, "parentID": row.parent_id,
        "resource_type": resource_type(row.cores, row.memory_mb),
        "creationTime": marked(row.created_at), "stateChangeTime": marked(row.changed_at),
        "modificationTime": marked(row.changed_at), "startTime": marked(row.started_at),
        "endTime": marked(row.ended_at),
        "commandToPilot": "tobekilled" if row.kill_requested_at and row.ended_at is None else None,
    }  # fmt: skip
    if row.queue:
        facts["computingSite"] = row.queue
    if row.exit_code is not None:
        facts["transExitCode"] = str(row.exit_code)
    return facts


def marked(instant: datetime | None) -> dict[str, str] | None:
    """An instant as `/api/v1` writes it: in UTC, without saying so."""
    return None if instant is None else {"__datetime__": instant.replace(tzinfo=None).isoformat()}


def _value(name: str, said: Any, word: str) -> Any:
    if name not in NUMBERS:
        return str(said)
    found = keeping.number(said)
    if found is None:
        return None
    return int(found / 1024) if word in IN_KB else int(found)


def _cut(name: str, value: Any) -> Any:
    return value[: LONGEST[name]] if isinstance(value, str) and name in LONGEST else value


def _file(panda_id: int, row: Row[Any]) -> dict[str, Any]:
    scope, _, dataset = row.did.partition(":")
    return dict.fromkeys(FILE_ATTRIBUTES) | {
        "PandaID": panda_id, "GUID": row.guid, "lfn": row.lfn, "type": row.kind, "dataset": dataset,
        "status": FILE_STATUS.get(row.status, row.status), "destinationDBlock": dataset, "scope": scope,
        "destinationSE": row.storage, "fsize": row.size_bytes, "checksum": f"ad:{row.adler32}" if row.adler32 else None,
    }  # fmt: skip


def _log(panda_id: int, file: dict[str, Any]) -> dict[str, Any]:
    return dict.fromkeys(FILE_ATTRIBUTES) | {name: file.get(name) for name in FILE_ATTRIBUTES} | {"PandaID": panda_id}


def _document(text: Any) -> Any:
    try:
        return msgspec.json.decode(text) if isinstance(text, str) else text
    except msgspec.DecodeError:
        return text
