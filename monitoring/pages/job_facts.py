"""One job: what happened to it, where it stands, why, and what to type about it."""

import shlex
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any, NamedTuple

from sqlalchemy.engine import Connection

from monitoring.pages import job_logs
from monitoring.reads import job_queries
from monitoring.reads.blocks import Block, Reader
from monitoring.reads.queries import Facts
from monitoring.reads.queries import facts as rows_of
from monitoring.show import copies, funnel, looks
from panda.brokerage.explaining import explain
from panda.errors import NotFound, PandaError
from panda.jobs import queries as asked
from panda.jobs import usage
from panda.jobs.spool import Spool
from panda.settings import Settings
from panda.states import FINAL, JobStatus, Stage

MAX_SHOWN = 200
#: What can be done to some jobs besides, and what for.
OTHERWISE = {"hold": "Let it stand still", "release": "Let it go on", "priority": "Another priority",
             "rebroker": "Another queue"}  # fmt: skip


def job_page(
    reader: Reader,
    spool: Spool,
    facts: Facts,
    settings: Settings,
    *,
    log: str | None,
    log_attempt: int | None,
    find: str = "",
    at_error: bool = False,
) -> dict[str, Any]:
    """Everything about the job whose row is `facts`, block by block.

    Args:
        log: the name of the log to show; None: the one that tells most.
        log_attempt: of which attempt; None: the newest that has it.
        find: show the lines that hold this, of the last 4 MB, instead of the newest lines.
        at_error: show the lines from the first error on.
    """
    panda_id: int = facts["panda_id"]
    events = reader.block(lambda c: _rows(asked.events(c, panda_id)))
    logs = reader.block(lambda c: _rows(asked.logs(c, panda_id)))
    chosen = log or job_logs.first_log(facts, logs.value or [])
    return {
        "job": facts,
        "due": reader.block(lambda c: job_queries.one(c, job_queries.DUE, {"panda_id": panda_id})),
        "left": reader.block(lambda c: asked.failures_left(c, panda_id, settings.engine)),
        "lease": reader.block(lambda c: job_queries.one(c, job_queries.LEASE, {"panda_id": panda_id})),
        "events": events,
        "attempts": reader.block(lambda c: _rows(asked.attempts(c, panda_id))),
        "files": reader.block(lambda c: _rows(asked.files(c, panda_id, limit=MAX_SHOWN).items)),
        "why": why(reader, panda_id, settings),
        "logs": logs,
        "log": None
        if chosen is None
        else job_logs.shown(reader, spool, panda_id, chosen, log_attempt, find=find, at_error=at_error),
        "usage": _usage(reader, panda_id),
        "alike": _alike(reader, facts),
        "payload": shlex.join(map(str, facts["spec"].get("command") or [])),
        "said": reader.block(lambda c: job_queries.one(c, job_queries.SAID, facts)),
    }


def _rows(found: Sequence[Any]) -> list[Facts]:
    return [row._asdict() for row in found]


def why(reader: Reader, panda_id: int, settings: Settings) -> Block[Any]:
    """Why the job is where it is, with what brokerage decided."""

    def answer(connection: Connection) -> Facts:
        found, changes = explain(connection, panda_id, settings)
        told = [{"who": each.who, "say": each.sentence, "command": each.command} for each in changes]
        estimate = None if found.estimate is None else found.estimate._asdict()
        ahead = [each._asdict() for each in found.ahead]
        said = {"decision": found.decision._asdict(), "changes": told, "estimate": estimate, "ahead": ahead}
        return {**found._asdict(), **said}

    try:
        return reader.block(answer)
    except PandaError as problem:
        return Block(trouble=str(problem))


def parameters(facts: Facts, said: Facts | None) -> list[tuple[str, str]]:
    """What was asked for the job, in words; what nobody said is left out."""
    spec, said = facts["spec"], said or {}
    wishes, upstream = said.get("wishes") or {}, said.get("upstream") or {}
    found = [
        ("Cores", str(facts["cores"])), ("Memory", looks.megabytes(facts["memory_mb"])),
        ("Disk", looks.megabytes(facts["disk_mb"])), ("Wall time", looks.duration(facts["walltime_s"])),
        ("GPUs", str(facts["gpus"] or "")), ("Tags", ", ".join(facts["tags"] or ())),
        ("Attempts", f"at most {facts['max_attempts']}"), ("Kind", said.get("kind") or "analysis"),
        ("VO", said.get("vo") or ""), ("Working group", said.get("working_group") or ""),
        ("Container image", str(upstream.get("container_name") or "")), ("Sandbox", spec.get("sandbox") or ""),
        ("Inputs", "read where they lie" if spec.get("direct_read") else ""),
        ("Only at", ", ".join(wishes.get("sites") or ())), ("Not at", ", ".join(wishes.get("exclude") or ())),
        ("Rather at", ", ".join(wishes.get("prefer") or ())), ("Its queue must be", wishes.get("requirements") or ""),
    ]  # fmt: skip
    return [(word, value) for word, value in found if value]


