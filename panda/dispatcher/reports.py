"""What pilots report: that jobs run, that they are alive, how they ended.

The lease is the fence. A report counts only while its attempt's lease stands with the token that the
pilot was given; everything that ends an attempt deletes the lease first. So a superseded attempt can
change nothing, and two reports of one end settle it once.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import msgspec
from sqlalchemy.engine import Connection, Row

from panda.db.session import Begin, once, rows, run
from panda.dispatcher.words import (
    Beat,
    HeartbeatReply,
    HeartbeatRequest,
    Report,
    ReportResult,
    UpdateReply,
    UpdateRequest,
)
from panda.jobs import ending, kill, usage
from panda.jobs.ending import Failure
from panda.jobs.usage import Sample
from panda.settings import Settings
from panda.states import Stage

T = TypeVar("T", Report, Beat)

_SAID = "unnest(%(panda_ids)s::bigint[], %(attempts)s::int[], %(hashes)s::bytea[]"
BEAT = f"""
WITH said AS (SELECT * FROM {_SAID}, %(cpu_s)s::real[], %(rss_mb)s::int[])
        AS s(panda_id, attempt_nr, token_hash, cpu_s, rss_mb)),
beating AS (
    UPDATE leases l SET lease_until = panda_now() + make_interval(secs => %(lease_s)s), reported_at = panda_now(),
        cpu_s = coalesce(s.cpu_s, l.cpu_s), rss_mb = coalesce(s.rss_mb, l.rss_mb)
    FROM said s WHERE l.panda_id = ANY(%(panda_ids)s) AND l.panda_id = s.panda_id AND l.attempt_nr = s.attempt_nr
        AND l.token_hash = s.token_hash
    RETURNING l.panda_id)
SELECT b.panda_id, j.kill_requested_at IS NOT NULL AS kill, j.kill_delivered_at IS NOT NULL AS told,
    (SELECT set_config('synchronous_commit', 'off', true)) AS asynchronous
FROM beating b, LATERAL (SELECT * FROM jobs WHERE panda_id = b.panda_id OFFSET 0) j
"""
#: Reports that one statement takes.
BATCH = 200
#: A lease that was prolonged this part of its length ago is not written again by a report of progress.
FRESH = 1 / 12
#: Needs no row of `job_due`: a job moves only while it still has the status and the attempt that were seen with a
#: lease that stood, so whoever ends the attempt meanwhile wins. A transaction that holds no end may be lost in a
#: crash (law 7); it says so here, which saves a statement of its own for each report.
PROGRESS = f"""
WITH said AS (SELECT * FROM {_SAID}, %(statuses)s::text[]) AS s(panda_id, attempt_nr, token_hash, status)),
held AS (
    SELECT s.panda_id, s.attempt_nr, s.status, l.reported_at
    FROM said s, LATERAL (SELECT * FROM leases WHERE panda_id = s.panda_id OFFSET 0) l
    WHERE l.attempt_nr = s.attempt_nr AND l.token_hash = s.token_hash),
beating AS (
    UPDATE leases SET lease_until = panda_now() + make_interval(secs => %(lease_s)s), reported_at = panda_now()
    WHERE panda_id = ANY(ARRAY(SELECT panda_id FROM held
        WHERE reported_at < panda_now() - make_interval(secs => %(fresh_s)s) ORDER BY panda_id))),
was AS (
    SELECT h.panda_id, h.attempt_nr, h.status AS said, j.status, j.kill_requested_at, j.kill_delivered_at
    FROM held h, LATERAL (SELECT * FROM jobs WHERE panda_id = h.panda_id OFFSET 0) j),
moved AS (
    UPDATE jobs j SET status = w.said, changed_at = panda_now(),
        started_at = CASE WHEN w.said = 'running' THEN coalesce(j.started_at, panda_now()) ELSE j.started_at END
    FROM was w WHERE j.panda_id = ANY(ARRAY(SELECT panda_id FROM was)) AND j.panda_id = w.panda_id
        AND j.status = w.status AND j.attempt_nr = w.attempt_nr
        AND (w.status = 'sent' OR (w.status = 'starting' AND w.said = 'running'))
    RETURNING j.panda_id, j.attempt_nr, j.computing_site, w.status, w.said),
