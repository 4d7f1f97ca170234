"""A job in the words of getJob: one flat object; what is a list stands in one text with commas, in the files' order.

The engine claims the job; this says the same to upstream's pilot. Its files get a scope of their own for each
attempt, so that the path that the pilot makes of it belongs to the attempt alone, as ours do (`dataservice.storage`).
"""

import hashlib
import uuid
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy.engine import Connection, Row

from panda.auth import secrets
from panda.db.session import rows, run
from panda.dispatcher.words import PilotJob
from panda.errors import ConfigError
from panda.logs import Log
from panda.sites.cric import PREFIX
from panda.upstream import payloads
from panda.upstream.calls import Asked
from panda.upstream.words import resource_type

log = Log("panda.upstream")

#: In a job's specialHandling: it wants its owner's secrets.
SECRETS_WANTED = "us"

FACTS = """
SELECT j.panda_id, j.name, j.owner, j.share, j.priority, j.jobset_id, j.attempt_nr,
    coalesce(u.attributes, '{}') AS attributes, coalesce(u.files, '[]') AS files,
    ARRAY(SELECT f.lfn || chr(10) || f.did FROM job_files f
        WHERE f.panda_id = j.panda_id AND f.kind = 'output' ORDER BY f.lfn) AS outputs
FROM jobs j LEFT JOIN LATERAL (SELECT attributes, files FROM upstream_jobs WHERE panda_id = j.panda_id OFFSET 0) u
    ON true
WHERE j.panda_id = ANY(%(panda_ids)s)
"""
#: From now on the engine looks for the attempt's outputs where upstream's pilot puts them.
PLACED = """
UPDATE job_files f SET path = p.path
FROM unnest(%(panda_ids)s::bigint[], %(lfns)s::text[], %(paths)s::text[]) AS p(panda_id, lfn, path)
WHERE f.panda_id = ANY(%(panda_ids)s) AND f.panda_id = p.panda_id AND f.kind = 'output' AND f.lfn = p.lfn
"""

#: Attributes that go to the pilot as they were submitted, by the pilot's word, and what is said without them.
PASSED_ON: dict[str, tuple[str, Any]] = {
    "prodSourceLabel": ("prodSourceLabel", "user"),
    "swRelease": ("AtlasRelease", "NULL"),
    "homepackage": ("homepackage", "NULL"),
    "jobDefinitionID": ("jobDefinitionID", 0),
    "cloud": ("cloud", "NULL"),
    "destinationSE": ("destinationSE", "NULL"),
    "cmtConfig": ("cmtConfig", "NULL"),
    "processingType": ("processingType", "panda"),
    "transferType": ("transferType", "NULL"),
    "sourceSite": ("sourceSite", "NULL"),
    "reqID": ("reqID", 0),
    "nucleus": ("nucleus", "NULL"),
    "maxCpuCount": ("maxCpuCount", 0),
}
#: What no job of ours has.
EMPTY: dict[str, Any] = {
    "inFiles": "", "dispatchDblock": "", "dispatchDBlockToken": "", "prodDBlocks": "", "prodDBlockToken": "",
    "realDatasetsIn": "", "GUID": "", "checksum": "", "fsize": "", "scopeIn": "", "ddmEndPointIn": "",
    "ioIntensity": None, "ioIntensityUnit": None,
}  # fmt: skip


def scope_of(panda_id: int, attempt_nr: int) -> str:
    """The scope of everything that this attempt writes."""
    return f"{panda_id}.{attempt_nr}"


def path_of(panda_id: int, attempt_nr: int, lfn: str) -> str:
    """Where on a storage the pilot puts a file of that scope (Rucio's deterministic paths)."""
    scope = scope_of(panda_id, attempt_nr)
    digest = hashlib.md5(f"{scope}:{lfn}".encode(), usedforsecurity=False).hexdigest()
    return f"{PREFIX}/{scope.replace('.', '/')}/{digest[:2]}/{digest[2:4]}/{lfn}"


