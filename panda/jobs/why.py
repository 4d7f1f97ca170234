"""Why is this job where it is? One sentence for its owner, and the rows that it rests on.

Nothing is worked out anew: brokerage stored its funnel, transfers their state, pilots the reason why
they got nothing. So the answer is what the system itself went by.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy.engine import Connection, Row

from panda.db.session import rows
from panda.errors import NotFound
from panda.jobs import caps, estimates, line, queries, share_usage, switches
from panda.jobs.downs import DOWN_OF_STORAGE
from panda.jobs.estimates import Estimate
from panda.jobs.line import MAX_POSITION, Ahead
from panda.jobs.quotas import standing
from panda.jobs.share_usage import Position
from panda.names import ASKED, amount, counted
from panda.states import FINAL, LEASED, RETRY_STATUS, JobStatus, QueueStatus, Stage, Wait

#: Files, parents and transfers that an answer spells out.
MAX_SHOWN = 50
#: Criteria whose refusals a sentence tells.
MAX_REFUSALS = 3

_JOB = """
SELECT j.panda_id, j.jobset_id, j.owner, j.share, j.status, j.attempt_nr, j.max_attempts, j.computing_site AS queue,
    j.decision_id, j.pilot_id, j.node, j.failed_stage, j.error_code, j.error_message, j.exit_code, j.started_at,
    j.ended_at, j.changed_at, j.shape_id,
    j.kill_requested_at, j.kill_delivered_at, j.kill_by, j.kill_reason, {1} AS archived,
    d.stage, d.waits_for, d.due_at, d.deliveries, d.tries, d.missing, d.error, j.n_inputs,
    q.status AS queue_status, q.status_reason AS queue_reason, q.site AS queue_site
FROM (SELECT * FROM {0} WHERE panda_id = %(panda_id)s OFFSET 0) j
    LEFT JOIN LATERAL (SELECT * FROM job_due WHERE panda_id = j.panda_id OFFSET 0) d ON true
    LEFT JOIN queues q ON q.name = j.computing_site
"""
JOB = f"{_JOB.format('jobs', 'false')} UNION ALL {_JOB.format('jobs_archive', 'true')}"
DECISION = (
    "SELECT at, policy, funnel, weights, chosen, terms FROM brokerage_decisions WHERE decision_id = %(decision_id)s"
)
PARENTS = f"""
SELECT s.jobset_id, s.name, s.n_open, s.n_failed, s.n_cancelled, s.ended_at IS NOT NULL AS has_ended
FROM jobset_parents p JOIN jobsets s ON s.jobset_id = p.parent_id
WHERE p.jobset_id = %(jobset_id)s AND p.done_at IS NULL ORDER BY s.jobset_id LIMIT {MAX_SHOWN}
"""
#: Why a transfer `t` of a file `f` to a storage with the space `s` does not move; null: nothing holds it.
HELD_BECAUSE = f"""
CASE WHEN t.status = 'queued' THEN coalesce(
    (SELECT s.name || ': ' || w.what || ' is in downtime until ' || w.until FROM storages s, LATERAL {DOWN_OF_STORAGE} w
        WHERE s.name = t.destination),
    (SELECT 'all that have it are in downtime, ' || (array_agg(w.what || ' until ' || w.until ORDER BY w.ends_at))[1]
        FROM (SELECT storage FROM replicas WHERE file_id = t.file_id OFFSET 0) r
            JOIN storages s ON s.name = r.storage AND s.status = 'online' LEFT JOIN LATERAL {DOWN_OF_STORAGE} w ON true
        HAVING count(*) > 0 AND count(*) = count(w.what)),
    'the storage is full: ' || s.full_because,
    (SELECT t.owner || ' may keep no more there: ' || q.because FROM storage_quotas_reached q
        WHERE q.storage = t.destination AND q.owner = t.owner),
    CASE WHEN f.size_bytes > s.room_bytes
        THEN 'it holds ' || f.size_bytes || ' bytes, there is room for ' || s.room_bytes END,
    (SELECT 'tape ' || c.storage || CASE c.status WHEN 'wanted' THEN ' is about to be asked for it'
                ELSE ' brings it online since ' || extract(epoch FROM panda_now() - c.asked_at)::int || ' s' END
            || coalesce(' (' || c.error || ')', '')
        FROM recalls c WHERE c.file_id = t.file_id AND c.status IN ('wanted', 'asked') ORDER BY c.storage LIMIT 1)) END