def _alike(reader: Reader, facts: Facts) -> Block[Any]:
    """Failures with the same code in a day: `n`, `n_here` (at this job's queue), `n_queues`."""
    if facts["status"] != JobStatus.FAILED or not facts["error_code"]:
        return Block()

    def ask(connection: Connection) -> Facts:
        found = rows_of(connection, job_queries.ALIKE, {"code": facts["error_code"]})
        here = sum(row["n"] for row in found if row["queue"] == (facts["computing_site"] or ""))
        return {"n": sum(row["n"] for row in found), "n_here": here, "n_queues": len(found)}

    return reader.block(ask)


def details(facts: Facts, files: Sequence[Facts], decision: Facts | None) -> dict[str, str]:
    """What the stages of this job dealt with, in a few words each."""
    n_in, n_out = facts["n_inputs"], facts["n_outputs"]
    size_in = sum(file["size_bytes"] or 0 for file in files if file["kind"] == "input")
    found = {str(Stage.ACTIVATE): f"priority {facts['priority']}"}
    if decision and decision["funnel"]:
        n = funnel.known(decision["funnel"])
        found[str(Stage.BROKER)] = f"of {n} queue{'' if n == 1 else 's'}"
    if n_in:
        found[str(Stage.STAGE_IN)] = f"{n_in} file{'' if n_in == 1 else 's'} · {looks.size(size_in)}"
    if facts["node"]:
        found[str(Stage.DISPATCH)] = facts["node"]
    if n_out:
        found[str(Stage.STAGE_OUT)] = f"{n_out} file{'' if n_out == 1 else 's'}"
    return found


class Picture(NamedTuple):
    """A plot of what the job used: for `plots.js`, and its points for the picture without a script."""

    title: str
    told: str
    plot: Facts
    points: list[tuple[datetime, float]]
    limit: float | None
    colour: str


def resources(points: Sequence[Any], memory_mb: int | None, cores: int) -> list[Picture]:
    """Memory, cores used, and data read and written, over time; what was never reported is left out."""
    memory = [(p.at, float(p.rss_mb)) for p in points if p.rss_mb is not None]
    used = [
        (b.at, max(0.0, (b.cpu_s - a.cpu_s) / max(0.001, (b.at - a.at).total_seconds())))
        for a, b in pairwise([p for p in points if p.cpu_s is not None])
    ]
    pictures = []
    if len(memory) > 1:
        told = f"MB, limit {looks.megabytes(memory_mb)}" if memory_mb else "MB"
        pictures.append(_picture("Memory", told, [("memory", "running", memory)], "MB", memory_mb))
    if len(used) > 1:
        pictures.append(_picture("CPU", f"cores at work, of {cores}", [("cores", "activated", used)], "cores", cores))
    moved = [
        (word, colour, [(p.at, float(getattr(p, name))) for p in points if getattr(p, name) is not None])
        for word, colour, name in (("read", "transferring", "read_mb"), ("written", "holding", "written_mb"))
    ]
    if all(len(line) > 1 and line[-1][1] > 0 for _, _, line in moved[:1]) or (moved[1][2] and moved[1][2][-1][1] > 0):
        pictures.append(
            _picture("Read and written", "MB so far", [each for each in moved if len(each[2]) > 1], "MB", None)
        )
    return pictures


def _picture(
    title: str, told: str, lines: Sequence[tuple[str, str, list[tuple[datetime, float]]]], unit: str,
    limit: float | None,
) -> Picture:  # fmt: skip
    times = [at for at, _ in lines[0][2]]
    series = [
        {"label": word, "colour": colour, "values": [round(v, 2) for _, v in line[: len(times)]]}
        for word, colour, line in lines
    ]
    plot = {"x": [at.timestamp() for at in times], "series": series, "unit": unit, "kind": "lines", "limit": limit,
            "height": 170, "sync": "job"}  # fmt: skip
    return Picture(title, told, plot, lines[0][2], limit, lines[0][1])


def _usage(reader: Reader, panda_id: int) -> Block[Any]:
    """Points of memory and CPU of the newest attempt."""
    try:
        return reader.block(lambda c: usage.curve(c, panda_id, None)._asdict())
    except PandaError as problem:
        return Block(trouble=str(problem))


def find(reader: Reader, panda_id: int) -> Facts:
    """The job's row.

    Raises:
        NotFound: there is none. NotExpanded: there will be. SQLAlchemyError.
    """

    def question(connection: Connection) -> Facts:
        found = job_queries.job(connection, panda_id)
        if found is not None:
            return found
        jobset = asked.unexpanded(connection, panda_id)
        raise asked.NotExpanded(panda_id, jobset) if jobset is not None else NotFound("job", panda_id)

    return reader.ask(question)


