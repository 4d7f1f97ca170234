"""The auditor finds what it looks for: each invariant is broken by hand, and the row that breaks it is named."""

import zlib
from contextlib import contextmanager
from pathlib import Path

import pytest

from panda.db.session import roll_back, rows, run
from panda.dispatcher.words import OutputReport
from panda.jobs import audit, kill
from panda.jobs.spool import Spool

#: By invariant: statements that break it. `finished`, `failed`, `running`, `ready` and `due` are PandaIDs.
BREACHES: dict[str, list[str]] = {
    "I1": [
        "UPDATE jobsets SET n_open = n_open - 1, n_finished = n_finished + 1 WHERE jobset_id = %(open_set)s",
        "UPDATE jobsets SET n_failed = n_failed - 1, n_cancelled = n_cancelled + 1 WHERE n_failed > 0",
        "DELETE FROM jobs_archive WHERE panda_id = %(finished)s",
        "DELETE FROM jobs WHERE panda_id = %(ready)s",
    ],
    "I2": [
        "INSERT INTO jobs_archive SELECT *, panda_now() FROM jobs WHERE panda_id = %(running)s",
        "UPDATE jobs_archive SET status = 'running' WHERE panda_id = %(finished)s",
    ],
    "I3": [
        "INSERT INTO job_events (panda_id, at, was, now, attempt_nr, by)"
        " VALUES (%(finished)s, panda_now(), 'finished', 'running', 1, 'nobody')",
        "DELETE FROM job_events WHERE panda_id = %(running)s AND now = 'activated'",
        "UPDATE job_events SET at = at - interval '1 hour' WHERE panda_id = %(running)s AND now = 'running'",
    ],
    "I3b": ["UPDATE jobs SET status = 'assigned' WHERE panda_id = %(ready)s"],
    "I4": [
        "DELETE FROM leases WHERE panda_id = %(running)s",
        "UPDATE leases SET attempt_nr = 2 WHERE panda_id = %(running)s",
        "INSERT INTO leases SELECT %(ready)s, attempt_nr, token_hash, pilot_id, lease_until, reported_at FROM leases",
    ],
    "I5": [
        "UPDATE attempts SET attempt_nr = 2 WHERE panda_id = %(finished)s",
        "UPDATE jobs SET max_attempts = 0 WHERE panda_id = %(failed)s",
    ],
    "I6": [
        "UPDATE attempts SET outcome = 'finished' WHERE panda_id = %(failed)s",
        "UPDATE jobs SET attempt_nr = 2 WHERE panda_id = %(failed)s",
    ],
    "I7": [
        "UPDATE job_files SET status = 'written' WHERE panda_id = %(finished)s",
        "UPDATE job_files SET status = 'registered' WHERE panda_id = %(running)s",
    ],
    "I8": ["UPDATE datasets SET n_files = n_files + 1", "UPDATE files SET size_bytes = size_bytes + 1"],
    "I8b": ["UPDATE storage_use_deltas SET n_files = n_files + 1", "DELETE FROM replicas"],
    "I9": [
        "UPDATE files SET attempt_nr = 2 WHERE panda_id = %(finished)s",
        "UPDATE files SET attempt_nr = 0 WHERE panda_id = %(finished)s",
    ],
    "I10": [
        "DELETE FROM job_due WHERE panda_id = %(due)s",
        "UPDATE job_due SET due_at = panda_now() - interval '1 hour' WHERE panda_id = %(running)s",
        "DELETE FROM jobs WHERE panda_id = %(due)s",
    ],
    "I10b": ["UPDATE job_due SET waits_for = 'data', missing = 1 WHERE panda_id = %(ready)s"],
    "I11": ["UPDATE job_due SET stage = 'archive' WHERE panda_id = %(running)s"],
    "I11b": [
        "DELETE FROM ready WHERE panda_id = %(ready)s",
        "UPDATE ready SET panda_id = %(running)s WHERE panda_id = %(ready)s",
    ],
    "I12": ["UPDATE jobs SET kill_requested_at = panda_now() - interval '11 minutes' WHERE panda_id = %(running)s"],
    "I13": ["UPDATE usage_deltas SET n_finished = n_finished + 1"],
    "I13b": ["INSERT INTO job_count_deltas (status, queue, n) VALUES ('running', 'NORTH-Q', 1)"],
    "I14": [
        "UPDATE attempts SET wall_s = -1 WHERE panda_id = %(finished)s",
        "UPDATE attempts SET ended_at = created_at - interval '1 second' WHERE panda_id = %(finished)s",
        "INSERT INTO attempts (panda_id, attempt_nr, from_stage, created_at, ended_at, outcome)"
        " SELECT panda_id, 2, 'broker', created_at, ended_at, outcome FROM attempts WHERE panda_id = %(failed)s",
    ],
    "I15": [
        "UPDATE jobsets SET first_panda_id = first_panda_id - 1 WHERE jobset_id = %(open_set)s",
        "UPDATE jobs SET jobset_id = 1 WHERE panda_id = %(ready)s",
        "UPDATE jobsets SET n_jobs = 1000, n_open = 1000 WHERE first_panda_id = %(due)s",
    ],
    "I16": [
        "UPDATE jobs SET owner = 'mallory' WHERE panda_id = %(ready)s",
        "UPDATE datasets SET owner = 'mallory'",
    ],
    "I17": [
        "INSERT INTO job_logs (panda_id, attempt_nr, name, size_bytes, changed_at)"
        " VALUES (%(running)s, 2, 'payload.stdout', 1, panda_now())",
        "INSERT INTO job_logs (panda_id, attempt_nr, name, size_bytes, changed_at)"
        " VALUES (987654321, 1, 'payload.stdout', 1, panda_now())",
    ],
    "I18": [
        "UPDATE queues SET status_reason = 'somebody closed it'",
        "UPDATE shares SET weight = weight + 1",
        "INSERT INTO users (name, roles, created_at, banned_at) VALUES ('eve', '{user}', panda_now(), panda_now())",
        "INSERT INTO users (name, roles, created_at) VALUES ('eve', '{user}', panda_now());"
        " INSERT INTO tokens (token_hash, owner, label, roles, created_at, revoked_at)"
        " VALUES ('x', 'eve', '', '{user}', panda_now(), panda_now())",
        "INSERT INTO bulk_actions (action, said, filter, asked_by, reason, status, token_hash, after_panda_id,"
        " created_at, confirmed_at) VALUES ('cancel', '', '', 'eve', '', 'running', 'x', 0, panda_now(), panda_now())",
        "INSERT INTO incidents (component, level, key, message, first_at, last_at, closed_at, closed_by)"
        " VALUES ('test', 'error', 'k', 'm', panda_now(), panda_now(), panda_now(), 'eve')",
    ],
}  # fmt: skip


