"""A file on tape is brought online once for all who want it; whoever waits for it is told so."""

import io
import json
from dataclasses import replace

import pytest

from panda.dataservice import admission, catalog, deletion, recalls, transfers
from panda.dataservice.movers.base import Place, still
from panda.dataservice.stagers import simulated
from panda.dataservice.stagers.simulated import SimulatedStager, TapeMover
from panda.errors import ConfigError
from panda.jobs import why
from panda.sites import siteinfo


@pytest.fixture
def tape(lab):
    """NORTH's storage is a tape whose requests take no time; what lies there is on tape. Yields its folder."""
    lab.do("UPDATE storages SET kind = 'simulated-tape', stager = 'simulated' WHERE name = 'NORTH-DISK'")
    root = lab.root / "north"
    root.mkdir()
    setting(root, mount_s=0)
    return root


def setting(root, **values):
    (root / simulated.SETTINGS).write_text(json.dumps(values))


def put(lab, tape, *lfns):
    for lfn in lfns:
        lab.put(f"s:d/{lfn}", lfn.encode() * 3)
    simulated.migrate(str(tape))


def request(lab, panda_ids):
    with lab.begin() as connection:
        return transfers.request_inputs(connection, panda_ids, deadline_s=3600)


def due_ids(lab):
    with lab.begin() as connection:
        return admission.due_ids(connection, 100, 60)


def move_all(lab):
    return transfers.carry_out(lab.begin, due_ids(lab), lab.settings)


def advance(lab, **data):
    lab.do("UPDATE recalls SET due_at = panda_now() WHERE status <> 'failed'")
    return recalls.advance(lab.begin, replace(lab.settings.data, **data))


def statuses(lab):
    return [row.status for row in lab.query("SELECT status FROM recalls ORDER BY file_id")]


def told(lab, panda_id):
    with lab.begin() as connection:
        return why.why(connection, panda_id).summary


def test_a_file_on_tape_is_brought_online_then_moved_then_given_back(lab, tape):
    put(lab, tape, "a")
    jobs = lab.bound_jobs(2, inputs=["s:d/a"])
    request(lab, jobs)

    assert move_all(lab) == []
    assert statuses(lab) == ["wanted"]
    assert "a to SOUTH-DISK is held: tape NORTH-DISK is about to be asked for it" in told(lab, jobs[0])
    assert due_ids(lab) == []  # it waits for the tape, not for its turn
    assert (advance(lab), advance(lab)) == (0, 1)
    move_all(lab)
    assert lab.where("s:d/a", "SOUTH-DISK").read_bytes() == b"aaa"
    assert [lab.due(job).waits_for for job in jobs] == [None, None]
    assert (tape / "s/d").exists()
    advance(lab)
    assert statuses(lab) == []
    assert [path for path in tape.rglob("a") if path.is_file()] == []


def test_the_job_is_told_since_when_the_tape_works_on_it(lab, tape):
    setting(tape, mount_s=3600)
    put(lab, tape, "a")
    [job] = lab.bound_jobs(inputs=["s:d/a"])
    request(lab, [job])
    move_all(lab)
    advance(lab)

    assert statuses(lab) == ["asked"]
    assert "tape NORTH-DISK brings it online since 0 s" in told(lab, job)
    assert advance(lab) == 0


def test_files_are_asked_for_together_and_each_once_for_all_destinations(lab, tape):
    put(lab, tape, "a", "b")
    request(lab, lab.bound_jobs(inputs=["s:d"]) + lab.bound_jobs(queue="WEST-Q", inputs=["s:d"]))
    move_all(lab)
    setting(tape, mount_s=3600)
    advance(lab)

    assert statuses(lab) == ["asked", "asked"]
    assert len(list((tape / simulated.REQUESTS).iterdir())) == 1
    assert len(lab.transfers()) == 4


def test_a_disk_is_read_before_a_tape_however_near(lab, tape):
    put(lab, tape, "a")
    lab.do("UPDATE sites SET cloud = 'FAR' WHERE name = 'WEST'")
    lab.do(
        "INSERT INTO replicas (file_id, storage, path, created_at) SELECT file_id, 'WEST-DISK', path, panda_now() FROM replicas"
    )
    request(lab, lab.bound_jobs(inputs=["s:d/a"]))

    due_ids(lab)
    assert [t.planned for t in lab.transfers()] == ["WEST-DISK"]
    assert statuses(lab) == []


def test_what_the_tape_lost_counts_as_a_failed_try_and_another_replica_is_taken(lab, tape):
    put(lab, tape, "a")
    [row] = lab.query("SELECT path FROM replicas")
    setting(tape, mount_s=0, lost=[row.path])
    [job] = lab.bound_jobs(inputs=["s:d/a"])
    request(lab, [job])
    move_all(lab)
    advance(lab)
    advance(lab)

    assert statuses(lab) == ["failed"]
    move_all(lab)
    [transfer] = lab.transfers()
    assert (transfer.status, transfer.tries) == ("queued", 1)
    assert "tape NORTH-DISK: the tape cannot be read" in transfer.error
    assert statuses(lab) == []  # the next try asks anew
    (lab.root / "west" / row.path).parent.mkdir(parents=True)
    (lab.root / "west" / row.path).write_bytes(b"aaa")
    lab.do(
        "INSERT INTO replicas (file_id, storage, path, created_at) SELECT file_id, 'WEST-DISK', path, panda_now() FROM replicas"
    )
    lab.do("UPDATE transfers SET due_at = panda_now(), tries = 2")
    move_all(lab)
    assert lab.due(job).waits_for is None