def commands(facts: Facts, offered: Sequence[str] = ()) -> list[tuple[str, str, str]]:
    """(what for, what to type, the same in Python). `offered`: what else can be done to it now."""
    panda_id, jobset_id = facts["panda_id"], facts["jobset_id"]
    found = [
        ("Why is it where it is?", f"panda why {panda_id}", copies.python(f"print(panda.why({panda_id}).summary)")),
        ("All that is known", f"panda debug {panda_id}", copies.python(f"print(panda.job({panda_id}))")),
        ("Its output", f"panda logs {panda_id}", copies.of_logs(panda_id)),
    ]
    if facts["status"] == JobStatus.FAILED and facts["archived_at"] is None:
        found.append(("Try again", f"panda retry {panda_id}", copies.of_job("retry", panda_id)))
    for verb, what in OTHERWISE.items():
        if verb == "priority" and verb in offered:
            code = copies.of_many("priority", f"panda_id:{panda_id}", priority=facts["priority"])
            found.append((what, f"panda priority {panda_id} --to {facts['priority']}", code))
        elif verb in offered:
            found.append((what, f"panda {verb} {panda_id}", copies.of_job(verb, panda_id)))
    if facts["status"] not in FINAL:
        found.append(("End it", f"panda cancel {panda_id}", copies.of_job("cancel", panda_id)))
    found.append(
        ("Its job set", f"panda status set:{jobset_id}", copies.python(f"print(panda.jobset({jobset_id}).ledger)"))
    )
    return found


def chain(facts: Facts, events: Sequence[Facts], attempts: Sequence[Facts], now: datetime) -> list[Facts]:
    """The seven stages of the newest attempt, in order.

    Each: `stage`, `mark` (done, kept, failed, now, todo), `seconds` in it or None, `at`, `chain_id`.
    A stage that an earlier attempt did and this one inherited is `kept`.
    """
    mine = [event for event in events if event["attempt_nr"] == facts["attempt_nr"]]
    spent, entered = _time_in_stages(mine, now, facts["status"])
    order = list(Stage)
    if facts["failed_stage"] in set(order):
        current = order.index(Stage(facts["failed_stage"]))
    elif facts["status"] in FINAL:
        current = len(order) - 1
    else:
        current = order.index(looks.STAGE_OF[facts["status"]])
    started = order.index(Stage(facts["from_stage"])) if facts["from_stage"] in set(order) else 0
    found = []
    for k, stage in enumerate(order):
        mark = "done" if k < current else "todo" if k > current else "now"
        if k < current and k < started:
            mark = "kept"
        if k == current and facts["status"] == JobStatus.FAILED:
            mark = "failed"
        if k == current and facts["status"] in (JobStatus.CANCELLED, JobStatus.CLOSED):
            mark = "ended"
        if k == current and facts["archived_at"] is not None and mark == "now":
            mark = "done"
        ids = [event["chain_id"] for event in mine if event["stage"] == stage and event["chain_id"]]
        seconds = looks.between(facts["ended_at"], facts["archived_at"]) if stage is Stage.ARCHIVE else spent.get(stage)
        found.append(
            {"stage": str(stage), "mark": mark, "seconds": seconds if mark != "todo" else None,
             "at": entered.get(stage), "chain_id": ids[-1] if ids else None}
        )  # fmt: skip
    return found


def _time_in_stages(
    events: Sequence[Facts], now: datetime, status: str
) -> tuple[dict[Stage, float], dict[Stage, datetime]]:
    spent: dict[Stage, float] = {}
    entered: dict[Stage, datetime] = {}
    for event, until in _pieces(events, now):
        stage = looks.STAGE_OF.get(event["now"])
        if stage is not None:
            spent[stage] = spent.get(stage, 0.0) + (until - event["at"]).total_seconds()
            entered.setdefault(stage, event["at"])
    return spent, entered


def _pieces(events: Sequence[Facts], now: datetime) -> list[tuple[Facts, datetime]]:
    """Each event with the moment at which the status that it began was over."""
    if not events:
        return []
    ends = [event["at"] for event in events[1:]] + [max(now, events[-1]["at"])]
    return list(zip(events, ends, strict=True))


def lanes(
    events: Sequence[Facts], now: datetime
) -> tuple[dict[str, list[tuple[datetime, datetime, str]]], datetime, datetime]:
    """For the timeline: status -> its pieces, and the period that they span. Final statuses take no time."""
    found: dict[str, list[tuple[datetime, datetime, str]]] = {}
    end = now
    for event, until in _pieces(events, now):
        if event["now"] in FINAL:
            end = event["at"] if event is events[-1] else now
            if event["now"] != JobStatus.FINISHED:
                found.setdefault(event["now"], []).append((event["at"], event["at"], looks.moment(event["at"], now)))
            continue
        found.setdefault(event["now"], []).append(
            (event["at"], until, looks.duration(looks.between(event["at"], until)))
        )
    start = events[0]["at"] if events else now
    return found, start, max(end, start)


def archived_or_now(facts: Facts, as_of: datetime) -> datetime:
    """The moment up to which the job's times run."""
    ended: datetime | None = facts["ended_at"]
    return ended if ended is not None and facts["status"] in FINAL else as_of
