"""Two at once: the interleavings that lose or double jobs in systems of this kind.

Each is played with two real transactions; which one waits and which one goes on is the database's doing.
"""

import threading
from concurrent.futures import ThreadPoolExecutor

from panda.db.session import commit
from panda.dispatcher import dispatch, matching
from panda.dispatcher.words import AcquireRequest
from panda.jobs import due, ending, expansion, kill, relaying, retry, sweeping
from panda.jobs.ending import Failure
from panda.states import Stage


def ask(world, pilot, n=1, queue="NORTH-Q"):
    """A pilot's request for work at one queue."""
    request = AcquireRequest(
        pilot_id=pilot, queue=queue, request_id=f"r-{pilot}", n=n, cores=4, memory_mb=8000, disk_mb=20_000,
        walltime_s=86_400,
    )  # fmt: skip
    return dispatch.acquire(world.begin, request, world.settings).jobs


def together(*calls):
    """Run calls at the same moment; their results."""
    barrier = threading.Barrier(len(calls))

    def at_once(call):
        barrier.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(at_once, call) for call in calls]]


def test_of_two_dispatchers_one_gets_the_job(world):
    world.jobs(1, brokerage={"sites": ["NORTH"]})
    world.settle()
    matching.forget()

    answers = together(*[lambda i=i: ask(world, f"p{i}") for i in range(8)])

    assert sorted(len(jobs) for jobs in answers) == [0] * 7 + [1]


def test_many_dispatchers_share_many_jobs_and_none_is_given_twice(world):
    ids = world.jobs(200, brokerage={"sites": ["NORTH"]})
    world.settle()
    matching.forget()

    answers = together(*[lambda i=i: ask(world, f"p{i}", n=25) for i in range(8)])

    given = [job.panda_id for jobs in answers for job in jobs]
    assert len(given) == len(set(given))
    while rest := ask(world, "last", n=100):
        given += [job.panda_id for job in rest]
        world.query("UPDATE pilots SET last_request_id = NULL RETURNING 1")
    assert sorted(given) == ids


def test_a_dispatcher_leaves_a_job_that_a_kill_holds(world, begin):
    [panda_id] = world.jobs(1, brokerage={"sites": ["NORTH"]})
    world.settle()
    matching.forget()

    with begin() as killer:
        due.lock(killer, [panda_id])  # the kill has the job's mutex and has not decided yet
        assert ask(world, "p1") == []
        kill.request(killer, [panda_id], by="alice", reason="")

    assert world.status(panda_id) == "cancelled"
    assert ask(world, "p2") == []
    assert world.query("SELECT 1 FROM ready") == []


def test_a_stage_finds_nothing_when_its_duplicate_was_first(world):
    [panda_id] = world.jobs()
    world.turn_expansion()

    first, second = together(
        lambda: world.run_stage(Stage.DEFINE, [panda_id]), lambda: world.run_stage(Stage.DEFINE, [panda_id])
    )
    third = world.run_stage(Stage.DEFINE, [panda_id])

    assert sorted([first, second]) == [[], [panda_id]]
    assert third == []
    assert world.moves(panda_id) == ["pending", "defined"]


def test_a_late_message_finds_nothing_while_its_job_waits(world):
    [panda_id] = world.jobs(1, defaults={"memory_mb": 64_000})
    world.settle()  # parked: it waits for a queue, and its stage is broker

    assert world.due(panda_id).stage == "broker"
    assert world.run_stage(Stage.BROKER, [panda_id]) == []
    assert world.moves(panda_id) == ["pending", "defined"]


def test_two_relays_never_send_one_row_twice(world):
    ids = world.jobs(3000)
    world.turn_expansion()

    sent = together(*[lambda: world.claim(final=False) for _ in range(4)])

    given = [panda_id for groups in sent for group in groups for panda_id in group.panda_ids]
    assert len(given) == len(set(given))
    assert set(given) <= set(ids)