@pytest.fixture
def played(world):
    """A job of each kind; the world is broken in transactions that are rolled back."""
    document = {"jobs": [{"command": ["true"], "outputs": ["out.txt"]}], "brokerage": {"sites": ["NORTH"]}}
    named = {}
    for name in ("finished", "failed", "running"):
        named[name] = world.submit(**document).first_panda_id
        world.settle()
        [job] = world.acquire(queue="NORTH-Q", pilot_id=name)
        world.report(job, "running")
        if name == "finished":
            place = Path(job.outputs[0].url.removeprefix("file://"))
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(b"words")
            output = OutputReport(lfn="out.txt", size_bytes=5, adler32=f"{zlib.adler32(b'words'):08x}")
            world.report(job, "finished", outputs=[output])
        elif name == "failed":
            world.fail(job)
        world.settle()
    accepted = world.submit(jobs=[{"command": ["true"]}])
    named["ready"] = accepted.first_panda_id
    world.settle()
    named["due"] = world.jobs()[0]
    world.turn_expansion()
    named["open_set"] = accepted.jobset_id
    return named


@contextmanager
def broken(world, sql, values):
    """A transaction in which this was done; nothing of it stays."""
    with world.begin() as connection:
        for statement in sql.split(";"):
            run(connection, statement, values)
        yield connection
        roll_back(connection)


def test_each_breach_is_found_and_its_rows_are_named(world, played):
    missed = []
    for name, sql in [(name, sql) for name, many in BREACHES.items() for sql in many]:
        with broken(world, sql, played) as connection:
            found = audit.audit(connection, everything=True, only=[name])
        if [each.invariant for each in found] != [name] or not 1 <= len(found[0].rows) <= 20:
            missed.append((name, sql, found))

    assert missed == []


def test_every_invariant_is_broken_here_once():
    assert audit.INVARIANTS.keys() == BREACHES.keys()


def test_a_finding_becomes_an_incident_with_its_rows_and_the_same_one_is_folded(world, played):

    with broken(world, BREACHES["I12"][0], played) as connection:
        for _ in range(2):
            audit.report(connection, audit.audit(connection))
        found = rows(connection, "SELECT component, level, key, n, context FROM incidents")

    assert [(row.component, row.level, row.key, row.n) for row in found] == [("audit", "error", "audit:I12", 2)]
    assert found[0].context["rows"][0]["panda_id"] == played["running"]


def test_the_clock_looks_at_the_newest_jobs_and_a_person_at_all(world, played, monkeypatch):
    monkeypatch.setattr(audit, "RECENT_JOBS", 1)

    with broken(world, BREACHES["I14"][0], played) as connection:
        lately, ever = audit.audit(connection), audit.audit(connection, everything=True)

    assert ([each.invariant for each in lately], [each.invariant for each in ever]) == ([], ["I14"])


def test_a_log_that_is_shorter_than_its_row_says_is_found(world, tmp_path):
    [panda_id] = world.jobs()
    world.settle()
    [job] = world.acquire()
    spool = Spool(tmp_path)
    with world.begin() as connection:
        for name in ("payload.stdout", "payload.stderr"):
            spool.append_log(connection, panda_id, 1, name, token=job.token, offset=0, chunk=b"0123456789")
    [cut] = (tmp_path / "spool").rglob("*.payload.stdout")
    cut.write_bytes(b"01234")

    with world.begin() as connection:
        assert spool.short_logs(connection) == [
            {"panda_id": panda_id, "attempt_nr": 1, "name": "payload.stdout", "size_bytes": 10, "there": 5}
        ]
    world.report(job, "finished")
    world.settle()


def test_an_audit_of_a_system_at_work_finds_nothing(world):
    """Every invariant holds at every commit, also between two stages and while a kill is on its way."""
    ids = world.jobs(3)
    seen = []

    def look():
        seen.append(world.findings())

    look()
    for _ in range(4):
        world.turn()
        look()
    [first, second, _] = world.acquire(3)
    look()
    with world.begin() as connection:
        kill.request(connection, [first.panda_id], by="alice", reason="")
    look()
    world.report(first, "cancelled")
    look()
    world.fail(second)
    look()

    assert seen == [[]] * len(seen)
    assert len(ids) == 3
