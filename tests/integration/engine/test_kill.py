"""A kill leaves a proof: requested, delivered, confirmed, each with its time; or it says that there is none."""

from panda.jobs import kill, queries, retry, sweeping
from panda.states import Stage


def ask(world, panda_id):
    with world.begin() as connection:
        return kill.request(connection, [panda_id], by="alice", reason="enough")


def shown(world, panda_id):
    with world.begin() as connection:
        return queries.job(connection, panda_id)


def running(world, **document):
    [panda_id] = world.jobs(**document)
    world.settle()
    [job] = world.acquire()
    world.report(job, "running")
    return panda_id, job


def test_a_kill_is_requested_delivered_and_confirmed_each_with_its_time(world):
    panda_id, job = running(world)

    ask(world, panda_id)
    requested = shown(world, panda_id)
    world.pass_time(5)
    assert world.report(job, "running").command == "kill"
    delivered = shown(world, panda_id)
    world.pass_time(5)
    world.report(job, "cancelled")
    world.settle()
    confirmed = shown(world, panda_id)

    assert (requested.kill_state, delivered.kill_state, confirmed.kill_state) == ("requested", "delivered", "confirmed")
    assert confirmed.kill_requested_at < confirmed.kill_delivered_at < confirmed.kill_confirmed_at
    assert (confirmed.status, confirmed.archived) == ("cancelled", True)


def test_a_kill_of_a_job_that_no_pilot_has_is_confirmed_at_once(world):
    [panda_id] = world.jobs()
    world.settle()

    ask(world, panda_id)

    assert shown(world, panda_id).kill_state == "confirmed"


def test_a_kill_whose_pilot_is_silent_ends_the_job_and_is_not_confirmed(world):
    panda_id, job = running(world)
    ask(world, panda_id)

    world.pass_time(world.settings.dispatcher.lease_s + 1)
    world.sweep()
    world.settle()

    job = shown(world, panda_id)
    assert (job.status, job.kill_state, job.kill_confirmed_at) == ("cancelled", "unconfirmed", None)


def test_a_kill_that_takes_too_long_is_unconfirmed_and_the_auditor_says_so(world):
    panda_id, job = running(world)
    ask(world, panda_id)
    for _ in range(11):
        world.pass_time(60)
        assert world.beat(job) == "ok"  # it hears of the kill and does nothing
        world.sweep()

    assert shown(world, panda_id).kill_state == "unconfirmed"
    assert [finding.invariant for finding in world.findings()] == ["I12"]
    world.report(job, "cancelled")
    assert shown(world, panda_id).kill_state == "confirmed"


def test_a_job_that_ends_by_itself_overtakes_its_kill(world):
    panda_id, job = running(world)
    ask(world, panda_id)

    world.report(job, "finished")
    world.settle()

    assert (shown(world, panda_id).status, shown(world, panda_id).kill_state) == ("finished", "overtaken")


def test_the_proof_of_one_attempt_is_not_that_of_the_next(world):
    panda_id, job = running(world, defaults={"max_attempts": 1})
    ask(world, panda_id)
    world.report(job, "failed", error_code=1344)
    with world.begin() as connection:
        retry.retry(connection, [panda_id], stage=None, by="alice", reason="")
    world.settle()
    [second] = world.acquire()

    assert world.report(second, "running").command is None
    assert shown(world, panda_id).kill_state is None
    world.report(second, "finished")
    world.settle()


def test_one_number_tells_how_much_more_may_go_wrong(world):
    def left():
        with world.begin() as connection:
            return queries.failures_left(connection, panda_id, world.engine)

    [panda_id] = world.jobs(defaults={"max_attempts": 2})
    world.turn_expansion()
    before = left()
    world.claim(final=False)
    assert (before, left()) == (world.engine.max_tries - 1, world.engine.max_tries - 1)  # the narrower limit counts
    world.run_chain(Stage.DEFINE, [panda_id])
    assert left() == 1  # one more attempt
    for _ in range(2):
        world.settle()
        world.acquire()
        world.pass_time(world.settings.dispatcher.lease_s + 1)
        sweeping.sweep(world.begin, world.settings)
    assert (left(), world.status(panda_id)) == (0, "failed")