def test_a_row_that_was_sent_is_not_due_before_the_resend_time(world):
    world.jobs()
    world.turn_expansion()
    assert world.claim(final=False)

    at_once = world.claim(final=False)
    world.pass_time(world.engine.resend_s + 1)
    later = world.claim(final=False)

    assert at_once == []
    assert [group.panda_ids for group in later] != []


def test_redis_erased_between_send_and_run_costs_nothing_but_time(world, begin):
    [panda_id] = world.jobs()
    world.turn_expansion()
    assert world.claim(final=False)  # sent; and Redis forgets it

    with begin() as connection:
        assert relaying.new_epoch(connection, "another") == 1
    world.settle()

    assert world.status(panda_id) == "activated"


def test_a_group_halves_with_each_delivery(world):
    world.jobs(1000)
    world.turn_expansion()

    sizes = []
    for _ in range(3):
        sizes.append(max(len(group.panda_ids) for group in world.claim(final=False)))
        world.pass_time(world.engine.resend_s + 1)

    assert sizes == [1000, 500, 250]


def test_a_retry_fences_off_the_late_report_of_the_attempt_before(world, begin):
    [panda_id] = world.jobs()
    world.settle()
    [old] = world.acquire()
    with begin() as connection:
        due.lock(connection, [panda_id])
        lost = Failure(panda_id, Stage.DISPATCH, "dispatch:lost_heartbeat", "silent")
        ending.fail_many(connection, [lost], by="test", engine=world.engine)

    with begin() as retrying:
        retry.retry(retrying, [panda_id], stage=None, by="alice", reason="")
        with ThreadPoolExecutor(1) as pool:
            late = pool.submit(world.report, old, "finished")
            # the report waits for the row that the retry holds, and sees what it did
            assert not late.done()
            commit(retrying)
            outcome = late.result().outcome
    world.settle()

    assert outcome == "stale_lease"
    assert world.status(panda_id) == "activated"


def test_a_final_report_and_the_sweeper_settle_an_attempt_once(world, begin):
    [panda_id] = world.jobs()
    world.settle()
    [job] = world.acquire()
    world.report(job, "running")
    world.pass_time(121)

    def sweep():
        return sweeping.sweep(begin, world.settings)

    together(lambda: world.report(job, "finished"), sweep)
    world.settle()

    assert world.status(panda_id) in ("finished", "activated")
    assert world.moves(panda_id).count("finished") <= 1


def test_a_kill_and_a_final_report_at_once_end_in_one_final_state(world, begin):
    [panda_id] = world.jobs()
    world.settle()
    [job] = world.acquire()
    world.report(job, "running")

    def asked():
        with begin() as connection:
            return kill.request(connection, [panda_id], by="alice", reason="")

    together(lambda: world.report(job, "finished"), asked)
    world.settle()

    assert world.status(panda_id) in ("finished", "cancelled")
    assert world.job(panda_id)["archived"]


def test_the_same_final_report_twice_is_settled_once(world):
    [panda_id] = world.jobs()
    world.settle()
    [job] = world.acquire()

    outcomes = together(lambda: world.report(job, "finished"), lambda: world.report(job, "finished"))
    world.settle()
    after_archive = world.report(job, "finished")

    assert sorted(each.outcome for each in outcomes) == ["already_done", "ok"]
    assert after_archive.outcome == "already_done"
    assert world.moves(panda_id).count("finished") == 1


def test_finished_before_running_is_taken_and_the_late_running_changes_nothing(world):
    [panda_id] = world.jobs()
    world.settle()
    [job] = world.acquire()

    world.report(job, "finished")
    late = world.report(job, "running")
    world.settle()

    assert late.outcome == "already_done"
    assert world.status(panda_id) == "finished"


def test_an_answer_that_was_lost_is_given_again_with_new_tokens(world):
    [panda_id] = world.jobs(1, brokerage={"sites": ["NORTH"]})
    world.settle()
    matching.forget()

    [lost] = ask(world, "p1")
    [again] = ask(world, "p1")

    assert (lost.panda_id, again.panda_id) == (panda_id, panda_id)
    assert lost.token != again.token
    assert world.report(lost, "running").outcome == "stale_lease" or world.status(panda_id) == "sent"
    assert world.report(again, "running").outcome == "ok"


