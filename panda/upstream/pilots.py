"""Upstream's pilots and harvesters ask for jobs and report on them.

A lease of ours stands behind each job; its token stays here (`House.lease_token`), since upstream's pilot shows
nothing but the number of its attempt. So an attempt that is given up is fenced off by its number, as with our pilot.
"""

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import msgspec
from sqlalchemy.engine import Row

from panda.auth import policy
from panda.auth.policy import Action
from panda.db.session import rows
from panda.dispatcher import dispatch, reports
from panda.dispatcher.words import AcquireRequest, OutputReport, Report, UpdateRequest
from panda.errors import Forbidden, Invalid, NotFound
from panda.upstream import keeping, logs, offers, sites
from panda.upstream.calls import Asked, given
from panda.upstream.faces import NO_JOBS, OK, Answer
from panda.upstream.wire import decoded
from panda.upstream.words import GET_JOB, KILLED_BY_SERVER, STATES, UPDATE_JOB

MAX_ATTEMPT_NR = 10_000
#: Jobs of one bulk report.
MAX_REPORTS = 1_000
#: What a live job is like for its pilot.
LIVE = """
SELECT j.panda_id, j.status::text AS status, j.attempt_nr, j.computing_site,
    j.kill_requested_at IS NOT NULL AS is_unwanted,
    coalesce((SELECT is_debug FROM upstream_jobs u WHERE u.panda_id = j.panda_id), false) AS is_debug,
    ARRAY(SELECT f.lfn FROM job_files f WHERE f.panda_id = j.panda_id AND f.kind = 'output') AS outputs
FROM jobs j WHERE j.panda_id = ANY(%(panda_ids)s)
UNION ALL
SELECT panda_id, status::text, attempt_nr, computing_site, false, false, '{}'::text[] FROM jobs_archive
WHERE panda_id = ANY(%(panda_ids)s)
"""
#: The engine's outcome of a report, in the words that pilots hear. A payload that runs on for nothing is ended too.
COMMANDS = {
    ("ok", False): "NULL",
    ("already_done", False): "alreadydone,tobekilled",
    ("stale_lease", False): "badattemptnr,tobekilled",
    ("not_found", False): "tobekilled",
    ("ok", True): "NULL",
    ("already_done", True): "alreadydone",
    ("stale_lease", True): "badattemptnr",
    ("not_found", True): "tobekilled",
}
NO_JOB = {"StatusCode": NO_JOBS, "errorDialog": "no jobs in PanDA"}


class AcquireJobs(msgspec.Struct, kw_only=True):
    site_name: str
    n_jobs: int = 1
    memory: float = 0
    disk_space: float = 0
    remaining_time: float = 0
    node: str = ""
    resource_type: str = ""
    harvester_id: str = ""
    worker_id: str | int = ""
    scheduler_id: str = ""


class GetStatus(msgspec.Struct, kw_only=True):
    job_ids: list[int]


def get_job(asked: Asked) -> Any:
    """Legacy: one job as a flat object; with nJobs a list of them."""
    in_bulk = "nJobs" in asked.words
    found = _acquire(asked._replace(words={GET_JOB.get(name, name): value for name, value in asked.words.items()}))
    if not found:
        return NO_JOB | ({"jobs": []} if in_bulk else {})
    return {"StatusCode": OK, "jobs": found} if in_bulk else found[0]


def acquire_jobs(asked: Asked) -> Answer:
    """Jobs for a pilot, or for a harvester that hands them on."""
    found = _acquire(asked)
    return Answer({"StatusCode": OK, "jobs": found}) if found else Answer(None, "No jobs in PanDA", False)


def update_job_legacy(asked: Asked) -> Any:
    """Legacy: what a pilot says of its job, and what it is told."""
    return _update(asked, asked.words)


def update_job(asked: Asked) -> Answer:
    """What a pilot says of its job, and what it is told; no command is null here."""
    return _v1(_update(asked, _renamed(asked.words)))


def update_jobs_in_bulk(asked: Asked) -> Any:
    """Legacy: `[true, [answer per job]]`, each answer once more as JSON."""
    try:
        answers = [_update(asked, said) for said in _listed(asked.words.get("jobList"), "jobList")]
    except Invalid as problem:
        return [False, str(problem)]
    return [True, [{"type": "json", "content": msgspec.json.encode(each).decode()} for each in answers]]


