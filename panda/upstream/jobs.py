"""panda-client's jobs: submitted as lists of attributes, killed, looked into.

What is submitted becomes job sets of ours: jobs that go to one queue and write into one dataset are one set. All sets
of a request are accepted in one transaction, or none.
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, NamedTuple
from uuid import uuid4

import msgspec

from panda.auth import audit_log, policy
from panda.auth.policy import Action
from panda.db.session import rows, run
from panda.errors import Forbidden, Invalid, TooLarge
from panda.jobs import kill, queries, submission
from panda.jobs.specs import Brokerage, Defaults, JobSetRequest, JobSpec
from panda.names import checked
from panda.upstream import debugging, keeping, payloads
from panda.upstream.calls import Asked, WrongType, given
from panda.upstream.descriptions import JobIds, checked_ids
from panda.upstream.faces import Answer
from panda.upstream.wire import decoded
from panda.upstream.words import FILE_ATTRIBUTES, JOB_ATTRIBUTES, NUMBERS

KEEP = """
INSERT INTO upstream_jobs (panda_id, attributes, files)
SELECT * FROM unnest(%(panda_ids)s::bigint[], %(attributes)s::text[]::jsonb[], %(files)s::text[]::jsonb[])
"""
#: Times that the engine runs a job whose client did not say how often.
MAX_ATTEMPTS = 3
#: Types of files.
INPUTS, OUTPUTS = ("input", "pseudo_input"), ("output",)


class Submit(msgspec.Struct, kw_only=True):
    jobs: str


class SetDebugMode(msgspec.Struct, kw_only=True):
    job_id: int
    mode: bool


class Kill(JobIds, kw_only=True):
    code: int | None = None


class Wanted(NamedTuple):
    """A submitted job: its attributes and its files by name, null where nothing was said."""

    attributes: dict[str, Any]
    files: list[dict[str, Any]]

    @property
    def key(self) -> tuple[str, str]:
        """Jobs with the same key are one set: queue and output dataset."""
        return str(self.attributes.get("computingSite") or ""), self.output_dataset

    @property
    def output_dataset(self) -> str:
        """`scope:name`, or nothing. Raises Invalid: there are several."""
        found = {_did(file) for file in self.files if file["type"] in OUTPUTS}
        if len(found) > 1:
            raise Invalid(f"the outputs of one job go to several datasets: {', '.join(sorted(found))}", where="jobs")
        return next(iter(found), "")


def submit(asked: Asked) -> Any:
    """`[[PandaID, jobDefinitionID, {"jobsetID": n}], ...]`, in the order of what was submitted."""
    house, owner = asked.house, asked.identity.subject
    wanted = _read(given(asked, Submit).jobs)
    if len(wanted) > house.settings.api.max_explicit_jobs:
        raise TooLarge(f"at most {house.settings.api.max_explicit_jobs} jobs can be submitted at once")
    sets: dict[tuple[str, str], list[int]] = defaultdict(list)
    for number, job in enumerate(wanted):
        sets[job.key].append(number)
    sandbox = payloads.runner_sandbox(house, owner)
    answers: dict[int, list[Any]] = {}
    with house.begin() as connection:
        for (queue, dataset), numbers in sets.items():
            jobs = [wanted[number] for number in numbers]
            request = _request(queue, dataset, jobs, sandbox)
            raw = msgspec.json.encode(request)
            accepted = submission.submit(
                connection, request, raw, owner=owner, key=uuid4().hex, limits=house.settings.api
            )
            first = accepted.first_panda_id
            values = {
                "panda_ids": list(range(first, first + len(jobs))),
                "attributes": [_json({n: v for n, v in job.attributes.items() if v is not None}) for job in jobs],
                "files": [_json(job.files) for job in jobs],
            }
            run(connection, KEEP, values)
            for panda_id, number in enumerate(numbers, start=first):
                definition = wanted[number].attributes.get("jobDefinitionID")
                answers[number] = [panda_id, definition, {"jobsetID": accepted.jobset_id}]
    return [answers[number] for number in range(len(wanted))]


def kill_jobs(asked: Asked) -> Any:
    """For each job whether its end was asked for; not for unknown jobs, ended ones and other people's."""
    identity, wanted = asked.identity, checked_ids(given(asked, Kill).job_ids)
    with asked.house.begin() as connection:
        mine = []
        for row in rows(connection, queries.OWNERS, {"panda_ids": wanted}):
            try:
                policy.require(identity, Action.CANCEL, row.owner)
            except Forbidden:
                continue
            mine.append(row.panda_id)
        outcome = kill.request(connection, sorted(mine), by=identity.subject, reason="killed by panda-client")
        audit_log.record(
            connection, identity.subject, "cancel", f"{len(mine)} jobs",
            facts={"panda_ids": outcome.asked[:1_000]}, request_id=asked.request_id,
        )  # fmt: skip
    return [each in outcome.asked for each in wanted]


