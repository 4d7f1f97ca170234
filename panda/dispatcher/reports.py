"""What pilots report: that jobs run, that they are alive, how they ended.

The lease is the fence. A report counts only while its attempt's lease stands with the token that the
pilot was given; everything that ends an attempt deletes the lease first. So a superseded attempt can
change nothing, and two reports of one end settle it once.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy.engine import Connection, Row

from panda.db.session import Begin, asynchronous, rows, run
from panda.dispatcher.words import (
    Beat,
    HeartbeatReply,
    HeartbeatRequest,
    Report,
    ReportResult,
    UpdateReply,
    UpdateRequest,
)
from panda.jobs import ending
from panda.jobs.ending import Failure
from panda.settings import Settings
from panda.states import Stage

_SAID = "unnest(%(panda_ids)s::bigint[], %(attempts)s::int[], %(hashes)s::bytea[]"
BEAT = f"""
WITH said AS (SELECT * FROM {_SAID}, %(cpu_s)s::real[], %(rss_mb)s::int[])
        AS s(panda_id, attempt_nr, token_hash, cpu_s, rss_mb)),
beating AS (
    UPDATE leases l SET lease_until = panda_now() + make_interval(secs => %(lease_s)s), reported_at = panda_now(),
        cpu_s = coalesce(s.cpu_s, l.cpu_s), rss_mb = coalesce(s.rss_mb, l.rss_mb)
    FROM said s WHERE l.panda_id = s.panda_id AND l.attempt_nr = s.attempt_nr AND l.token_hash = s.token_hash
    RETURNING l.panda_id)
SELECT b.panda_id, j.kill_requested_at IS NOT NULL AS kill, j.kill_delivered_at IS NOT NULL AS told
FROM beating b JOIN jobs j USING (panda_id)
"""
#: Locks leases, then jobs (the order of every end), so it needs no row of `job_due`. A transaction that holds no
#: end may be lost in a crash (law 7); it says so here, which saves a statement of its own for each report.
PROGRESS = f"""
WITH said AS (SELECT * FROM {_SAID}, %(statuses)s::text[]) AS s(panda_id, attempt_nr, token_hash, status)),
held AS (
    SELECT l.panda_id, s.status FROM leases l JOIN said s ON l.panda_id = s.panda_id
        AND l.attempt_nr = s.attempt_nr AND l.token_hash = s.token_hash
    ORDER BY l.panda_id FOR UPDATE OF l),
beating AS (
    UPDATE leases l SET lease_until = panda_now() + make_interval(secs => %(lease_s)s), reported_at = panda_now()
    FROM held WHERE l.panda_id = held.panda_id),
was AS (
    SELECT j.panda_id, j.status, j.attempt_nr, j.computing_site, h.status AS said
    FROM jobs j JOIN held h USING (panda_id) ORDER BY j.panda_id FOR UPDATE OF j),
moved AS (
    UPDATE jobs j SET status = w.said, changed_at = panda_now(),
        started_at = CASE WHEN w.said = 'running' THEN coalesce(j.started_at, panda_now()) ELSE j.started_at END
    FROM was w WHERE j.panda_id = w.panda_id
        AND (w.status = 'sent' OR (w.status = 'starting' AND w.said = 'running'))
    RETURNING j.panda_id),
events AS (
    INSERT INTO job_events (panda_id, at, was, now, attempt_nr, stage, by)
    SELECT w.panda_id, panda_now(), w.status, w.said, w.attempt_nr, 'dispatch', 'pilot'
    FROM was w JOIN moved USING (panda_id)),
counted AS (
    INSERT INTO job_count_deltas (status, queue, n)
    SELECT w.status, coalesce(w.computing_site, ''), -count(*) FROM was w JOIN moved USING (panda_id) GROUP BY 1, 2
    UNION ALL
    SELECT w.said, coalesce(w.computing_site, ''), count(*) FROM was w JOIN moved USING (panda_id) GROUP BY 1, 2)
SELECT h.panda_id, j.kill_requested_at IS NOT NULL AS kill, j.kill_delivered_at IS NOT NULL AS told,
    CASE WHEN %(is_all)s THEN set_config('synchronous_commit', 'off', true) END AS asynchronous
FROM held h JOIN jobs j USING (panda_id)
"""
TOLD = (
    "UPDATE jobs SET kill_delivered_at = panda_now() WHERE panda_id = ANY(%(panda_ids)s) AND kill_delivered_at IS NULL"
)
#: The fence falls and the attempt's use is written down, in one statement. It locks `job_due` first, then leases,
#: then jobs (law 5); a lease that went while it waited for a lock is not found under the lock either. A job that
#: finished holds until its outputs are settled, also when it ended so quickly that its pilot never said `running`;
#: how the others end, `ending` says.
END = f"""
WITH said AS (
    SELECT * FROM {_SAID}, %(statuses)s::text[], %(exit_codes)s::int[], %(wall_s)s::real[], %(cpu_s)s::real[],
        %(max_rss_mb)s::int[]) AS s(panda_id, attempt_nr, token_hash, status, exit_code, wall_s, cpu_s, max_rss_mb)),
mutex AS (SELECT panda_id FROM job_due WHERE panda_id = ANY(%(panda_ids)s) ORDER BY panda_id FOR UPDATE),
held AS (
    SELECT s.* FROM mutex JOIN leases l USING (panda_id) JOIN said s ON l.panda_id = s.panda_id
        AND l.attempt_nr = s.attempt_nr AND l.token_hash = s.token_hash
    ORDER BY l.panda_id FOR UPDATE OF l),