def test_a_file_that_is_not_online_in_time_fails(lab, tape):
    setting(tape, mount_s=3600)
    put(lab, tape, "a")
    request(lab, lab.bound_jobs(inputs=["s:d/a"]))
    move_all(lab)
    advance(lab)
    lab.do("UPDATE recalls SET asked_at = panda_now() - interval '2 h'")

    assert advance(lab, recall_deadline_s=3600) == 1
    assert [row.error for row in lab.query("SELECT error FROM recalls")] == ["it was not online within 1 h"]


def test_a_tape_system_that_does_not_answer_is_asked_again_later(lab, tape, monkeypatch):
    put(lab, tape, "a")
    [job] = lab.bound_jobs(inputs=["s:d/a"])
    request(lab, [job])
    move_all(lab)

    def away(*_):
        raise OSError(5, "robot is stuck")

    with monkeypatch.context() as patch:
        patch.setattr(SimulatedStager, "request", away)
        advance(lab)
    assert statuses(lab) == ["wanted"]
    assert "about to be asked for it (the tape system does not answer: robot is stuck)" in told(lab, job)
    assert lab.query("SELECT 1 FROM recalls WHERE due_at > panda_now() + interval '5 s'")
    advance(lab)
    advance(lab)
    assert statuses(lab) == ["online"]


def test_a_pin_is_renewed_while_somebody_needs_the_file(lab, tape):
    put(lab, tape, "a")
    request(lab, lab.bound_jobs(inputs=["s:d/a"]))
    move_all(lab)
    advance(lab)
    advance(lab)
    lab.do("UPDATE recalls SET pinned_until = panda_now() + interval '1 min'")

    advance(lab)
    assert statuses(lab) == ["wanted"]
    advance(lab)
    advance(lab)
    assert statuses(lab) == ["online"]
    assert lab.query("SELECT 1 FROM recalls WHERE pinned_until > panda_now() + interval '23 h'")


def test_who_fetches_a_file_from_tape_is_put_off_and_gets_it_later(lab, tape):
    put(lab, tape, "a")

    with pytest.raises(catalog.OnTape, match="lies on tape NORTH-DISK; it is being brought online"):
        catalog.open_file(lab.begin, "s:d", "a")
    advance(lab)
    advance(lab)
    with catalog.open_file(lab.begin, "s:d", "a")[0] as stream:
        assert stream.read() == b"aaa"
    advance(lab)
    assert statuses(lab) == ["online"]
    lab.do("UPDATE recalls SET wanted_until = panda_now() - interval '1 s'")
    advance(lab)
    assert statuses(lab) == []


def test_a_dataset_on_tape_can_be_deleted_while_it_is_asked_for(lab, tape):
    put(lab, tape, "a")
    with pytest.raises(catalog.OnTape):
        catalog.open_file(lab.begin, "s:d", "a")
    with lab.begin() as connection:
        deletion.delete(connection, "s:d")

    deletion.take_out_unread(lab.begin, grace_s=0)
    deletion.carry_out(lab.begin)
    deletion.take_out_unread(lab.begin, grace_s=0)

    assert lab.query("SELECT 1 FROM datasets") == []
    assert [path.name for path in tape.rglob("*") if path.is_file()] == [simulated.SETTINGS]


def test_outputs_are_shipped_to_a_tape_and_read_back_through_it(lab, tape):
    mover = TapeMover()
    mover.write(Place(str(tape), "s/d/@draft"), io.BytesIO(b"abc"), 10, still)
    mover.rename(Place(str(tape), "s/d/@draft"), "s/d/o")
    simulated.migrate(str(tape))

    with pytest.raises(OSError, match="must be brought online first"):
        mover.open(Place(str(tape), "s/d/o"))
    with pytest.raises(OSError, match="must be brought online first"):
        mover.copy(Place(str(tape), "s/d/o"), Place(str(tape), "s/d/p"), None, still)
    assert mover.size(Place(str(tape), "s/d/o")) == 3


@pytest.mark.parametrize(
    ("storage", "words"),
    [
        ('root = "/tape"\nstager = "simulated"', r"\[queues.Q\]: storage TAPE is a tape"),
        ('root = "/tape"\nstager = "simulatd"', "unknown stager 'simulatd'; did you mean 'simulated'"),
    ],
)
def test_a_queue_cannot_live_on_a_tape_and_a_stager_must_exist(tmp_path, storage, words):
    path = tmp_path / "sites.toml"
    path.write_text(
        f'[sites.N]\n[storages.TAPE]\nsite = "N"\n{storage}\n[queues.Q]\nsite = "N"\nstorage = "TAPE"\n'
        "cores = 1\nmemory_mb = 1\ndisk_mb = 1\nwalltime_s = 1\n"
    )
    with pytest.raises((ConfigError, siteinfo.UnknownName), match=words):
        siteinfo.load_file(path)