def log_of(panda_id: int, attempt_nr: int, files: Sequence[dict[str, Any]] = ()) -> str:
    """Name of the tar file in which the pilot leaves its logs."""
    named = [str(file["lfn"]) for file in files if file.get("type") == "log" and file.get("lfn")]
    return named[0] if named else f"{panda_id}.{attempt_nr}.job.log.tgz"


def offers(connection: Connection, asked: Asked, queue: Row[Any], jobs: Sequence[PilotJob]) -> list[dict[str, Any]]:
    """What getJob answers for jobs that were just claimed at `queue`; the places of their outputs are written down."""
    if not jobs:
        return []
    facts = {row.panda_id: row for row in rows(connection, FACTS, {"panda_ids": [job.panda_id for job in jobs]})}
    placed = [
        (job.panda_id, output.lfn, path_of(job.panda_id, job.attempt_nr, output.lfn))
        for job in jobs
        for output in job.outputs
    ]
    if placed:
        values = {"panda_ids": [p[0] for p in placed], "lfns": [p[1] for p in placed], "paths": [p[2] for p in placed]}
        run(connection, PLACED, values)
    return [
        _offer(asked, queue, job, facts[job.panda_id]) | _secrets(connection, asked, facts[job.panda_id])
        for job in jobs
        if job.panda_id in facts
    ]


def _secrets(connection: Connection, asked: Asked, facts: Row[Any]) -> dict[str, Any]:
    """The word that brings its owner's secrets along; nothing for jobs that do not ask."""
    if SECRETS_WANTED not in str(facts.attributes.get("specialHandling") or "").split(","):
        return {}
    try:
        found = secrets.of(connection, asked.house.vault, facts.owner)
    except ConfigError as problem:  # the job is claimed: it has to be told, and fails where it misses them
        log.error("secrets cannot be opened", problem=str(problem))
        return {}
    return {"secrets": msgspec.json.encode(found).decode()} if found else {}


def _offer(asked: Asked, queue: Row[Any], job: PilotJob, facts: Row[Any]) -> dict[str, Any]:
    scope, log_file = scope_of(job.panda_id, job.attempt_nr), log_of(job.panda_id, job.attempt_nr, facts.files)
    outputs = [text.split("\n") for text in facts.outputs]
    names = [lfn for lfn, _ in outputs] + [log_file]
    log_did = outputs[0][1] if outputs else f"{scope}:{log_file}"
    datasets = [did.partition(":")[2] for did in [did for _, did in outputs] + [log_did]]
    transformation, parameters = payloads.for_pilot(asked, job, facts.attributes)
    passed_on = {word: _said(facts.attributes.get(name), other) for word, (name, other) in PASSED_ON.items()}
    return {
        "StatusCode": 0,
        "PandaID": job.panda_id,
        "jobName": facts.name or f"job{job.panda_id}",
        "transformation": transformation,
        "jobPars": parameters,
        **passed_on,
        **EMPTY,
        "outFiles": ",".join(names),
        "realDatasets": ",".join(datasets),
        "destinationDblock": ",".join(datasets),
        "scopeOut": ",".join(scope for _ in outputs),
        "scopeLog": scope,
        "logFile": log_file,
        "logGUID": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{scope}/{log_file}")),
        "ddmEndPointOut": ",".join(queue.storage for _ in names),
        **dict.fromkeys(
            ("dispatchDBlockTokenForOut", "destinationDBlockToken", "fileDestinationSE"),
            ",".join("NULL" for _ in names),
        ),
        "attemptNr": job.attempt_nr,
        "nSent": job.attempt_nr,
        "prodUserID": facts.owner,
        "currentPriority": facts.priority,
        "taskID": facts.jobset_id,
        "jobsetID": facts.jobset_id,
        "coreCount": job.cores,
        "minRamCount": job.memory_mb,
        "maxDiskCount": job.disk_mb,
        "maxWalltime": job.walltime_s,
        "resource_type": resource_type(job.cores, job.memory_mb),
    }


def _said(value: Any, other: Any) -> Any:
    return other if value in (None, "") else value