"""
TRANSFERS = f"""
SELECT f.lfn, t.source, t.destination, t.status, t.tries, t.error, {HELD_BECAUSE} AS held_because
FROM (SELECT transfer_id FROM transfer_waiters WHERE panda_id = %(panda_id)s OFFSET 0) w
CROSS JOIN LATERAL (SELECT * FROM transfers WHERE transfer_id = w.transfer_id OFFSET 0) t
CROSS JOIN LATERAL (SELECT lfn, size_bytes FROM files WHERE file_id = t.file_id OFFSET 0) f
LEFT JOIN storage_space s ON s.storage = t.destination
ORDER BY t.status DESC, f.lfn LIMIT {MAX_SHOWN}
"""
MISSING = f"""
SELECT lfn, did AS dataset, status FROM job_files
WHERE panda_id = %(panda_id)s AND kind <> 'output' AND status IN ('unknown', 'missing') ORDER BY lfn LIMIT {MAX_SHOWN}
"""
PILOTS = """
SELECT count(*) AS n, max(last_seen_at) AS last_seen_at,
    (array_agg(nothing_because ORDER BY last_seen_at DESC) FILTER (WHERE nothing_because IS NOT NULL))[1]
        AS nothing_because
FROM pilots WHERE queue = %(queue)s AND last_seen_at > panda_now() - interval '10 minutes'
"""
#: The downtime in which pilots of a queue get nothing; the one that ends last.
DOWN = """
SELECT kind || ' ' || target AS what, ends_at, reason FROM downtimes
WHERE starts_at <= (SELECT panda_now()) AND ends_at > (SELECT panda_now())
    AND ((kind = 'queue' AND target = %(queue)s) OR (kind = 'site' AND target = %(site)s))
ORDER BY ends_at DESC LIMIT 1
"""
#: How asks at a queue ended in this hour and the last one; and what pilots had too little of for jobs of a shape.
ASKS = """
SELECT shape_id, word, sum(n)::bigint AS n, max(most) AS most FROM dispatch_counts
WHERE queue = %(queue)s AND shape_id = ANY(ARRAY[0, %(shape_id)s::int])
    AND hour > (SELECT panda_now()) - interval '2 hours'
GROUP BY shape_id, word ORDER BY shape_id, word
"""
LEASE = """
SELECT lease_until, reported_at, cpu_s, rss_mb, extract(epoch FROM panda_now() - reported_at)::int AS silent_s
FROM leases WHERE panda_id = %(panda_id)s
"""
HOLD = "SELECT held_by, reason, held_at FROM holds WHERE panda_id = %(panda_id)s"
#: Jobs of the same owner that are held and go first: those before it in its own set, and all of older sets.
HELD_BEFORE = """
SELECT coalesce(sum(CASE WHEN s.jobset_id = %(jobset_id)s
        THEN greatest(0, %(panda_id)s - s.first_panda_id - s.n_admitted)
        ELSE s.n_jobs - s.n_admitted END), 0)::bigint AS n_before