events AS (
    INSERT INTO job_events (panda_id, at, was, now, attempt_nr, stage, by)
    SELECT panda_id, panda_now(), status, said, attempt_nr, 'dispatch', 'pilot' FROM moved),
counted AS (
    INSERT INTO job_count_deltas (status, queue, n)
    SELECT status, coalesce(computing_site, ''), -count(*) FROM moved GROUP BY 1, 2
    UNION ALL SELECT said, coalesce(computing_site, ''), count(*) FROM moved GROUP BY 1, 2)
SELECT panda_id, kill_requested_at IS NOT NULL AS kill, kill_delivered_at IS NOT NULL AS told,
    (SELECT CASE WHEN %(is_all)s THEN set_config('synchronous_commit', 'off', true) END) AS asynchronous
FROM was
"""
#: Of the attempt that was told, and of no later one that began since.
TOLD = """
UPDATE jobs SET kill_delivered_at = panda_now()
WHERE panda_id = ANY(%(panda_ids)s) AND kill_requested_at IS NOT NULL AND kill_delivered_at IS NULL
    AND attempt_nr = (%(attempts)s::int[])[array_position(%(panda_ids)s::bigint[], panda_id)]
"""
#: The fence falls and the attempt's use is written down, in one statement. It locks `job_due` first, then leases,
#: then jobs (law 5); a lease that went while it waited for a lock is not deleted here, and so says nothing. A job
#: that finished holds until its outputs are settled, also when it ended so quickly that its pilot never said
#: `running`; how the others end, `ending` says.
END = f"""
WITH said AS (
    SELECT * FROM {_SAID}, %(statuses)s::text[], %(exit_codes)s::int[], %(wall_s)s::real[], %(cpu_s)s::real[],
        %(max_rss_mb)s::int[]) AS s(panda_id, attempt_nr, token_hash, status, exit_code, wall_s, cpu_s, max_rss_mb)),
mutex AS (SELECT panda_id FROM job_due WHERE panda_id = ANY(%(panda_ids)s) ORDER BY panda_id FOR UPDATE),
unleased AS (
    DELETE FROM leases l USING said s WHERE l.panda_id = ANY(ARRAY(SELECT panda_id FROM mutex))
        AND l.panda_id = s.panda_id AND l.attempt_nr = s.attempt_nr AND l.token_hash = s.token_hash
    RETURNING l.panda_id),
was AS (
    SELECT panda_id, status, attempt_nr, computing_site FROM jobs
    WHERE panda_id = ANY(ARRAY(SELECT panda_id FROM unleased)) ORDER BY panda_id FOR UPDATE),
ended AS (
    UPDATE jobs j SET exit_code = s.exit_code, wall_s = s.wall_s, cpu_s = s.cpu_s, max_rss_mb = s.max_rss_mb,
        status = CASE WHEN h.holds THEN 'holding' ELSE w.status END,
        changed_at = CASE WHEN h.holds THEN panda_now() ELSE j.changed_at END,
        started_at = CASE WHEN h.holds
            THEN coalesce(j.started_at, panda_now() - make_interval(secs => coalesce(s.wall_s, 0)))
            ELSE j.started_at END
    FROM was w JOIN said s USING (panda_id),
        LATERAL (SELECT s.status = 'finished' AND w.status IN ('sent', 'starting', 'running') AS holds) h
    WHERE j.panda_id = ANY(ARRAY(SELECT panda_id FROM was)) AND j.panda_id = w.panda_id
    RETURNING j.panda_id, j.attempt_nr, j.computing_site, w.status, h.holds),
woken AS (
    UPDATE job_due SET stage = 'stage_out', final = true, waits_for = NULL, due_at = panda_now(), deliveries = 0
    WHERE panda_id = ANY(ARRAY(SELECT panda_id FROM ended WHERE holds))),
events AS (
    INSERT INTO job_events (panda_id, at, was, now, attempt_nr, stage, by)
    SELECT panda_id, panda_now(), status, 'holding', attempt_nr, 'dispatch', 'pilot' FROM ended WHERE holds),
