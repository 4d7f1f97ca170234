"""Every guard is shown to guard: for each law, a change to the code under which a test must fail.

`make guards` applies each change to a copy of the tree and runs the tests named; a change that they survive
is an error. The table is also docs/reference/guards.md.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "guards.md"
COPIED = ("panda", "workflows", "pilot", "monitoring", "config", "tests", "docs", "Procfile", "pyproject.toml")


@dataclass(frozen=True)
class Mutation:
    """`old` becomes `new` in `file`; then `test` (a -k expression for `where`) must fail."""

    law: str
    guard: str
    file: str
    old: str
    new: str
    test: str
    where: str = "tests/integration/engine"


MUTATIONS = (
    Mutation("1", "runnable and waiting are two things", "panda/jobs/due.py",
             "AND stage = %(stage)s::text AND waits_for IS NULL\"", "AND stage = %(stage)s::text\"",
             "late_activate_message"),
    Mutation("1", "a late wait runs its own handler, and only that", "panda/jobs/sweeping.py",
             "                HANDLERS[wait](connection, mine, settings)", "                due.wake(connection, mine)",
             "silent_pilot or no_pilot_takes"),
    Mutation("2", "a stage takes only rows that are due for it", "panda/jobs/due.py",
             "AND stage = %(stage)s::text AND waits_for IS NULL\"", "AND waits_for IS NULL\"",
             "late_dispatch_message_finds_nothing"),
    Mutation("2", "a move changes only rows that still have the status seen", "panda/jobs/transitions.py",
             "WHERE panda_id = ANY(%(panda_ids)s) AND status = %(was)s::text", "WHERE panda_id = ANY(%(panda_ids)s)",
             "move_changes_only"),
    Mutation("3", "the fast road writes stage alone", "panda/jobs/due.py",
             "TAKE = f\"UPDATE job_due SET stage = %(then)s::text WHERE",
             "TAKE = f\"UPDATE job_due SET stage = %(then)s::text, due_at = panda_now(), deliveries = 0 WHERE",
             "fast_road_does_not_make_its_jobs_due_again"),
    Mutation("4", "what was sent is not due before the resend time", "panda/jobs/relaying.py",
             "make_interval(secs => %(resend_s)s)", "make_interval(secs => 0 * %(resend_s)s)",
             "sent_is_not_due_before or two_relays"),
    Mutation("4", "Redis erased makes everything sent due at once", "panda/jobs/relaying.py",
             "WHERE waits_for IS NULL AND due_at > (SELECT panda_now())", "WHERE false AND due_at > (SELECT panda_now())",
             "redis_erased_between_send_and_run"),
    Mutation("5", "a dispatcher never waits for a job's mutex", "panda/dispatcher/matching.py",
             "ORDER BY panda_id FOR UPDATE SKIP LOCKED)", "ORDER BY panda_id FOR UPDATE)",
             "dispatcher_leaves_a_job_that_a_kill_holds"),
    Mutation("5", "two dispatchers skip each other's rows", "panda/dispatcher/matching.py",
             "ORDER BY rank LIMIT s.most FOR UPDATE SKIP LOCKED) r", "ORDER BY rank LIMIT s.most) r",
             "while_another_one_holds"),
    Mutation("5", "two relays skip each other's rows", "panda/jobs/relaying.py",
             "ORDER BY due_at LIMIT %(n)s FOR UPDATE SKIP LOCKED", "ORDER BY due_at LIMIT %(n)s",
             "two_relays"),
    Mutation("6", "the last job of a set ends it, exactly once", "panda/jobs/jobsets.py",
             "ended = sorted(row.jobset_id for row in done if row.n_open == 0)", "ended: list[int] = []",
             "child_set_waits_for_its_parent"),
    Mutation("6", "the last transfer of a job wakes it", "panda/dataservice/waiting.py",
             "SET missing = missing - 1 WHERE", "SET missing = missing - 0 WHERE", "", "tests/integration/dataservice"),
    Mutation("7", "what is promised is committed synchronously", "panda/jobs/retry.py",
             "    locked = due.lock(connection, panda_ids)",
             "    run(connection, 'SET LOCAL synchronous_commit = off')\n    locked = due.lock(connection, panda_ids)",
             "promised_to_a_client"),
    Mutation("8", "no transaction runs for long", "panda/db/session.py",
             "-c statement_timeout={STATEMENT_TIMEOUT_S * 1000} ", "", "transaction_cannot_run_for_long"),
    Mutation("9", "a group halves with each delivery", "panda/jobs/relaying.py",
             "engine.group_jobs >> (deliveries - 1)", "engine.group_jobs >> 0", "group_halves"),
    Mutation("9", "a job that never gets anywhere fails as poison", "panda/jobs/relaying.py",
             "if row.deliveries > engine.max_deliveries:", "if False:", "ends_its_worker_each_time"),
    Mutation("9", "a set that raises is bisected", "workflows/stage.py",
             "        half = len(panda_ids) // 2", "        return []\n        half = len(panda_ids) // 2",
             "makes_a_stage_raise"),
    Mutation("9", "a delivery that reached nobody does not count", "panda/jobs/relaying.py",
             "deliveries = deliveries - 1, sent = false", "deliveries = deliveries, sent = false",
             "restarts_poisons or again_and_again"),
    Mutation("9", "what has begun stays with the worker that has it", "panda/jobs/relaying.py",
             "        AND panda_id <> ALL(ARRAY(SELECT unnest(panda_ids) FROM stage_starts))\n", "",
             "has_begun_at_one_worker or kills_its_whole_worker"),
    Mutation("9", "what a stage backs off from keeps its count", "panda/jobs/due.py",
             "error = %(error)s, sent = false,", "error = %(error)s,", "backs_off_does_not_get"),
    Mutation("9", "a wait whose handler raises is tried in halves", "panda/jobs/sweeping.py",
             "    half = len(panda_ids) // 2\n", "    return 0\n    half = len(panda_ids) // 2\n",
             "cannot_be_handled"),
    Mutation("9", "a step of the relay that raises stops no other", "workflows/relay.py",
             "            if _is_away(problem):\n                raise\n            rest_s", "            raise\n            rest_s",
             "step_of_the_relay"),
    Mutation("9", "a payload that ends each of its pilots is told so", "panda/jobs/sweeping.py",
             "if silent is None or silent.max_attempts < 2:", "if True:", "ends_its_pilot_each_time or attempt_budget"),
    Mutation("12", "a kill is confirmed by its pilot alone", "panda/jobs/sweeping.py",
             "    ending.cancel_many(connection, killed, by=\"sweeper\"",
             "    run(connection, \"UPDATE jobs SET kill_confirmed_at = panda_now() WHERE panda_id = ANY(%(p)s)\", {\"p\": killed})\n"
             "    ending.cancel_many(connection, killed, by=\"sweeper\"", "pilot_is_silent_ends_the_job"),
    Mutation("13", "a report on an attempt that nobody had is fenced", "panda/dispatcher/reports.py",
             "        AND j.status IN ('holding', 'transferring', 'finished', 'failed', 'cancelled', 'closed') THEN",
             "        AND j.status NOT IN ('sent', 'starting', 'running') THEN", "restored_from_a_backup", "tests/faults"),
    Mutation("13", "numbers handed out since a backup are never handed out again", "panda/jobs/restoring.py",
             "last_value + %(jobs)s", "last_value + 0 * %(jobs)s", "restored_from_a_backup", "tests/faults"),
    Mutation("10", "a burst is spread in virtual time", "panda/jobs/expansion.py",
             "BURST_STEP_S = 0.001", "BURST_STEP_S = 0.0", "set_of_one_does_not_wait"),
    Mutation("10", "stage_out and archive have a lane that goes first", "panda/jobs/relaying.py",
             "CLAIM_FINAL = CLAIM.format(lane=\"final\")", "CLAIM_FINAL = CLAIM.format(lane=\"true\")",
             "bring_back_goes_before"),
    Mutation("11", "rank is priority and waiting", "panda/jobs/ready.py",
             "- priority::bigint * {PRIORITY_MS}", "- 0 * priority::bigint * {PRIORITY_MS}", "priority_goes_first"),
    Mutation("11", "only shapes that fit are asked for", "panda/dispatcher/matching.py",
             "        if why_not is None:", "        if True:", "gets_only_what_fits"),
    Mutation("11", "the share that is furthest below its part goes first", "panda/jobs/share_tree.py",
             "return [(load.get(key, 0) / self._weight(key), ", "return [(0.0, ", "60_30_10"),
    Mutation("11", "what was handed out counts before the next count, by all dispatchers", "panda/dispatcher/shares.py",
             "self._tree.add(self._load, share, cores * self._n_dealers)", "self._tree.add(self._load, share, cores)",
             "60_30_10"),
    Mutation("12", "a lease that is alive re-arms its wait", "panda/jobs/sweeping.py",
             "AND l.lease_until > panda_now()", "AND false", "heartbeat_keeps_a_lease"),
    Mutation("12", "a report needs the token of its lease", "panda/dispatcher/reports.py",
             " AND l.token_hash = s.token_hash\n    RETURNING l.panda_id)", "\n    RETURNING l.panda_id)",
             "does_not_hold_the_lease"),
    Mutation("12", "whatever ends an attempt deletes its lease", "panda/jobs/ending.py",
             "    run(connection, UNLEASE, {\"panda_ids\": list(panda_ids)})\n", "", "silent_pilot or attempt_budget"),
    Mutation("12", "a kill belongs to one attempt", "panda/jobs/ending.py",
             "    kill_requested_at = NULL, kill_delivered_at = NULL, kill_confirmed_at = NULL, kill_by = NULL, kill_reason = NULL",
             "    kill_delivered_at = NULL", "kill_meant_for_one_attempt"),
    Mutation("13", "a late report finds its job in the archive", "panda/dispatcher/reports.py",
             "    WHEN a.attempt_nr = s.attempt_nr THEN 'already_done'\n", "", "same_final_report_twice"),
    Mutation("14", "counters are folded deltas", "panda/jobs/counters.py",
             "WITH gone AS (DELETE FROM job_count_deltas RETURNING status, queue, n)",
             "WITH gone AS (SELECT status, queue, n FROM job_count_deltas)", "counters_are_the_truth"),
    Mutation("15", "a submission wakes the relay", "panda/jobs/submission.py",
             "    run(connection, f\"NOTIFY {CHANNEL}\")\n", "", "submission_wakes"),
    Mutation("16", "one clock: the database's", "panda/jobs/sweeping.py",
             "due_at <= (SELECT panda_now())", "due_at <= now()", "silent_pilot or one_clock",
             "tests/integration/engine tests/architecture"),
    Mutation("17", "a stage owns its transaction", "workflows/stage.py",
             "        survivors = cast(list[int], self.run(connection, mine, self.request.root_id, *found))",
             "        survivors = cast(list[int], self.run(connection, mine, self.request.root_id, *found))\n"
             "        run(connection, \"COMMIT\")\n        raise RuntimeError('after the commit')",
             "stage_that_raises or seven_stages"),
    Mutation("18", "Celery carries nothing but ids", "workflows/transfer.py",
             "def _failure(", "@app.task(name='panda.anything')\ndef anything() -> None: ...\n\n\ndef _failure(",
             "celery_knows"),
)  # fmt: skip


def survives(mutation: Mutation) -> bool:
    """Whether the tests pass in spite of the change.

    Raises:
        ValueError: the code no longer has the guard in these words.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in COPIED:
            place = ROOT / name
            (shutil.copytree if place.is_dir() else shutil.copy)(place, copy / name)
        file = copy / mutation.file
        text = file.read_text(encoding="utf-8")
        if mutation.old not in text:
            raise ValueError(f"{mutation.file} does not hold {mutation.old!r}")
        file.write_text(text.replace(mutation.old, mutation.new), encoding="utf-8")
        chosen = ["-k", mutation.test] if mutation.test else []
        command = [sys.executable, "-m", "pytest", "-q", "-x", *mutation.where.split(), *chosen]
        # The processes that a test starts must be the copy's, too.
        # A file that was changed twice in a second would be taken from its old bytecode.
        environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
        if not re.search(r"\d+ (passed|failed|error)", done.stdout):
            raise ValueError(f"no test ran for {mutation.guard!r}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done.returncode == 0


def page() -> str:
    """docs/reference/guards.md"""
    lines = ["# Guards and the tests that hold them", "",
             "Made from `tests/mutation/guards.py`. `make guards` removes each guard in a copy of the tree and",
             "demands that a test fails.", "", "| law | guard | in | tests (`-k`) |", "|---|---|---|---|"]  # fmt: skip
    for each in MUTATIONS:
        tests = each.test.replace(" or ", ", ") or "all"
        lines.append(f"| {each.law} | {each.guard} | `{each.file}` | {tests} in `{each.where}` |")
    return "\n".join(lines) + "\n"


def main() -> int:
    if "--page" in sys.argv:
        PAGE.write_text(page(), encoding="utf-8")
        return 0
    wanted = [each for each in MUTATIONS if not sys.argv[1:] or each.law in sys.argv[1:]]
    failed = 0
    for each in wanted:
        try:
            verdict = "SURVIVED" if survives(each) else "caught"
        except ValueError as problem:
            verdict = f"BROKEN: {problem}"
        failed += verdict != "caught"
        print(f"law {each.law:>2}  {each.guard:60} {verdict}", flush=True)
    print(f"{len(wanted) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