unleased AS (DELETE FROM leases l USING held h WHERE l.panda_id = h.panda_id),
was AS (
    SELECT j.panda_id, j.status, j.attempt_nr, j.computing_site,
        h.status = 'finished' AND j.status IN ('sent', 'starting', 'running') AS holds,
        h.exit_code, h.wall_s, h.cpu_s, h.max_rss_mb
    FROM jobs j JOIN held h USING (panda_id) ORDER BY j.panda_id FOR UPDATE OF j),
ended AS (
    UPDATE jobs j SET exit_code = w.exit_code, wall_s = w.wall_s, cpu_s = w.cpu_s, max_rss_mb = w.max_rss_mb,
        status = CASE WHEN w.holds THEN 'holding' ELSE w.status END,
        changed_at = CASE WHEN w.holds THEN panda_now() ELSE j.changed_at END,
        started_at = CASE WHEN w.holds
            THEN coalesce(j.started_at, panda_now() - make_interval(secs => coalesce(w.wall_s, 0)))
            ELSE j.started_at END
    FROM was w WHERE j.panda_id = w.panda_id),
woken AS (
    UPDATE job_due d SET stage = 'stage_out', final = true, waits_for = NULL, due_at = panda_now(), deliveries = 0
    FROM was w WHERE d.panda_id = w.panda_id AND w.holds),
events AS (
    INSERT INTO job_events (panda_id, at, was, now, attempt_nr, stage, by)
    SELECT panda_id, panda_now(), status, 'holding', attempt_nr, 'dispatch', 'pilot' FROM was WHERE holds),
counted AS (
    INSERT INTO job_count_deltas (status, queue, n)
    SELECT status, coalesce(computing_site, ''), -count(*) FROM was WHERE holds GROUP BY 1, 2
    UNION ALL SELECT 'holding', coalesce(computing_site, ''), count(*) FROM was WHERE holds GROUP BY 1, 2)
SELECT panda_id FROM held
"""
KILLS = "SELECT panda_id FROM jobs WHERE panda_id = ANY(%(panda_ids)s) AND kill_requested_at IS NOT NULL"
WRITTEN = """
UPDATE job_files f SET status = 'written', size_bytes = o.size_bytes, adler32 = o.adler32,
    guid = o.guid, attempt_nr = o.attempt_nr
FROM jsonb_to_recordset(%(outputs)s) AS o(panda_id bigint, attempt_nr int, lfn text, size_bytes bigint, adler32 text,
    guid text)
WHERE f.panda_id = o.panda_id AND f.kind = 'output' AND f.lfn = o.lfn
"""
FATE = """
SELECT s.panda_id, CASE
    WHEN a.attempt_nr = s.attempt_nr THEN 'already_done'
    WHEN j.attempt_nr = s.attempt_nr AND j.status NOT IN ('sent', 'starting', 'running') THEN 'already_done'
    WHEN j.panda_id IS NOT NULL OR a.panda_id IS NOT NULL THEN 'stale_lease'
    ELSE 'not_found' END AS outcome
FROM unnest(%(panda_ids)s::bigint[], %(attempts)s::int[]) AS s(panda_id, attempt_nr)
LEFT JOIN jobs j ON j.panda_id = s.panda_id
LEFT JOIN jobs_archive a ON a.panda_id = s.panda_id
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
    newest = {report.panda_id: report for report in request.reports}
    progress = [r for r in newest.values() if r.status in ("starting", "running")]
    final = [r for r in newest.values() if r.status not in ("starting", "running")]
    answers: dict[int, ReportResult] = {}
    with begin() as connection:
        if final:
            answers |= _final(connection, final, settings)
        if progress:
            values = _progress(progress, settings) | {"is_all": not final}
            answers |= _alive(connection, progress, rows(connection, PROGRESS, values))
    return UpdateReply(results=[answers[r.panda_id] for r in request.reports])


def heartbeat(begin: Begin, request: HeartbeatRequest, settings: Settings) -> HeartbeatReply:
    """Prolong the leases of everything that a pilot has, in one statement; tell it what to kill or drop."""
    if not request.beats:
        return HeartbeatReply(results=[])
    newest = list({beat.panda_id: beat for beat in request.beats}.values())
    with begin() as connection:
        asynchronous(connection)
        values = _said(newest) | {
            "cpu_s": [beat.cpu_s for beat in newest],
            "rss_mb": [beat.rss_mb for beat in newest],
            "lease_s": float(settings.dispatcher.lease_s),
        }
        answers = _alive(connection, newest, rows(connection, BEAT, values))
    return HeartbeatReply(results=list(answers.values()))


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
    }


def _alive(connection: Connection, said: Sequence[Report | Beat], held: Sequence[Row[Any]]) -> dict[int, ReportResult]:
    """`ok` for those whose lease stands, with the command to kill where a kill was asked for."""
    kills = [row.panda_id for row in held if row.kill and not row.told]
    if kills:
        run(connection, TOLD, {"panda_ids": sorted(kills)})
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
    _quarantine(connection, gone)
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
    outputs = _outputs(reports)
    if outputs:
        run(connection, WRITTEN, {"outputs": outputs})
    cancelled = [report.panda_id for report in reports if report.status == "cancelled"]
    asked = {row.panda_id for row in rows(connection, KILLS, {"panda_ids": cancelled})} if cancelled else set()
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


def _outputs(reports: Sequence[Report]) -> str | None:
    found = [
        {"panda_id": r.panda_id, "attempt_nr": r.attempt_nr, "lfn": o.lfn, "size_bytes": o.size_bytes,
         "adler32": o.adler32, "guid": o.guid}
        for r in reports for o in r.outputs
    ]  # fmt: skip
    return msgspec.json.encode(found).decode() if found else None


def _quarantine(connection: Connection, reports: Sequence[Report]) -> None:
    outputs = _outputs(reports)
    if outputs:
        run(connection, QUARANTINE, {"outputs": outputs})