counted AS (
    INSERT INTO job_count_deltas (status, queue, n)
    SELECT status, coalesce(computing_site, ''), -count(*) FROM ended WHERE holds GROUP BY 1, 2
    UNION ALL SELECT 'holding', coalesce(computing_site, ''), count(*) FROM ended WHERE holds GROUP BY 1, 2)
SELECT panda_id FROM ended
"""
KILLS = "SELECT panda_id FROM jobs WHERE panda_id = ANY(%(panda_ids)s) AND kill_requested_at IS NOT NULL"
#: `outputs` holds an object for each output, by the PandaID and the name: so every row that is reached by its index
#: finds what is new about it at once.
WRITTEN = """
UPDATE job_files SET (status, size_bytes, adler32, guid, attempt_nr) = (
    SELECT 'written', o.size_bytes, o.adler32, o.guid, o.attempt_nr
    FROM jsonb_to_record(%(outputs)s::jsonb -> (panda_id || '/' || lfn))
        AS o(attempt_nr smallint, size_bytes bigint, adler32 text, guid text))
WHERE panda_id = ANY(%(panda_ids)s) AND kind = 'output' AND %(outputs)s::jsonb ? (panda_id || '/' || lfn)
"""
#: Outputs that their queue's first storage did not take.
PUT_ELSEWHERE = """
UPDATE job_files SET storage = %(outputs)s::jsonb -> (panda_id || '/' || lfn) ->> 'storage'
WHERE panda_id = ANY(%(panda_ids)s) AND kind = 'output' AND EXISTS (
    SELECT FROM (SELECT computing_site FROM jobs j WHERE j.panda_id = job_files.panda_id OFFSET 0) j
    JOIN queues q ON q.name = j.computing_site
    WHERE q.second_storage = %(outputs)s::jsonb -> (job_files.panda_id || '/' || lfn) ->> 'storage' OFFSET 0)
"""
FATE = """
SELECT s.panda_id, CASE
    WHEN a.attempt_nr = s.attempt_nr THEN 'already_done'
    WHEN j.attempt_nr = s.attempt_nr
        AND j.status IN ('holding', 'transferring', 'finished', 'failed', 'cancelled', 'closed') THEN 'already_done'
    WHEN j.panda_id IS NOT NULL OR a.panda_id IS NOT NULL THEN 'stale_lease'
    ELSE 'not_found' END AS outcome
FROM unnest(%(panda_ids)s::bigint[], %(attempts)s::int[]) AS s(panda_id, attempt_nr)
LEFT JOIN LATERAL (SELECT panda_id, attempt_nr, status FROM jobs WHERE panda_id = s.panda_id OFFSET 0) j ON true
LEFT JOIN LATERAL (SELECT panda_id, attempt_nr FROM jobs_archive WHERE panda_id = s.panda_id OFFSET 0) a ON true
"""
#: What a superseded attempt reports to have written; it is kept apart and never published.
QUARANTINE = """
INSERT INTO quarantine (panda_id, attempt_nr, lfn, path, size_bytes, adler32, reason, at)
SELECT o.panda_id, o.attempt_nr, o.lfn, '', o.size_bytes, o.adler32, 'reported by a superseded attempt', panda_now()
FROM jsonb_to_recordset(%(outputs)s) AS o(panda_id bigint, attempt_nr int, lfn text, size_bytes bigint, adler32 text)
ON CONFLICT (panda_id, attempt_nr, lfn) DO UPDATE SET size_bytes = excluded.size_bytes, adler32 = excluded.adler32
"""

#: Pilot errors, by PanDA's numbers, that lie with a node, a storage or the system (see pilot/errors.py): the job
#: may well succeed elsewhere. Everything else is the payload's own and would only happen again.
SYSTEM_ERRORS = frozenset({1098, 1099, 1103, 1137, 1171, 1172, 1199, 1201, 1202, 1208, 1246, 1319, 1323, 1333, 1344})


def update(begin: Begin, request: UpdateRequest, settings: Settings) -> UpdateReply:
    """Take a pilot's reports; one transaction for all of them, an answer for each, in their order.

    Of several reports on one job the last one counts.
    """
    newest = {report.panda_id: report for report in sorted(request.reports, key=lambda report: report.panda_id)}
    progress = [r for r in newest.values() if r.status in ("starting", "running")]
    final = [r for r in newest.values() if r.status not in ("starting", "running")]
    answers: dict[int, ReportResult] = {}
    is_plain = all(report.status == "finished" and not report.outputs for report in final)
    with once(begin) if is_plain and not (final and progress) else begin() as connection:
        for some in batches(final):
            answers |= _final(connection, some, settings)
        for some in batches(progress):
            values = _progress(some, settings) | {"is_all": not final}
            answers |= _alive(connection, some, rows(connection, PROGRESS, values))
    return UpdateReply(results=[answers[r.panda_id] for r in request.reports])


def batches(said: Sequence[T]) -> Iterator[Sequence[T]]:
    """So many that the statements' joins of what was said with what is known stay cheap."""
    for start in range(0, len(said), BATCH):
        yield said[start : start + BATCH]