def update_jobs_bulk(asked: Asked) -> Answer:
    """An envelope for each job of the list, in its order."""
    said = _listed(asked.words.get("job_list"), "job_list")
    answers = [_v1(_update(asked, _renamed(each))) for each in said]
    return Answer([{"success": each.success, "message": each.message, "data": each.data} for each in answers])


def get_status(asked: Asked) -> str:
    """Legacy text: `StatusCode=0&status=a+b&attemptNr=1+2`, `notfound` for what is unknown."""
    text = str(asked.words.get("ids", ""))
    wanted = [int(each) if each.strip().isdecimal() else 0 for each in text.split(",")][:MAX_REPORTS]
    found = _live(asked, wanted)
    statuses = "+".join(found[each].status if each in found else "notfound" for each in wanted)
    attempts = "+".join(str(found[each].attempt_nr) if each in found else "0" for each in wanted)
    return f"StatusCode={OK}&status={statuses}&attemptNr={attempts}"


def get_job_status(asked: Asked) -> Any:
    """Status and attempt of each job, in the order of the question."""
    wanted = given(asked, GetStatus).job_ids[:MAX_REPORTS]
    found = _live(asked, wanted)
    return [
        {"job_id": each, "status": found[each].status, "attempt_number": found[each].attempt_nr}
        if each in found
        else {"job_id": each, "status": "not found", "attempt_number": 0}
        for each in wanted
    ]


def check_jobs(asked: Asked) -> Any:
    """For harvesters: the status of each job, and whether its worker should end it."""
    wanted = given(asked, GetStatus).job_ids[:MAX_REPORTS]
    found = _live(asked, wanted)
    return [
        {"status": found[each].status, "command": "tobekilled" if found[each].is_unwanted else None}
        if each in found
        else {"status": "unknown", "command": "tobekilled"}
        for each in wanted
    ]


def check_job_status(asked: Asked) -> Any:
    """Legacy `check_jobs`."""
    ids = [each for each in str(asked.words.get("ids", "")).split(",") if each.strip()]
    return {"StatusCode": OK, "data": check_jobs(asked._replace(words={"job_ids": ids}))}


def _acquire(asked: Asked) -> list[dict[str, Any]]:
    said, house, identity = given(asked, AcquireJobs), asked.house, asked.identity
    policy.require(identity, Action.PILOT)
    if identity.queue is not None and identity.queue != said.site_name:
        raise Forbidden(identity.subject, f"take jobs of queue {said.site_name[:100]}")
    with house.begin() as connection:
        try:
            queue = sites.queue(connection, said.site_name)
        except NotFound:
            return []
    who = f"{said.harvester_id}.{said.worker_id}" if said.harvester_id else said.node or "unknown"
    cores = 1 if said.resource_type.startswith("SCORE") else queue.cores
    request = AcquireRequest(
        pilot_id=f"upstream-{queue.name}-{who}"[:250],
        queue=queue.name,
        request_id=uuid4().hex,
        n=max(1, min(said.n_jobs, house.settings.dispatcher.max_jobs_per_claim)),
        cores=cores,
        memory_mb=_free(said.memory, queue.memory_mb),
        disk_mb=_free(said.disk_space, queue.disk_mb),
        walltime_s=_free(said.remaining_time, queue.walltime_s),
        tags=list(queue.offers),
        node=(said.node or "unknown")[:250],
        version=asked.req.get_header("User-Agent", default="")[:50],
    )
    jobs = dispatch.acquire(house.begin, request, house.settings, house.lease_token).jobs
    with house.begin() as connection:
        return offers.offers(connection, asked, queue, jobs)


def _free(said: float, most: int) -> int:
    """What a pilot says that it has, as far as its queue goes; 0: it did not say."""
    return max(1, min(int(said), most)) if 0 < said < 2**31 else most


