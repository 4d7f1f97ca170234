"""For operators: what failed by stage, what is stuck, Celery in short, and the audit log."""

from urllib.parse import urlencode

import falcon

from monitoring.pages.listing import Listing, ListPage, ask
from monitoring.pages.page import Page, check_words, session_of
from monitoring.reads import queries, stuck
from monitoring.reads.queries import Facts, facts
from monitoring.show import codes, tables
from panda.auth import policy
from panda.auth.nouns import AUDIT
from panda.auth.policy import Action
from panda.jobs import switches
from panda.states import Stage

#: Looked at: the newest resting failures, the oldest waits of each kind.
LOOK_AT = 5_000

#: Failed jobs that can still be retried, by stage and code.
FAILED = """
SELECT f.failed_stage, f.error_code, count(*) AS n, count(DISTINCT f.owner) AS n_owners,
    count(DISTINCT f.computing_site) AS n_queues, min(f.ended_at) AS first_at, max(f.ended_at) AS last_at
FROM (SELECT panda_id FROM job_due WHERE waits_for IS NOT NULL AND waits_for = 'operator'
        AND due_at > (SELECT panda_now()) ORDER BY due_at DESC LIMIT %(look_at)s) AS resting
CROSS JOIN LATERAL (SELECT failed_stage, error_code, owner, computing_site, ended_at, status FROM jobs
    WHERE panda_id = resting.panda_id OFFSET 0) AS f
WHERE f.status = 'failed' GROUP BY 1, 2 ORDER BY n DESC LIMIT 100
"""
#: The oldest of what moves through the stages by itself: due for long, or delivered again and again.
STUCK = """
SELECT s.panda_id, s.stage, s.due_at, s.deliveries, s.tries, s.error, j.status, j.owner, j.computing_site, j.changed_at
FROM (
    (SELECT panda_id, stage, due_at, deliveries, tries, error FROM job_due WHERE waits_for IS NULL AND final
        ORDER BY due_at LIMIT 200)
    UNION ALL
    (SELECT panda_id, stage, due_at, deliveries, tries, error FROM job_due WHERE waits_for IS NULL AND NOT final
        ORDER BY due_at LIMIT 200)) AS s
CROSS JOIN LATERAL (SELECT status, owner, computing_site, changed_at FROM jobs
    WHERE panda_id = s.panda_id OFFSET 0) AS j
WHERE s.deliveries > 2 OR s.tries > 0 OR s.due_at < (SELECT panda_now()) - interval '2 minutes'
ORDER BY s.due_at LIMIT 50
"""
#: Waits whose deadline passed and that nobody handled: the sweeper is behind, or a handler fails.
LATE = """
SELECT panda_id, stage, waits_for, due_at, tries, error FROM job_due
WHERE waits_for IS NOT NULL AND due_at < (SELECT panda_now()) - interval '1 minute' ORDER BY due_at LIMIT 50
"""
KILLS = """
SELECT j.panda_id, j.status, j.owner, j.pilot_id, j.kill_requested_at, j.kill_delivered_at, j.kill_by
FROM (SELECT panda_id FROM leases ORDER BY panda_id LIMIT 5000) AS l
CROSS JOIN LATERAL (SELECT panda_id, status, owner, pilot_id, kill_requested_at, kill_delivered_at, kill_by FROM jobs
    WHERE panda_id = l.panda_id OFFSET 0) AS j
WHERE j.kill_requested_at < (SELECT panda_now()) - interval '5 minutes' LIMIT 50
"""
TICKS = """
SELECT name, last_run_at, extract(epoch FROM panda_now() - last_run_at)::float8 AS ago_s FROM tick_leases ORDER BY name
LIMIT 100
"""
STAGES = """
SELECT stage, sum(n)::bigint AS n, sum(n_failed)::bigint AS n_failed,
    sum(busy_ms)::float8 / nullif(sum(n), 0) AS mean_ms, max(max_ms) AS max_ms
FROM stage_runs WHERE minute > (SELECT panda_now()) - interval '1 hour' GROUP BY stage
"""
OLDEST = """
SELECT extract(epoch FROM panda_now() - (SELECT due_at FROM job_due WHERE waits_for IS NULL AND final
        ORDER BY due_at LIMIT 1))::float8 AS final_s,
    extract(epoch FROM panda_now() - (SELECT due_at FROM job_due WHERE waits_for IS NULL AND NOT final
        ORDER BY due_at LIMIT 1))::float8 AS stages_s
"""


#: Stages in the order of the chain.
ORDER = {str(stage): nr for nr, stage in enumerate(Stage)}


class Admin(Page):
    """/admin"""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        check_words(req)
        policy.require(session_of(req).identity, Action.READ_AUDIT)
        reader, memory = self._parts.reader, self._parts.memory
        usual = memory.of("usual stays", lambda: reader.block(stuck.usual).value or {}, stuck.USUAL_FOR_S, 600.0)
        data = {
            "failed": reader.block(lambda c: facts(c, FAILED, {"look_at": LOOK_AT})),
            "stuck": reader.block(lambda c: facts(c, STUCK)),
            "late": reader.block(lambda c: facts(c, LATE)),
            "kills": reader.block(lambda c: facts(c, KILLS)),
            "queues": reader.block(lambda c: [q for q in facts(c, queries.QUEUES) if q["status"] != "online"]),
            "ticks": reader.block(lambda c: facts(c, TICKS)),
            "longer": reader.block(lambda c: stuck.longer(c, usual)),
            "pauses": reader.block(lambda c: [pause._asdict() for pause in switches.current(c)]),
        }
        self._answer(req, resp, "admin.html", data, self._now(), csv="failed", query_of=query_of, look_at=LOOK_AT,
                     meaning=codes.meaning)  # fmt: skip


def query_of(row: Facts) -> str:
    """The filter that finds what a row of failures counts."""
    words = ["status:failed"]
    if row["failed_stage"]:
        words.append(f"failed_stage:{row['failed_stage']}")
    if row["error_code"]:
        words.append(f'error:"{row["error_code"]}"')
    return urlencode({"q": " ".join(words)})


class CelerySummary(Page):
    """/celery"""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        check_words(req)
        reader = self._parts.reader
        found = reader.block(lambda c: sorted(facts(c, STAGES), key=lambda row: ORDER.get(row["stage"], len(ORDER))))
        workers = [
            {"name": worker.name, "is_alive": worker.is_alive, "n_active": worker.n_active}
            for worker in self._parts.celery.workers()
        ]
        data = {
            "workers": workers, "stages": found, "lanes": self._parts.health.lanes(),
            "oldest": reader.block(lambda c: facts(c, OLDEST)[0]), "ticks": reader.block(lambda c: facts(c, TICKS)),
        }  # fmt: skip
        self._answer(req, resp, "celery.html", data, self._now(), csv="workers")


AUDITED = Listing(
    AUDIT, "/audit", "deeds", "panda audit-log",
    "who:olga action:retry target:job* at:24h role:operator outcome:nothing request:3f*",
)  # fmt: skip


class Audit(ListPage):
    """/audit?q="""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        policy.require(session_of(req).identity, Action.READ_AUDIT)
        asked = ask(req, AUDITED, tables.COLUMNS["audit.html"])
        self._list(req, resp, "audit.html", asked, asked.expression)


class Help(Page):
    """/help: keys, filters, and what the words mean."""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        self._answer(req, resp, "help.html", {}, self._now(), topics="")