def heartbeat(begin: Begin, request: HeartbeatRequest, settings: Settings) -> HeartbeatReply:
    """Prolong the leases of everything that a pilot has, in one statement; tell it what to kill or drop."""
    if not request.beats:
        return HeartbeatReply(results=[])
    newest = list({beat.panda_id: beat for beat in sorted(request.beats, key=lambda beat: beat.panda_id)}.values())
    answers: dict[int, ReportResult] = {}
    with once(begin) as connection:
        for some in batches(newest):
            values = _said(some) | {
                "cpu_s": [beat.cpu_s for beat in some],
                "rss_mb": [beat.rss_mb for beat in some],
                "lease_s": float(settings.dispatcher.lease_s),
            }
            held = rows(connection, BEAT, values)
            _remember(connection, some, held)
            answers |= _alive(connection, some, held)
    return HeartbeatReply(results=list(answers.values()))


def _remember(connection: Connection, beats: Sequence[Beat], held: Sequence[Row[Any]]) -> None:
    """Points of the curves of those whose lease stands."""
    standing = {row.panda_id for row in held}
    samples = [
        Sample(
            b.panda_id, b.attempt_nr, b.wall_s, b.cpu_s, b.rss_mb, b.read_mb, b.written_mb, b.disk_mb, b.n_processes
        )
        for b in beats
        if b.wall_s is not None and b.panda_id in standing
    ]  # fmt: skip
    usage.remember(connection, samples)


def _said(said: Sequence[Report | Beat]) -> dict[str, Any]:
    return {
        "panda_ids": [each.panda_id for each in said],
        "attempts": [each.attempt_nr for each in said],
        "hashes": [hashlib.sha256(each.token.encode()).digest() for each in said],
    }


def _progress(reports: Sequence[Report], settings: Settings) -> dict[str, Any]:
    return _said(reports) | {
        "statuses": [report.status for report in reports],
        "lease_s": float(settings.dispatcher.lease_s),
        "fresh_s": settings.dispatcher.lease_s * FRESH,
    }


def _alive(connection: Connection, said: Sequence[Report | Beat], held: Sequence[Row[Any]]) -> dict[int, ReportResult]:
    """`ok` for those whose lease stands, with the command to kill where a kill was asked for."""
    kills = sorted(row.panda_id for row in held if row.kill and not row.told)
    if kills:
        attempt_of = {each.panda_id: each.attempt_nr for each in said}
        run(connection, TOLD, {"panda_ids": kills, "attempts": [attempt_of[panda_id] for panda_id in kills]})
    standing = {row.panda_id: row.kill for row in held}
    answers = _fates(connection, [each for each in said if each.panda_id not in standing])
    for each in said:
        if each.panda_id in standing:
            command = "kill" if standing[each.panda_id] else None
            answers[each.panda_id] = ReportResult(
                panda_id=each.panda_id, attempt_nr=each.attempt_nr, outcome="ok", command=command
            )
    return answers