FROM jobsets s WHERE s.owner = %(owner)s AND s.held_at IS NOT NULL AND s.jobset_id <= %(jobset_id)s
"""
END = """
SELECT by, reason FROM job_events WHERE panda_id = %(panda_id)s AND now = %(status)s ORDER BY event_id DESC LIMIT 1
"""


class Decision(NamedTuple):
    """What brokerage decided, and how it got there."""

    at: datetime | None = None
    funnel: list[dict[str, Any]] = []
    """`{criterion, left, refused: {queue: why}}` in the order of the criteria."""
    weights: dict[str, float] = {}
    chosen: dict[str, int] = {}
    policy: str = ""
    terms: dict[str, dict[str, float]] = {}
    """What the weights of the heaviest queues are made of."""


class Story(NamedTuple):
    """A sentence, and its evidence."""

    summary: str
    facts: dict[str, Any] = {}
    ahead: list[Ahead] = []
    """Who comes first."""
    estimate: Estimate | None = None


class Answer(NamedTuple):
    panda_id: int
    owner: str
    status: str
    summary: str
    waits_for: str | None
    until: datetime | None
    queue: str | None
    decision: Decision
    facts: dict[str, Any]
    since: datetime | None = None
    """When it came to where it stands."""
    ahead: list[Ahead] = []
    estimate: Estimate | None = None
    stage: str | None = None


def why(connection: Connection, panda_id: int) -> Answer:
    """The answer for one job, live, archived, or not made yet. Raises NotFound."""
    job, jobset = queries.made_or_promised(connection, JOB, panda_id)
    if job is None:
        return _not_made_yet(panda_id, jobset)
    decision = _decision(connection, job)
    story = _story(connection, job, decision)
    facts = {**story.facts, **_kill_facts(job)}
    return Answer(
        panda_id, job.owner, job.status, _with_kill(job, story.summary), job.waits_for, job.due_at, job.queue,
        decision, facts, job.ended_at if job.status in FINAL else job.changed_at, story.ahead, story.estimate,
        job.stage,
    )  # fmt: skip


def _not_made_yet(panda_id: int, jobset: Row[Any] | None) -> Answer:
    if jobset is None:
        raise NotFound("job", panda_id)
    summary = (
        f"It is accepted and not made yet: {jobset.n_expanded} of the {jobset.n_jobs} jobs of its set exist, "
        "the others follow in order."
    )
    if jobset.cancel_requested_at is not None:
        summary = "Its job set was cancelled before this job was made."
    facts = {"jobset_id": jobset.jobset_id, "n_jobs": jobset.n_jobs, "n_expanded": jobset.n_expanded}
    return Answer(panda_id, jobset.owner, JobStatus.PENDING, summary, None, None, None, Decision(), facts)


def _decision(connection: Connection, job: Row[Any]) -> Decision:
    found = rows(connection, DECISION, {"decision_id": job.decision_id}) if job.decision_id else []
    if not found:
        return Decision()
    made = found[0]
    return Decision(made.at, made.funnel, made.weights, made.chosen, made.policy, made.terms)


def _story(connection: Connection, job: Row[Any], decision: Decision) -> Story:
    status = JobStatus(job.status)
    if status in FINAL:
        return _ended(connection, job)
    if job.waits_for == Wait.QUEUE:
        return _no_queue(job, decision)
    if job.waits_for is not None and job.waits_for in WAITS:
        return WAITS[Wait(job.waits_for)](connection, job)
    if status in LEASED:
        return _running(connection, job)
    return _on_its_way(connection, job)


def _for_parents(connection: Connection, job: Row[Any]) -> Story:
    parents = [row._asdict() for row in rows(connection, PARENTS, {"jobset_id": job.jobset_id})]
    if not parents:
        return Story("The job sets that it depends on have ended; it starts in a moment.", {"parents": []})
    failed = [parent for parent in parents if parent["has_ended"]]
    if failed:
        names = ", ".join(str(parent["jobset_id"]) for parent in failed)
        return Story(f"Job set {names}, which it depends on, did not finish; it is held.", {"parents": parents})
    names = ", ".join(f"{p['jobset_id']} ({p['name']}, {counted(p['n_open'], 'job')} to go)" for p in parents[:3])
    more = f" and {len(parents) - 3} more" if len(parents) > 3 else ""
    return Story(f"It waits for the end of job set {names}{more}.", {"parents": parents})


def _no_queue(job: Row[Any], decision: Decision) -> Story:
    refusals = [each for each in decision.funnel if each["refused"]]
    if not refusals:
        return Story("No queue fits it yet; brokerage looks again by itself.")
    refusals.sort(key=lambda each: -len(each["refused"]))
    n_refused = sum(len(each["refused"]) for each in refusals)
    told = [_refusal(each["criterion"], each["refused"]) for each in refusals[:MAX_REFUSALS]]
    n_more = sum(len(each["refused"]) for each in refusals[MAX_REFUSALS:])
    more = f"; {n_more} for other reasons" if n_more else ""
    queues = "The only queue refuses it" if n_refused == 1 else f"All {n_refused} queues refuse it"
    return Story(
        f"No queue fits it. {queues}: {'; '.join(told)}{more}. Brokerage looks again by itself.",
        {
            "last_criterion": next(e for e in reversed(decision.funnel) if e["refused"])["criterion"],
            "n_refused": n_refused,
        },
    )


def _refusal(criterion: str, refused: Mapping[str, str]) -> str:
    """What one criterion refused, with the first queue as an example."""
    queue, reason = next(iter(refused.items()))
    return f"{criterion} {len(refused)} ({queue}: {reason})" if len(refused) > 1 else f"{queue}: {reason} ({criterion})"


def _for_data(connection: Connection, job: Row[Any]) -> Story:
    transfers = [row._asdict() for row in rows(connection, TRANSFERS, {"panda_id": job.panda_id})]
    missing = [row._asdict() for row in rows(connection, MISSING, {"panda_id": job.panda_id})]
    facts = {"transfers": transfers, "missing": missing, "n_missing": job.missing}
    going_out = job.stage in (Stage.STAGE_OUT, Stage.ARCHIVE)
    what = "output" if going_out else "input"
    ahead = line.before_transfers(connection, job.panda_id)
    n = job.missing or len(transfers)
    head = f"{counted(n, f'{what} file')} {'is' if n == 1 else 'are'} on the way"
    if not transfers:
        return Story(f"{head}.", facts, ahead)
    first = transfers[0]
    way = f"{first['lfn']} to {first['destination']}" + (f" from {first['source']}" if first["source"] else "")
    if first["held_because"]:
        return Story(f"{head}; {way} is held: {first['held_because']}.", facts, ahead)
    trouble = f"; try {first['tries']} failed: {first['error']}" if first["error"] else ""
    return Story(f"{head}; {way} is {first['status']}{trouble}.", facts, ahead)


def _for_a_pilot(connection: Connection, job: Row[Any]) -> Story:
    place = line.place_of(connection, job.panda_id)
    share = share_usage.position(connection, job.share, job.queue)
    pilots = rows(connection, PILOTS, {"queue": job.queue})[0]
    asks = rows(connection, ASKS, {"queue": job.queue, "shape_id": job.shape_id})
    facts = {
        "jobs_ahead": place.n_alike,
        "other_jobs_ahead": place.n_others,
        "pilots_in_10_minutes": pilots.n,
        "pilot_last_seen_at": pilots.last_seen_at,
        "nothing_because": pilots.nothing_because,
        "queue_status": job.queue_status,
        "share": {"name": job.share, **share._asdict()},
        "asks": {row.word: row.n for row in asks if row.shape_id == 0},
        "too_little": {row.word: {"asks": row.n, "most": row.most} for row in asks if row.shape_id},
    }
    ahead = line.before_ready(job.share, place, share)
    n_ahead = f"{place.n_alike}{'+' if place.n_alike >= MAX_POSITION else ''}"
    where = "next in line" if place.n_alike == 0 else f"behind {n_ahead} like it"
    where += _others_first(job.share, share) + _takes_no_more(job)
    throttled = standing.throttled(connection, job.owner, job.shape_id)
    if throttled:
        summary = f"It is ready at {job.queue}, and a quota keeps it from being started: {throttled.because}."
        if throttled.limit == "ban":
            summary = f"It is ready at {job.queue}, and none of its owner's jobs is started: {throttled.because}."
        return Story(summary, {**facts, "quotas": [throttled._asdict()]}, ahead)
    closed, found = _closed(connection, job)
    facts |= found
    if closed:
        return Story(f"It is ready at {job.queue}, {closed}.", facts, ahead)
    pauses = switches.picture(connection)
    paused = pauses.pause_of(switches.What.DISPATCH, site=job.queue_site or "", queue=job.queue)
    if paused is not None:
        facts |= {"paused": paused.words, "resume": paused.end_command}
        return Story(f"It is ready at {job.queue}, {where}; {paused.words}.", facts, ahead)
    cap = caps.reached(connection, job.queue)
    if cap is not None:
        facts["cap"] = cap._asdict()
        return Story(f"It is ready at {job.queue}, {where}; {cap.words}.", facts, ahead)
    if pilots.n == 0:
        return Story(f"It is ready at {job.queue}, {where}, but no pilot has asked there for 10 minutes.", facts, ahead)
    busy = f"; the last one that got nothing was told: {pilots.nothing_because}" if pilots.nothing_because else ""
    n_pilots = f"{counted(pilots.n, 'pilot')} {'was' if pilots.n == 1 else 'were'}"
    summary = f"It is ready at {job.queue}, {where}; {n_pilots} seen there in 10 minutes{busy}{_too_small(asks)}."
    known = job.queue_status is not None
    return Story(summary, facts, ahead, estimates.estimate(connection, job.queue, job.share, place) if known else None)


def _takes_no_more(job: Row[Any]) -> str:
    """That brokerage sends nothing more to the queue of a ready job, which does not keep this one from running."""
    if job.queue_status in (None, QueueStatus.ONLINE, QueueStatus.OFFLINE):
        return ""
    reason = f" ({job.queue_reason})" if job.queue_reason else ""
    return f"; the queue is {job.queue_status}{reason}, and still runs what is ready there"


def _closed(connection: Connection, job: Row[Any]) -> tuple[str, dict[str, Any]]:
    """Why pilots get nothing at the queue of a ready job, and its facts; empty: they do. One that is `brokeroff` or in
    `test` gets no new jobs, and hands out those that are ready."""
    if job.queue_status == QueueStatus.OFFLINE:
        reason = f" ({job.queue_reason})" if job.queue_reason else ""
        return f"which is offline{reason}", {"queue_reason": job.queue_reason}
    planned = rows(connection, DOWN, {"queue": job.queue, "site": job.queue_site})
    if not planned:
        return "", {}
    down = planned[0]
    reason = f" ({down.reason})" if down.reason else ""
    where = "which" if down.what == f"queue {job.queue}" else f"where {down.what}"
    return f"{where} is in downtime until {down.ends_at:%Y-%m-%d %H:%M} UTC{reason}", {"downtime": down._asdict()}


def _too_small(asks: Sequence[Row[Any]]) -> str:
    """What pilots had too little of for jobs like it in the last two hours, if none of them got such a job."""
    misfits = sorted((row for row in asks if row.shape_id), key=lambda row: -row.n)
    n_asks = sum(row.n for row in asks if not row.shape_id)
    if not misfits or sum(row.n for row in misfits) < n_asks:
        return ""
    most = misfits[0]
    had = (
        "the tags that it needs"
        if most.word == "tags"
        else f"enough {ASKED[most.word]} (at most {amount(most.word, most.most)})"
    )
    return f"; of {counted(n_asks, 'ask')} in two hours none came with {had}"


def _others_first(share: str, position: Position) -> str:
    """Whose turn comes before that of `share`, and why; empty: nobody's."""
    if not position.ahead:
        return ""
    more = len(position.ahead) - 3
    first = ", ".join(position.ahead[:3]) + (f" and {more} more" if more > 0 else "")
    goes = f"share {first} goes first" if len(position.ahead) == 1 else f"shares {first} go first"
    runs = f"{share} runs {position.running_cores} of {position.all_cores} cores, its part is {position.part:.0%}"
    return f"; {goes} ({runs})"


