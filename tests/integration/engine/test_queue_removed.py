"""A queue is taken away with jobs in it: what no pilot has taken goes elsewhere, or waits and knows why."""

from panda.dataservice import catalog
from panda.dataservice.catalog import NewFile
from panda.jobs import why
from panda.sites import removing
from panda.sites.status import set_queue_status

TO_NORTH = {"brokerage": {"sites": ["NORTH"]}}


def remove(world, name="NORTH-Q"):
    with world.begin() as connection:
        removal = removing.remove_queue(connection, name, by="olga", reason="the cluster is closed")
    return removal.n_live


def clock(world):
    return removing.carry_out(world.begin, world.engine.retry_window_s)


def close(world, name):
    with world.begin() as connection:
        set_queue_status(connection, name, "offline", by="olga", reason="cooling")


def a_file_in_the_south(world):
    with world.begin() as connection:
        dataset_id = catalog.create(connection, "mc:x", owner="alice")
        file = NewFile(
            dataset_id=dataset_id, lfn="part", guid="g", size_bytes=1, adler32="00000001", storage="SOUTH-DISK", path="part"
        )  # fmt: skip
        assert not catalog.register(connection, [file]).refused


def at(world, panda_ids):
    return [world.job(panda_id)["computing_site"] for panda_id in panda_ids]


def exists(world, name="NORTH-Q"):
    return bool(world.query("SELECT FROM queues WHERE name = %(name)s", name=name))


def test_ready_jobs_go_to_another_queue_and_running_ones_end_where_they_are(world):
    close(world, "SOUTH-Q")
    ready = world.jobs(3)
    world.settle()
    [job] = world.acquire(queue="NORTH-Q")
    world.report(job, "running")
    waiting = [panda_id for panda_id in ready if panda_id != job.panda_id]
    with world.begin() as connection:
        set_queue_status(connection, "SOUTH-Q", "online", by="olga", reason="cooled")

    assert remove(world) == 3
    assert clock(world) == 2
    world.settle()

    assert at(world, waiting) == ["SOUTH-Q", "SOUTH-Q"]
    [moved] = world.query("SELECT DISTINCT by, reason FROM job_events WHERE was = 'activated' AND now = 'defined'")
    assert tuple(moved) == ("clock", "queue NORTH-Q is taken away")
    assert world.acquire(queue="NORTH-Q", pilot_id="pilot-2") == []
    assert world.report(job, "finished", exit_code=0).outcome == "ok"
    world.settle()
    assert world.status(job.panda_id) == "finished"


def test_jobs_that_fit_no_other_queue_wait_and_know_why(world):
    [panda_id] = world.jobs(**TO_NORTH)
    world.settle()

    remove(world)
    clock(world)
    world.settle()

    assert world.due(panda_id).waits_for == "queue"
    with world.begin() as connection:
        answer = why.why(connection, panda_id)
    told = answer.decision.funnel[0]["refused"]["NORTH-Q"]
    assert told == "the queue is offline (it is taken away: the cluster is closed)"


def test_jobs_whose_files_are_on_their_way_go_elsewhere_and_wait_for_nothing_there(world):
    close(world, "SOUTH-Q")
    a_file_in_the_south(world)
    panda_id = world.submit(jobs=[{"command": ["true"], "inputs": ["mc:x/part"]}]).first_panda_id
    world.turn_expansion()
    for group in world.claim(final=False):
        world.run_chain(group.stage, group.panda_ids)
    assert world.due(panda_id).waits_for == "data"
    with world.begin() as connection:
        set_queue_status(connection, "SOUTH-Q", "online", by="olga", reason="cooled")

    remove(world)
    assert clock(world) == 1
    world.settle()

    assert at(world, [panda_id]) == ["SOUTH-Q"]
    assert (world.status(panda_id), world.due(panda_id).missing) == ("activated", 0)
    assert world.query("SELECT FROM transfer_waiters") == []


def test_a_queue_goes_when_its_last_job_can_no_longer_be_retried(world):
    [panda_id] = world.jobs(**TO_NORTH, defaults={"max_attempts": 1})
    world.settle()
    [job] = world.acquire(queue="NORTH-Q")
    remove(world)
    clock(world)
    assert exists(world)  # a pilot has it

    world.fail(job)
    clock(world)
    world.pass_time(world.engine.retry_window_s - 60)
    clock(world)
    assert exists(world)  # it may be retried
    world.pass_time(120)
    world.sweep()
    world.settle()
    clock(world)

    assert not exists(world)
    assert world.job(panda_id)["computing_site"] == "NORTH-Q"
    assert world.job(panda_id)["archived"]
