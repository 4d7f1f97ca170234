"""Where a pilot is told to get inputs and to put outputs, and what it says of them."""

import io
import zlib
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from panda.dataservice import catalog
from panda.db.session import run
from panda.dispatcher.words import OutputReport


def put(world, did, lfn, content, storage="NORTH-DISK"):
    with world.begin() as connection:
        catalog.create(connection, did, owner="alice")
    catalog.put(
        world.begin, did, lfn, io.BytesIO(content), storage=storage, owner="alice", cap_bytes=1000
    )  # fmt: skip


def change(world, sql):
    with world.begin() as connection:
        run(connection, sql)


def write(url, content):
    path = Path(unquote(urlsplit(url).path))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def written(lfn, content, storage=""):
    adler32 = f"{zlib.adler32(content):08x}"
    return OutputReport(lfn=lfn, size_bytes=len(content), adler32=adler32, storage=storage)


@pytest.fixture
def job(world):
    """A job at NORTH whose outputs may go to SOUTH too; claimed."""
    change(world, "UPDATE queues SET second_storage = 'SOUTH-DISK' WHERE name = 'NORTH-Q'")
    world.submit(jobs=[{"command": ["true"], "outputs": ["o"]}], brokerage={"sites": ["NORTH"]}, output_dataset="s:out")
    world.settle()
    [job] = world.acquire(queue="NORTH-Q")
    return job


def replicas(world):
    return world.query("SELECT f.lfn, r.storage, r.path FROM files f JOIN replicas r USING (file_id) ORDER BY 1, 2")


def test_an_output_that_went_to_the_second_storage_is_registered_there(world, job):
    [output] = job.outputs
    [second] = output.alternatives
    assert second.storage == "SOUTH-DISK"
    write(second.url, b"abc")

    world.report(job, "finished", outputs=[written("o", b"abc", "SOUTH-DISK")])
    world.settle()

    assert world.status(job.panda_id) == "finished"
    assert [(row.lfn, row.storage) for row in replicas(world)] == [("o", "SOUTH-DISK")]


def test_an_output_in_the_first_place_stays_there(world, job):
    write(job.outputs[0].url, b"abc")

    world.report(job, "finished", outputs=[written("o", b"abc")])
    world.settle()

    assert [(row.lfn, row.storage) for row in replicas(world)] == [("o", "NORTH-DISK")]


@pytest.mark.parametrize("claimed", ["WEST-DISK", "NORTH-DISK'; DROP TABLE jobs", "x" * 250])
def test_a_pilot_cannot_say_that_it_was_another_storage(world, job, claimed):
    write(job.outputs[0].alternatives[0].url, b"abc")

    world.report(job, "finished", outputs=[written("o", b"abc", claimed)])
    world.settle()

    assert world.job(job.panda_id)["error_code"] == "stage_out:bad_output"
    assert "output o is not on storage NORTH-DISK" in world.job(job.panda_id)["error_message"]
    assert replicas(world) == []


def test_a_second_storage_that_is_offline_is_not_offered(world):
    change(world, "UPDATE queues SET second_storage = 'SOUTH-DISK' WHERE name = 'NORTH-Q'")
    world.submit(jobs=[{"command": ["true"], "outputs": ["o"]}], brokerage={"sites": ["NORTH"]})
    world.settle()
    change(world, "UPDATE storages SET status = 'offline' WHERE name = 'SOUTH-DISK'")

    [job] = world.acquire(queue="NORTH-Q")
    assert job.outputs[0].alternatives == []
    write(job.outputs[0].url, b"")
    world.report(job, "finished", outputs=[written("o", b"")])
    world.settle()


def test_outputs_go_where_the_queue_writes(world):
    change(world, "UPDATE queues SET write_storage = 'SOUTH-DISK' WHERE name = 'NORTH-Q'")
    world.submit(jobs=[{"command": ["true"], "outputs": ["o"]}], brokerage={"sites": ["NORTH"]})
    world.settle()
    [job] = world.acquire(queue="NORTH-Q")
    write(job.outputs[0].url, b"abc")
    world.report(job, "finished", outputs=[written("o", b"abc")])
    world.settle()

    assert [(row.lfn, row.storage) for row in replicas(world)] == [("o", "SOUTH-DISK")]


def test_what_a_queue_can_read_elsewhere_is_not_brought(world):
    put(world, "s:d", "a", b"abc", "SOUTH-DISK")
    change(world, "UPDATE queues SET read_storages = '{SOUTH-DISK}' WHERE name = 'NORTH-Q'")
    world.submit(jobs=[{"command": ["true"], "inputs": ["s:d/a"]}], brokerage={"sites": ["NORTH"]})
    world.settle()

    [job] = world.acquire(queue="NORTH-Q")
    assert "/storage/south/" in job.inputs[0].url
    assert world.query("SELECT 1 FROM transfers") == []
    world.fail(job)


@pytest.mark.parametrize(
    ("allowed", "asked", "direct"), [(True, True, True), (True, False, False), (False, True, False)]
)
def test_inputs_are_read_in_place_where_job_and_queue_want_it(world, allowed, asked, direct):
    put(world, "s:d", "a", b"abc")
    change(world, f"UPDATE queues SET direct_read = {allowed}")
    world.submit(
        template={"command": ["true"], "inputs": {"IN": {"dataset": "s:d"}}}, defaults={"direct_read": asked},
        brokerage={"sites": ["NORTH"]},
    )  # fmt: skip
    world.settle()

    [job] = world.acquire(queue="NORTH-Q")
    assert [given.direct for given in job.inputs] == [direct]
    world.fail(job)