def test_a_kill_meant_for_one_attempt_never_hits_the_next(world, begin):
    [panda_id] = world.jobs()
    world.settle()
    [first] = world.acquire()
    world.report(first, "running")
    with begin() as connection:
        kill.request(connection, [panda_id], by="alice", reason="")
    world.fail(first)  # it failed by itself before it heard

    with begin() as connection:
        retry.retry(connection, [panda_id], stage=None, by="alice", reason="")
    world.settle()
    [second] = world.acquire()

    assert world.report(second, "running").command is None


def test_the_last_jobs_of_a_set_end_at_once_and_it_ends_once(world):
    accepted = world.submit(jobs=[{"command": ["true"]}] * 8)
    child = world.submit(jobs=[{"command": ["true"]}], depends_on=[accepted.jobset_id])
    world.settle()
    for job in world.acquire(8):
        world.report(job, "finished")
    ids = [g.panda_ids for g in world.claim(final=True)]
    flat = [panda_id for group in ids for panda_id in group]

    together(*[lambda i=i: world.run_chain(Stage.STAGE_OUT, [i]) for i in flat])
    world.settle()

    [row] = world.query(
        "SELECT n_open, n_finished, ended_at FROM jobsets WHERE jobset_id = %(i)s", i=accepted.jobset_id
    )
    assert (row.n_open, row.n_finished) == (0, 8)
    assert row.ended_at is not None
    assert world.status(child.first_panda_id) == "activated"


def test_two_expanders_make_each_job_once(world, begin):
    accepted = world.submit(template={"command": ["true"], "count": 12_000})

    def expand():
        n = 0
        while True:
            with begin() as connection:
                made = expansion.expand_chunk(connection, world.engine)
            n += made
            if not made:
                return n

    together(expand, expand)
    while world.query("SELECT 1 FROM jobsets WHERE n_expanded < n_jobs"):
        expand()

    [row] = world.query("SELECT count(*) AS n, count(DISTINCT panda_id) AS different FROM jobs")
    assert (row.n, row.different) == (accepted.n_jobs, accepted.n_jobs)


def test_a_database_that_dies_after_a_claim_gives_the_jobs_to_another_pilot_later(world):
    [panda_id] = world.jobs()
    world.settle()
    world.acquire()  # committed; the answer never reached the pilot, which never asks again

    world.pass_time(world.settings.dispatcher.lease_s + 1)
    world.sweep()
    world.settle()
    [second] = world.acquire(pilot_id="pilot-2")

    assert second.panda_id == panda_id
    assert second.attempt_nr == 2


def test_a_dispatcher_gives_the_next_job_while_another_one_holds_the_first(world, begin):
    world.jobs(2, brokerage={"sites": ["NORTH"]})
    world.settle()
    matching.forget()
    request = AcquireRequest(
        pilot_id="slow", queue="NORTH-Q", request_id="r", cores=4, memory_mb=8000, disk_mb=20_000, walltime_s=86_400
    )

    with begin() as slow:
        pairs = matching.offer_of(slow, "NORTH-Q", anew=True).pairs
        [held] = matching.claim(slow, request, "default", pairs, [b"x" * 32], 120)
        [given] = ask(world, "quick")

    assert given.panda_id != held.panda_id


def test_a_zombie_that_reports_after_the_archive_hears_that_it_was_superseded(world):
    [panda_id] = world.jobs()
    world.settle()
    [zombie] = world.acquire()
    world.pass_time(world.settings.dispatcher.lease_s + 1)
    world.sweep()
    world.settle()
    world.report(world.acquire()[0], "finished")
    world.settle()

    assert world.job(panda_id)["archived"]
    assert world.report(zombie, "finished").outcome == "stale_lease"