def _running(connection: Connection, job: Row[Any]) -> Story:
    found = rows(connection, LEASE, {"panda_id": job.panda_id})
    where = f"on {job.node} at {job.queue}"
    doing = {JobStatus.SENT: "A pilot took it", JobStatus.STARTING: "A pilot prepares it"}.get(
        JobStatus(job.status), "It runs"
    )
    facts: dict[str, Any] = {"pilot_id": job.pilot_id, "node": job.node, "started_at": job.started_at}
    if not found:
        return Story(f"{doing} {where}.", facts)
    lease = found[0]
    facts |= {"lease_until": lease.lease_until, "reported_at": lease.reported_at}
    facts |= {"cpu_s": lease.cpu_s, "rss_mb": lease.rss_mb}
    return Story(f"{doing} {where}; the pilot was heard of {max(0, lease.silent_s)} s ago.", facts)


def _for_quota(connection: Connection, job: Row[Any]) -> Story:
    found = rows(connection, HELD_BEFORE, {"panda_id": job.panda_id, "jobset_id": job.jobset_id, "owner": job.owner})
    n_before = found[0].n_before if found else 0
    blocks = standing.held_back(connection, job.owner)
    reason = "; ".join(block.because for block in blocks) or "the quota is gone, so it goes on in a moment"
    after = f"after {n_before:,} that were held before it" if n_before else "as the next one"
    return Story(
        f"It is held back: {reason}. It goes on as there is room, {after}.",
        {"held_before_it": n_before, "quotas": [block._asdict() for block in blocks]},
    )