def set_debug_mode(asked: Asked) -> Answer:
    """From its next report on the job's pilot sends the tail of what the payload prints; see the log `debug`."""
    said, identity = given(asked, SetDebugMode), asked.identity
    with asked.house.begin() as connection:
        [panda_id] = checked_ids([said.job_id])
        policy.require(identity, Action.CANCEL, queries.owner_of(connection, panda_id))
        debugging.switch(connection, panda_id, said.mode)
        audit_log.record(
            connection, identity.subject, "debug", f"job {panda_id}", facts={"on": said.mode},
            request_id=asked.request_id,
        )  # fmt: skip
    return Answer(None, "Succeeded")


def _read(text: str) -> list[Wanted]:
    document = decoded(text, "jobs")
    if not isinstance(document, list) or not document:
        raise WrongType("Type error: jobs is no list of jobs")
    return [_read_job(each, number) for number, each in enumerate(document)]


def _read_job(values: Any, number: int) -> Wanted:
    """A list of attributes, the files last; what is missing at the end was not said."""
    where = f"jobs[{number}]"
    if not isinstance(values, list) or not values or not isinstance(values[-1], list):
        raise WrongType(f"Type error: {where} is no list of attributes that ends with its files")
    if len(values) - 1 > len(JOB_ATTRIBUTES):
        values = [*values[: len(JOB_ATTRIBUTES)], values[-1]]
    attributes = {name: _said(value) for name, value in zip(JOB_ATTRIBUTES, values[:-1], strict=False)}
    for name in NUMBERS & attributes.keys():
        if attributes[name] is not None:
            attributes[name] = keeping.whole(attributes[name], f"{where}.{name}")
    files = []
    for index, each in enumerate(values[-1]):
        if not isinstance(each, list):
            raise WrongType(f"Type error: file {index} of {where} is no list of attributes")
        file = {name: _said(value) for name, value in zip(FILE_ATTRIBUTES, each, strict=False)}
        checked(str(file.get("lfn") or ""), f"{where}.Files[{index}].lfn")
        if file.get("type") not in (*INPUTS, *OUTPUTS, "log"):
            raise WrongType(f"Type error: file {index} of {where} has the type {str(file.get('type'))[:60]}")
        files.append(file)
    return Wanted(attributes, files)


def _said(value: Any) -> Any:
    """None for "NULL"; an instant as its text; other documents are nothing that an attribute can be."""
    if isinstance(value, dict):
        value = value.get("_datetime_object")
    if isinstance(value, list):
        raise WrongType("Type error: an attribute is a list")
    return None if value in ("NULL", None) else value


def _request(queue: str, dataset: str, jobs: list[Wanted], sandbox: str) -> JobSetRequest:
    name = str(jobs[0].attributes.get("jobName") or "panda-client")[:200]
    document = JobSetRequest(
        name="".join(each if each.isalnum() or each in "._-" else "_" for each in name).lstrip("._-") or "panda-client",
        jobs=[_job(job) for job in jobs],
        defaults=Defaults(sandbox=sandbox),
        output_dataset=dataset or None,
        brokerage=Brokerage(sites=[queue] if queue else []),
    )
    try:
        return msgspec.convert(msgspec.to_builtins(document), JobSetRequest)
    except msgspec.ValidationError as problem:
        raise WrongType(f"Type error: {problem}") from None


def _job(job: Wanted) -> JobSpec:
    said = job.attributes
    transformation = str(said.get("transformation") or "")
    if not transformation:
        raise Invalid("a job without a transformation", where="jobs")
    priority = said.get("currentPriority") or said.get("assignedPriority") or 0
    return JobSpec(
        command=payloads.command_of(transformation, str(said.get("jobParameters") or "")),
        name=str(said.get("jobName") or "")[:250],
        inputs=[f"{_did(file)}/{file['lfn']}" for file in job.files if file["type"] in INPUTS],
        outputs=[str(file["lfn"]) for file in job.files if file["type"] in OUTPUTS],
        priority=max(-10_000, min(10_000, priority)),
        max_attempts=max(1, min(50, said.get("maxAttempt") or MAX_ATTEMPTS)),
        cores=_above_0(said, "coreCount"),
        memory_mb=_above_0(said, "minRamCount"),
        disk_mb=_above_0(said, "maxDiskCount"),
        walltime_s=_above_0(said, "maxWalltime") or _above_0(said, "maxCpuCount"),
    )


def _above_0(said: Mapping[str, Any], name: str) -> int | None:
    value = said.get(name)
    return value if isinstance(value, int) and value > 0 else None


def _did(file: Mapping[str, Any]) -> str:
    """`scope:name`. Without a scope, Rucio's rule: two words of a user's or group's dataset, else the first."""
    written = file.get("destinationDBlock") if file["type"] in OUTPUTS else None
    dataset = str(written or file.get("dataset") or "").rstrip("/")
    scope, colon, name = dataset.partition(":")
    if colon:
        return f"{scope}:{name}"
    words = dataset.split(".")
    n_words = 2 if words[0] in ("user", "group") else 1
    return f"{file.get('scope') or '.'.join(words[:n_words])}:{dataset}"


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