def _fates(connection: Connection, said: Sequence[Report | Beat]) -> dict[int, ReportResult]:
    if not said:
        return {}
    attempt_of = {each.panda_id: each.attempt_nr for each in said}
    found = rows(connection, FATE, {"panda_ids": list(attempt_of), "attempts": list(attempt_of.values())})
    return {
        row.panda_id: ReportResult(panda_id=row.panda_id, attempt_nr=attempt_of[row.panda_id], outcome=row.outcome)
        for row in found
    }


def _final(connection: Connection, reports: Sequence[Report], settings: Settings) -> dict[int, ReportResult]:
    """Settle the ends of attempts."""
    held = {row.panda_id for row in rows(connection, END, _ends(reports))}
    gone = [report for report in reports if report.panda_id not in held]
    answers = _fates(connection, gone)
    _quarantine(connection, [r for r in gone if answers[r.panda_id].outcome != "already_done"])
    _settle(connection, [report for report in reports if report.panda_id in held], settings)
    for report in reports:
        if report.panda_id in held:
            answers[report.panda_id] = ReportResult(
                panda_id=report.panda_id, attempt_nr=report.attempt_nr, outcome="ok"
            )
    return answers


def _ends(reports: Sequence[Report]) -> dict[str, Any]:
    return _said(reports) | {
        "statuses": [r.status for r in reports],
        "exit_codes": [r.exit_code for r in reports],
        "wall_s": [r.wall_s for r in reports],
        "cpu_s": [r.cpu_s for r in reports],
        "max_rss_mb": [r.max_rss_mb for r in reports],
    }


def _settle(connection: Connection, reports: Sequence[Report], settings: Settings) -> None:
    outputs = {f"{each['panda_id']}/{each['lfn']}": each for each in _outputs(reports)}
    if outputs:
        panda_ids = sorted({each["panda_id"] for each in outputs.values()})
        run(connection, WRITTEN, {"panda_ids": panda_ids, "outputs": _text(outputs)})
        elsewhere = {key: {"storage": each["storage"]} for key, each in outputs.items() if each["storage"]}
        if elsewhere:
            run(connection, PUT_ELSEWHERE, {"panda_ids": panda_ids, "outputs": _text(elsewhere)})
    cancelled = [report.panda_id for report in reports if report.status == "cancelled"]
    asked = {row.panda_id for row in rows(connection, KILLS, {"panda_ids": cancelled})} if cancelled else set()
    if asked:
        kill.confirm(connection, sorted(asked))
    ending.cancel_many(connection, sorted(asked), by="pilot", reason="killed on request")
    failures = [_failure(r) for r in reports if r.status == "failed"]
    failures += [_unasked(panda_id) for panda_id in cancelled if panda_id not in asked]
    ending.fail_many(connection, failures, by="pilot", engine=settings.engine)


def _unasked(panda_id: int) -> Failure:
    """A pilot dropped a job that nobody wanted killed: that is no end that its owner chose."""
    return Failure(panda_id, Stage.DISPATCH, "pilot:1144", "its pilot killed it without being asked to", again=True)


def _failure(report: Report) -> Failure:
    code = f"pilot:{report.error_code}"
    if report.error_code in (0, 1305) and report.exit_code:
        code = f"payload:{report.exit_code}"
    message = report.error_message or f"the payload ended with exit code {report.exit_code}"
    return Failure(report.panda_id, Stage.DISPATCH, code, message, again=report.error_code in SYSTEM_ERRORS)


def _outputs(reports: Sequence[Report]) -> list[dict[str, Any]]:
    return [
        {"panda_id": r.panda_id, "attempt_nr": r.attempt_nr, "lfn": o.lfn, "size_bytes": o.size_bytes,
         "adler32": o.adler32, "guid": o.guid, "storage": o.storage}
        for r in reports for o in r.outputs
    ]  # fmt: skip


def _text(document: Any) -> str:
    return msgspec.json.encode(document).decode()


def _quarantine(connection: Connection, reports: Sequence[Report]) -> None:
    outputs = _outputs(reports)
    if outputs:
        run(connection, QUARANTINE, {"outputs": _text(outputs)})
