"""Outputs that count for nothing stay for a while, and go when no retry can take them up any more."""

from pathlib import Path

from panda.dataservice import deletion
from panda.db.session import run
from panda.dispatcher.words import OutputReport
from panda.jobs import quarantine, retry
from panda.states import Stage

DAY_S = 86_400.0
WRITTEN = OutputReport(lfn="out.txt", size_bytes=6, adler32="092202a0")


def submit(world, n=1):
    accepted = world.submit(jobs=[{"command": ["true"], "outputs": ["out.txt"], "name": f"j{i}"} for i in range(n)])
    world.settle()
    return accepted.first_panda_id


def write(job):
    path = Path(job.outputs[0].url.removeprefix("file://"))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"result")
    return path


def fail_once(world):
    """A job whose first attempt wrote, and failed: the place of what it wrote."""
    [job] = world.acquire()
    path = write(job)
    world.fail(job)
    return path


def try_again(world, panda_id, stage=None):
    with world.begin() as connection:
        assert retry.retry(connection, [panda_id], stage=stage, by="alice", reason="").retried == [panda_id]
    world.settle()


def let_go(world, **words):
    n = quarantine.let_go(world.begin, **{"stay_s": 30 * DAY_S, **words})
    while deletion.carry_out(world.begin):
        pass
    return n


def listed(world):
    return [(row.panda_id, row.attempt_nr) for row in world.query("SELECT * FROM quarantine ORDER BY panda_id")]


def test_what_a_failed_attempt_wrote_is_removed_when_it_is_old_and_what_is_published_is_not(world):
    panda_id = submit(world)
    first = fail_once(world)
    try_again(world, panda_id)
    [job] = world.acquire()
    second = write(job)
    world.report(job, "finished", outputs=[WRITTEN])
    world.settle()
    assert world.status(panda_id) == "finished"

    assert (let_go(world), first.exists()) == (0, True)
    assert listed(world) == [(panda_id, 1)]
    world.pass_time(31 * DAY_S)
    assert (let_go(world), let_go(world)) == (1, 0)

    assert (first.exists(), second.exists()) == (False, True)
    assert listed(world) == []
    assert world.query("SELECT * FROM deletions") == []


def test_while_its_job_can_be_retried_it_stays(world):
    panda_id = submit(world)
    path = fail_once(world)
    assert (let_go(world, stay_s=0), path.exists()) == (0, True)

    world.pass_time(73 * 3600)
    world.sweep()
    world.settle()
    assert world.job(panda_id)["archived"]
    assert (let_go(world, stay_s=0), path.exists()) == (1, False)


def test_what_a_retry_from_stage_out_published_after_all_is_kept(world):
    panda_id = submit(world)
    [job] = world.acquire()
    world.report(job, "finished", outputs=[WRITTEN])  # it never arrived
    world.settle()
    assert world.status(panda_id) == "failed"
    path = write(job)
    try_again(world, panda_id, stage=Stage.STAGE_OUT)

    assert world.status(panda_id) == "finished"
    assert (panda_id, job.attempt_nr) in listed(world)
    let_go(world, stay_s=0)
    assert (listed(world), path.exists()) == ([], True)


def test_many_are_gone_through_past_those_that_stay(world):
    submit(world)
    fail_once(world)
    with world.begin() as connection:
        sql = (
            "INSERT INTO quarantine (panda_id, attempt_nr, lfn, path, storage, reason, at)"
            " SELECT 900 + i, 1, 'x', %(path)s, %(storage)s, '', panda_now() - interval '40 days'"
            " FROM generate_series(%(first)s::int, %(first)s + 2) AS i"
        )
        run(connection, sql, {"first": 0, "path": "of/an/earlier/release", "storage": None})
        run(connection, sql, {"first": 10, "path": "", "storage": None})
        run(connection, sql, {"first": 20, "path": "somewhere", "storage": "NORTH-DISK"})
        run(connection, sql, {"first": 30, "path": "somewhere", "storage": "GONE-DISK"})

    assert let_go(world, stay_s=0, chunk=2) == 3
    assert [panda_id for panda_id, _ in listed(world)][1:] == [900, 901, 902]


def test_what_would_go_is_counted_and_named_before(world):
    submit(world)
    fail_once(world)
    with world.begin() as connection:
        assert quarantine.old(connection, stay_s=0) == (1, [WRITTEN.lfn])
        assert quarantine.old(connection, stay_s=DAY_S) == (0, [])