def _update(asked: Asked, said: Mapping[str, Any]) -> dict[str, Any]:
    policy.require(asked.identity, Action.PILOT)
    words = {name: value for name, value in said.items() if value is not None and value != "None"}
    if words.get("jobId") == "NULL":
        return _heard("NULL")
    panda_id, status = keeping.whole(words.get("jobId"), "jobId"), STATES.get(str(words.get("state", "")))
    if panda_id <= 0:
        raise Invalid(f"{words.get('jobId')!r} is no PandaID", where="jobId")
    job = _live(asked, [panda_id]).get(panda_id)
    if job is None:
        return _heard("tobekilled")
    if asked.identity.queue is not None and asked.identity.queue != job.computing_site:
        raise Forbidden(asked.identity.subject, f"report on job {panda_id}, which is not at {asked.identity.queue}")
    if status is None:  # not for us
        return _heard("NULL")
    report = _report(asked, words, job, status)
    keeping.keep(asked.house.begin, panda_id, report.attempt_nr, words)
    logs.keep(asked.house, report, words)
    request = UpdateRequest(pilot_id="upstream", reports=[report])
    [result] = reports.update(asked.house.begin, request, asked.house.settings).results
    is_final = report.status not in ("starting", "running")
    command = COMMANDS[result.outcome, is_final]
    if result.outcome == "ok" and not is_final:
        orders = ["debug"] * job.is_debug + ["tobekilled"] * (result.command == "kill")
        command = ",".join(orders) or "NULL"
    return _heard(command)


def _report(asked: Asked, words: Mapping[str, Any], job: Row[Any], status: str) -> Report:
    """The same in the engine's words."""
    error_code = abs(keeping.whole(words.get("pilotErrorCode"), "pilotErrorCode"))
    if status == "failed" and error_code == KILLED_BY_SERVER:
        status = "cancelled"
    started, ended = keeping.number(words.get("startTime")), keeping.number(words.get("endTime"))
    max_rss_kb = keeping.number(words.get("maxRSS"))
    attempt_nr = keeping.whole(words.get("attemptNr"), "attemptNr") or job.attempt_nr
    if not 1 <= attempt_nr <= MAX_ATTEMPT_NR:
        raise Invalid(f"there is no attempt {attempt_nr}", where="attemptNr")
    message = str(words.get("pilotErrorDiag") or words.get("exeErrorDiag") or "")
    return Report(
        panda_id=job.panda_id,
        attempt_nr=attempt_nr,
        token=asked.house.lease_token(),
        status=status,  # type: ignore[arg-type]
        error_code=error_code,
        error_message=message[:2_000],
        exit_code=keeping.small(words.get("transExitCode")),
        wall_s=ended - started if started and ended and ended >= started else None,
        cpu_s=keeping.number(words.get("cpuConsumptionTime")),
        max_rss_mb=None if max_rss_kb is None else keeping.small(max_rss_kb / 1024),
        outputs=_outputs(words.get("xml"), job.outputs) if status == "finished" else [],
    )


def _outputs(report: Any, wanted: list[str]) -> list[OutputReport]:
    """What the pilot says that it wrote, of what the job is to write; the log and others are not the engine's."""
    files = decoded(report, "xml") if isinstance(report, str | bytes) and report else report
    if not isinstance(files, dict):
        return []
    found = []
    for lfn in wanted:
        file = files.get(lfn)
        if isinstance(file, dict):
            adler32 = str(file.get("adler32") or "").removeprefix("ad:").rjust(8, "0").lower()
            size_bytes = keeping.whole(file.get("fsize"), f"xml.{lfn}.fsize")
            guid = str(file.get("guid") or "")[:36]
            found.append(OutputReport(lfn=lfn, size_bytes=size_bytes, adler32=adler32, guid=guid))
    return found


def _live(asked: Asked, panda_ids: list[int]) -> dict[int, Row[Any]]:
    wanted = [each for each in panda_ids if 0 < each < 2**62]
    if not wanted:
        return {}
    with asked.house.begin() as connection:
        return {row.panda_id: row for row in rows(connection, LIVE, {"panda_ids": wanted})}


def _heard(command: str) -> dict[str, Any]:
    return {"StatusCode": OK, "command": command}


def _v1(heard: dict[str, Any]) -> Answer:
    return Answer(heard | {"command": None if heard["command"] == "NULL" else heard["command"]})


def _renamed(words: Mapping[str, Any]) -> dict[str, Any]:
    return {UPDATE_JOB.get(name, name): value for name, value in words.items()}


def _listed(value: Any, where: str) -> list[Any]:
    found = decoded(value, where) if isinstance(value, str) else value
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise Invalid("wants a list of reports", where=where)
    if len(found) > MAX_REPORTS:
        raise Invalid(f"holds more than {MAX_REPORTS} reports", where=where)
    return found
