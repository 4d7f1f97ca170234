"""Queues that a rule closed are tried with test jobs, and go online again when enough of these succeed."""

from contextlib import suppress
from typing import Any

import msgspec
from sqlalchemy.engine import Connection, Row

from panda.auth.audit_log import record
from panda.db.session import Begin, rows, run
from panda.errors import Conflict, NotFound, PandaError
from panda.jobs import incidents, kill, submission
from panda.jobs.incidents import Incident
from panda.jobs.specs import JobSetRequest
from panda.settings import Api
from panda.sites.judging import act
from panda.sites.rules import TestRule
from panda.sites.status import write_status
from panda.sites.versions import Deed, changing
from panda.sites.waking import look_again
from panda.states import QueueStatus

#: Whose the test jobs are.
OWNER = "panda"
#: They come before others that wait at the queue.
PRIORITY = 5_000

#: Queues to be tried, each with its test jobs: those that are not judged yet, else the last ones.
TRIED = """
SELECT q.name, q.cores, q.min_cores, q.min_memory_mb, q.min_walltime_s, q.corepower, q.vos, q.working_groups,
    t.jobset_id, t.sent_at IS NOT NULL AND t.judged_at IS NULL AS is_open,
    t.judged_at IS NULL OR t.judged_at <= panda_now() - make_interval(secs => %(every_s)s) AS is_due,
    s.ended_at IS NOT NULL AS has_ended, s.n_finished, s.n_jobs, extract(epoch FROM panda_now())::bigint AS now_s
FROM queues q
LEFT JOIN LATERAL (SELECT jobset_id, sent_at, judged_at FROM queue_tests WHERE queue = q.name AND sent_at >= q.status_at
    ORDER BY sent_at DESC LIMIT 1) t ON true
LEFT JOIN LATERAL (SELECT ended_at, n_finished, n_jobs FROM jobsets WHERE jobset_id = t.jobset_id OFFSET 0) s ON true
WHERE q.status = 'test' AND q.status_rule <> '' AND q.removed_at IS NULL ORDER BY q.name
"""
SENT = """
INSERT INTO queue_tests (jobset_id, queue, rule, n_jobs, sent_at)
VALUES (%(jobset_id)s, %(queue)s, %(rule)s, %(n)s, panda_now())
"""
JUDGED = "UPDATE queue_tests SET judged_at = panda_now(), n_finished = %(n)s WHERE jobset_id = %(jobset_id)s"
#: Of queues that are not tried any more: somebody gave them another status.
LEFT_OVER = """
SELECT t.jobset_id FROM queue_tests t LEFT JOIN queues q ON q.name = t.queue
WHERE t.judged_at IS NULL AND (q.name IS NULL OR q.status <> 'test' OR q.status_rule = '' OR t.sent_at < q.status_at)
ORDER BY t.jobset_id LIMIT 100
"""


def look(begin: Begin, rule: TestRule | None, limits: Api) -> int:
    """Send test jobs where some are due, and judge those that have ended. Returns the queues that went online. Called
    by the clock, by one process at a time."""
    with begin() as connection:
        _drop_what_is_left(connection)
    if rule is None:
        return 0
    with begin() as connection:
        tried = rows(connection, TRIED, {"every_s": float(rule.every_s)})
    n = 0
    for queue in tried:
        try:
            with begin() as connection:
                n += _turn(connection, queue, rule, limits)
        except PandaError as problem:  # one queue's trouble is not the others'
            _tell(begin, queue.name, rule, problem)
    return n


def document_of(queue: Row[Any], rule: TestRule) -> dict[str, Any]:
    """The job set that tries a queue: as small as the queue takes, for whom the queue is."""
    return {
        "name": f"test-{queue.name}"[:250],
        "template": {"command": list(rule.command), "count": rule.jobs, "name": f"test-{queue.name}"[:250]},
        "defaults": {
            "cores": max(1, queue.min_cores),
            "memory_mb": max(rule.memory_mb, queue.min_memory_mb),
            "disk_mb": rule.disk_mb,
            "walltime_s": max(rule.walltime_s, int(queue.min_walltime_s * queue.corepower / 10) + 1),
            "max_attempts": 1,
            "priority": PRIORITY,
        },
        "share": rule.share,
        "vo": queue.vos[0] if queue.vos else "",
        "working_group": queue.working_groups[0].replace("*", "test") if queue.working_groups else "",
        "brokerage": {"sites": [queue.name], "test": True},
    }


def _turn(connection: Connection, queue: Row[Any], rule: TestRule, limits: Api) -> bool:
    """The next step of one queue; whether it went online."""
    if queue.is_open and queue.has_ended:
        return _judge(connection, queue, rule)
    if not queue.is_open and queue.is_due:
        _send(connection, queue, rule, limits)
    return False


def _send(connection: Connection, queue: Row[Any], rule: TestRule, limits: Api) -> None:
    raw = msgspec.json.encode(document_of(queue, rule))
    request = msgspec.json.decode(raw, type=JobSetRequest)
    key = f"test-{queue.name}-{queue.now_s}"
    accepted = submission.submit(connection, request, raw, owner=OWNER, key=key, limits=limits)
    values = {"jobset_id": accepted.jobset_id, "queue": queue.name, "rule": rule.name, "n": rule.jobs}
    run(connection, SENT, values)


def _judge(connection: Connection, queue: Row[Any], rule: TestRule) -> bool:
    run(connection, JUDGED, {"jobset_id": queue.jobset_id, "n": queue.n_finished})
    if queue.n_finished < rule.needed:
        return False
    because = f"{queue.n_finished} of {queue.n_jobs} test jobs succeeded (job set {queue.jobset_id})"
    who, reason = f"rule:{rule.name}", f"rule {rule.name}: {because}"
    with changing(connection, Deed(who, "rule", because)):
        write_status(connection, queue.name, QueueStatus.ONLINE, by=who, reason=reason)
        facts = {"was": QueueStatus.TEST, "now": QueueStatus.ONLINE, "rule": rule.name}
        record(connection, who, "set_queue_status", f"queue {queue.name}", reason=reason, facts=facts)
    act(connection, rule.name, queue.name, "", QueueStatus.ONLINE, because, is_passive=False)
    look_again(connection)
    return True


def _drop_what_is_left(connection: Connection) -> None:
    """Test jobs that nobody waits for any more."""
    for row in rows(connection, LEFT_OVER):
        with suppress(Conflict, NotFound):  # they have ended
            kill.request_jobset(connection, row.jobset_id, by=OWNER, reason="its queue is not tried any more")
        run(connection, JUDGED, {"jobset_id": row.jobset_id, "n": None})


def _tell(begin: Begin, queue: str, rule: TestRule, problem: PandaError) -> None:
    message = f"rule {rule.name}: queue {queue} cannot be tried: {problem}"
    with begin() as connection:
        incidents.report(
            connection,
            [
                Incident(
                    "sites",
                    "error",
                    f"rule {rule.name}: no test of {queue}",
                    message,
                    context={"queue": queue, "rule": rule.name},
                )
            ],
        )