def _for_an_operator(connection: Connection, job: Row[Any]) -> Story:
    held = rows(connection, HOLD, {"panda_id": job.panda_id})
    if not held:
        return Story("It is held; an operator has to release it.", {"error": job.error} if job.error else {})
    reason = f": {held[0].reason}" if held[0].reason else ""
    return Story(
        f"{held[0].held_by} holds it{reason}. Once released, it goes on at stage {job.stage}.", held[0]._asdict()
    )


def _on_its_way(connection: Connection, job: Row[Any]) -> Story:
    facts = {"stage": job.stage, "deliveries": job.deliveries, "tries": job.tries}
    if job.stage is None:
        return Story("It is being archived.", facts)
    if job.error:
        facts["error"] = job.error
        return Story(
            f"Stage {job.stage} had trouble ({counted(job.tries, 'time')}: {job.error}); it is tried again.", facts
        )
    return Story(f"It is in line for stage {job.stage}.", facts, line.before_due(connection, job.due_at))


def _ended(connection: Connection, job: Row[Any]) -> Story:
    if job.status == JobStatus.FINISHED:
        where = f" at {job.queue}" if job.queue else ""
        return Story(f"It finished{where}.", {"ended_at": job.ended_at, "node": job.node})
    if job.status == JobStatus.FAILED:
        return _failed(job)
    found = rows(connection, END, {"panda_id": job.panda_id, "status": job.status})
    by, reason = (found[0].by, found[0].reason) if found else (job.kill_by, job.kill_reason)
    told = f": {reason}" if reason else ""
    verb = "cancelled" if job.status == JobStatus.CANCELLED else "closed"
    return Story(f"It was {verb} by {by or 'the system'}{told}.", {"by": by, "reason": reason})


