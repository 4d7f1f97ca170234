"""Inputs that change under their jobs: datasets that are filled or let go while they are dealt, files that go while a
job waits for them."""

import io
from pathlib import Path

import pytest

from panda.dataservice import catalog, deletion
from panda.db.session import run
from panda.jobs import expansion, why

ONE_EACH = {"command": ["true"], "inputs": {"IN": {"dataset": "s:d", "files_per_job": 1}}}


def fill(world, *lfns, storage="NORTH-DISK"):
    with world.begin() as connection:
        catalog.create(connection, "s:d", owner="alice")
    for lfn in lfns:
        catalog.put(world.begin, "s:d", lfn, io.BytesIO(b"abc"), storage=storage, owner="alice", cap_bytes=9)


def begin_to_deal(world, n_jobs):
    """One chunk of the set becomes jobs, and these go as far as they get."""
    engine = world.engine.__class__(**{**vars(world.engine), "chunk_jobs": n_jobs})
    with world.begin() as connection:
        expansion.expand_chunk(connection, engine)
    for group in world.claim(final=False):
        world.run_chain(group.stage, group.panda_ids)


def let_go(world):
    with world.begin() as connection:
        deletion.delete(connection, "s:d")


def told(world, panda_id):
    with world.begin() as connection:
        return why.why(connection, panda_id).summary


def inputs_of(world):
    sql = "SELECT lfn FROM job_files WHERE kind = 'input' ORDER BY panda_id"
    return [row.lfn for row in world.query(sql)]


def test_files_that_join_a_dataset_while_it_is_dealt_are_nobodys(world):
    fill(world, "b1", "b2", "b3", "b4")
    world.submit(template=ONE_EACH)
    begin_to_deal(world, 2)

    fill(world, "a", "b1a", "b2a", "b3a", "c")
    world.settle()

    assert inputs_of(world) == ["b1", "b2", "b3", "b4"]
    assert {row.status for row in world.query("SELECT status FROM jobs")} == {"activated"}


def test_a_dataset_that_is_let_go_while_it_is_dealt_stays_for_those_that_have_it_and_fails_the_others(world):
    fill(world, "b1", "b2", "b3", "b4")
    accepted = world.submit(template=ONE_EACH)
    begin_to_deal(world, 2)

    let_go(world)
    assert deletion.take_out_unread(world.begin, grace_s=0) == 0  # the set is still being made from it
    world.settle()

    first, last = accepted.first_panda_id, accepted.last_panda_id
    assert [world.status(each) for each in range(first, last + 1)] == ["activated", "activated", "failed", "failed"]
    assert "input s:d/b4 is being deleted" in told(world, last)
    assert deletion.take_out_unread(world.begin, grace_s=0) == 0  # two will read it, two may be retried


@pytest.fixture
def waiting(world):
    """A job that waits in stage_in for a file."""
    fill(world, "far", storage="SOUTH-DISK")
    jobs = [{"command": ["true"], "inputs": ["s:d/far"], "max_attempts": 1}]
    panda_id = world.submit(jobs=jobs, brokerage={"sites": ["NORTH"]}).first_panda_id
    begin_to_deal(world, 1)
    assert world.due(panda_id).waits_for == "data"
    return panda_id


def test_an_input_that_is_let_go_while_a_job_waits_for_it_stays_until_the_job_has_read_it(world, waiting):
    let_go(world)

    assert deletion.take_out_unread(world.begin, grace_s=0) == 0
    assert "1 input file is on the way; far to NORTH-DISK" in told(world, waiting)
    world.settle()
    assert world.status(waiting) == "activated"
    [job] = world.acquire(queue="NORTH-Q")
    assert Path(job.inputs[0].url.removeprefix("file://")).read_bytes() == b"abc"
    world.report(job, "finished")
    world.settle()
    assert deletion.take_out_unread(world.begin, grace_s=0) == 1


@pytest.mark.parametrize("how", ["its bytes are gone", "its replica was taken out of the catalogue"])
def test_an_input_whose_last_replica_is_lost_fails_the_job_that_waits_for_it(world, waiting, how):
    [replica] = world.query("SELECT s.root || '/' || path AS path FROM replicas JOIN storages s ON s.name = storage")
    Path(replica.path).unlink()
    if how != "its bytes are gone":
        with world.begin() as connection:
            run(connection, "DELETE FROM replicas")
            run(connection, "INSERT INTO storage_use_deltas VALUES ('SOUTH-DISK', 'alice', -1, -3)")

    reason = "No such file" if how == "its bytes are gone" else "it has no replica on a storage that is online"
    n_tries, meanwhile = world.settings.data.transfer_tries, []
    for _ in range(n_tries):
        world.settle()
        meanwhile.append(told(world, waiting))
        world.pass_time(400)

    assert f"far to NORTH-DISK is queued; try {n_tries // 2} failed: {reason}" in " ".join(meanwhile)
    assert world.status(waiting) == "failed"
    assert f"s:d/far could not be brought to NORTH-DISK in {n_tries} tries: {reason}" in told(world, waiting)
