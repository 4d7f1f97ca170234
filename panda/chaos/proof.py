"""After the faults: does everything that was promised hold? Reads the database and what the lab remembers."""

from dataclasses import dataclass, field
from typing import Any

from panda.chaos.load import Accepted
from panda.chaos.pilots import Seen
from panda.chaos.system import System

OPEN = "SELECT coalesce(sum(n_open), 0)::int AS n FROM jobsets"
STATUSES = """
SELECT status, count(*)::int AS n FROM (SELECT status FROM jobs UNION ALL SELECT status FROM jobs_archive) both_places
GROUP BY status ORDER BY status
"""
SETS = "SELECT jobset_id, first_panda_id, n_jobs, idempotency_key FROM jobsets"
LOST = """
SELECT s.jobset_id, s.n_jobs, count(j.panda_id)::int AS there FROM jobsets s
LEFT JOIN (SELECT panda_id, jobset_id FROM jobs UNION ALL SELECT panda_id, jobset_id FROM jobs_archive) j
    USING (jobset_id)
GROUP BY s.jobset_id HAVING count(j.panda_id) <> s.n_jobs
"""
DOUBLE_FINALS = """
SELECT panda_id, attempt_nr, count(*)::int AS n FROM job_events
WHERE now IN ('finished', 'failed', 'cancelled', 'closed')
GROUP BY panda_id, attempt_nr HAVING count(*) > 1
"""
ENDS = "SELECT panda_id, attempt_nr, outcome FROM attempts"
#: The lab's clock may jump by an hour while a job is under way; that is no delay.
TIMES = """
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY s) AS p50, percentile_cont(0.95) WITHIN GROUP (ORDER BY s) AS p95,
    max(s) AS longest
FROM (SELECT mod(extract(epoch FROM ended_at - created_at), 3600)::float AS s
    FROM jobs_archive WHERE status = 'finished') times
"""
WHY_OPEN = """
SELECT j.panda_id, j.status, j.attempt_nr, d.stage, d.waits_for, d.due_at::text, d.deliveries, d.tries, d.error
FROM jobs j LEFT JOIN job_due d USING (panda_id) WHERE j.status NOT IN ('finished', 'failed', 'cancelled', 'closed')
ORDER BY j.panda_id LIMIT 10
"""


@dataclass
class Proof:
    """What was found. Every list must be empty."""

    open_jobs: list[Any] = field(default_factory=list)
    lost_sets: list[Any] = field(default_factory=list)
    lost_jobs: list[Any] = field(default_factory=list)
    double_finals: list[Any] = field(default_factory=list)
    forgotten_ends: list[Any] = field(default_factory=list)
    attempts_given_twice: list[Any] = field(default_factory=list)
    changed_ids: list[Any] = field(default_factory=list)
    invariants: list[Any] = field(default_factory=list)
    faults_that_found: list[Any] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        return not any(vars(self).values())


def prove(system: System, accepted: list[Accepted], seen: Seen, changed_ids: list[str]) -> Proof:
    """Look at everything once the system is at rest."""
    proof = Proof(changed_ids=list(changed_ids), attempts_given_twice=list(seen.twice))
    proof.open_jobs = [row._asdict() for row in system.query(WHY_OPEN)]
    there = {row.jobset_id: row for row in system.query(SETS)}
    for each in accepted:
        row = there.get(each.jobset_id)
        if row is None or (row.first_panda_id, row.n_jobs, row.idempotency_key) != (
            each.first_panda_id, each.n_jobs, each.key,
        ):  # fmt: skip
            proof.lost_sets.append(vars(each))
    proof.lost_jobs = [row._asdict() for row in system.query(LOST)]
    proof.double_finals = [row._asdict() for row in system.query(DOUBLE_FINALS)]
    outcomes = {(row.panda_id, row.attempt_nr): row.outcome for row in system.query(ENDS)}
    for key, word in seen.ended.items():
        if outcomes.get(key) not in (word, "cancelled"):  # a kill may come between a report and its settling
            proof.forgotten_ends.append({"attempt": key, "taken": word, "stands": outcomes.get(key)})
    proof.invariants = [
        {"invariant": each.invariant, "sentence": each.sentence, "rows": each.rows} for each in system.findings()
    ]
    return proof