def _failed(job: Row[Any]) -> Story:
    where = f" at {job.queue}" if job.queue else ""
    message = (job.error_message or "no reason was given").rstrip(".")
    code = f" ({job.error_code})" if job.error_code else ""
    stage = job.failed_stage if job.failed_stage in set(RETRY_STATUS) else Stage.BROKER
    facts = {"failed_stage": job.failed_stage, "error_code": job.error_code, "exit_code": job.exit_code}
    head = f"Attempt {job.attempt_nr} failed in stage {job.failed_stage or 'dispatch'}{where}: {message}{code}."
    if job.archived:
        return Story(f"{head} It is archived; to run it again, submit it again.", {**facts, "can_retry": False})
    facts |= {"can_retry": True, "retry_from": stage, "retry_until": job.due_at}
    return Story(f"{head} A retry would start attempt {job.attempt_nr + 1} from stage {stage}.", facts)


def _kill_facts(job: Row[Any]) -> dict[str, Any]:
    if job.kill_requested_at is None:
        return {}
    return {
        "kill_requested_at": job.kill_requested_at,
        "kill_delivered_at": job.kill_delivered_at,
        "kill_by": job.kill_by,
    }


def _with_kill(job: Row[Any], summary: str) -> str:
    if job.kill_requested_at is None or job.status in FINAL:
        return summary
    heard = "its pilot was told" if job.kill_delivered_at else "its pilot will hear of it at its next heartbeat"
    return f"{job.kill_by} asked for its end; {heard}. {summary}"


WAITS: Mapping[Wait, Callable[[Connection, Row[Any]], Story]] = {
    Wait.PARENT: _for_parents,
    Wait.DATA: _for_data,
    Wait.PILOT: _for_a_pilot,
    Wait.LEASE: _running,
    Wait.QUOTA: _for_quota,
    Wait.OPERATOR: _for_an_operator,
}
