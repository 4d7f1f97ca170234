"""A dataset goes when nobody reads it, and its name is free only when its bytes are gone."""

import io

import pytest

from panda.dataservice import admission, binding, catalog, deletion, transfers
from panda.dataservice.lineage import lineage
from panda.errors import Conflict, NotFound


def delete(lab, did="s:d"):
    with lab.begin() as connection:
        deletion.delete(connection, did)


def take_out(lab):
    return deletion.take_out_unread(lab.begin, grace_s=0)


def there(lab, did="s:d"):
    return lab.query("SELECT status FROM datasets WHERE scope || ':' || name = %(did)s", did=did)


def test_a_dataset_that_nobody_reads_goes_with_its_bytes(lab):
    paths = [lab.put("s:d/a", b"abc"), lab.put("s:d/b", b"abc", "SOUTH-DISK")]
    kept = lab.put("s:other/a", b"abc")

    delete(lab)
    assert take_out(lab) == 2
    assert [path.exists() for path in paths] == [True, True]
    assert deletion.carry_out(lab.begin) == 2
    take_out(lab)

    assert there(lab) == []
    assert [path.exists() for path in [*paths, kept]] == [False, False, True]
    assert lab.query("SELECT * FROM deletions") == []


def test_jobs_that_read_it_are_waited_for_and_no_new_one_is_bound(lab):
    lab.put("s:d/a", b"abc")
    [reader] = lab.bound_jobs(inputs=["s:d/a"])
    late = lab.jobs(2, inputs=["s:d/a"]) + lab.jobs(inputs=["s:d"])

    delete(lab)
    with lab.begin() as connection:
        problems = binding.bind_inputs(connection, late)

    assert set(problems) == set(late)
    assert problems[late[0]] == "input s:d/a is being deleted"
    assert problems[late[2]] == "input dataset s:d is being deleted"
    assert take_out(lab) == 0
    lab.do("UPDATE jobs SET status = 'failed' WHERE panda_id = %(id)s", id=reader)
    assert take_out(lab) == 0  # it may be retried
    lab.do("UPDATE jobs SET status = 'cancelled' WHERE panda_id = %(id)s", id=reader)
    assert take_out(lab) == 1


def test_a_job_that_was_just_being_bound_is_not_overlooked(lab):
    lab.put("s:d/a", b"abc")
    delete(lab)

    assert deletion.take_out_unread(lab.begin) == 0
    lab.do("UPDATE datasets SET deleting_at = deleting_at - interval '10 minutes'")
    assert deletion.take_out_unread(lab.begin) == 1


def test_a_file_in_a_movers_hands_waits_for_it(lab):
    lab.put("s:d/a", b"abc")
    [job] = lab.bound_jobs(inputs=["s:d/a"])
    with lab.begin() as connection:
        transfers.request_inputs(connection, [job], deadline_s=60)
        ids = admission.due_ids(connection, 1, 60)
    lab.do("UPDATE jobs SET status = 'cancelled'")
    delete(lab)

    assert take_out(lab) == 0
    transfers.carry_out(lab.begin, ids, lab.settings)
    assert take_out(lab) == 1
    assert deletion.carry_out(lab.begin) == 2


def test_a_name_is_taken_until_the_last_byte_is_gone(lab):
    path = lab.put("s:d/a", b"abc")
    delete(lab)
    take_out(lab)
    lab.do("UPDATE storages SET status = 'offline' WHERE name = 'NORTH-DISK'")

    assert deletion.carry_out(lab.begin) == 0
    take_out(lab)
    with pytest.raises(Conflict, match="being deleted"):
        lab.put("s:d/a", b"new")
    lab.do("UPDATE storages SET status = 'online'")
    deletion.carry_out(lab.begin)
    take_out(lab)

    assert not path.exists()
    assert lab.put("s:d/a", b"new").read_bytes() == b"new"


def test_a_storage_that_refuses_is_asked_again_later(lab):
    lab.put("s:d/a", b"abc")
    delete(lab)
    take_out(lab)
    lab.do("UPDATE deletions SET path = '../out'")

    assert deletion.carry_out(lab.begin) == 0

    [row] = lab.query("SELECT tries, error, due_at > panda_now() AS later FROM deletions")
    assert (row.tries, row.later) == (1, True)
    assert "no path below the storage" in row.error


def test_what_is_pinned_stays_and_what_is_not_expires(lab):
    lab.put("s:d/a", b"abc")
    lab.put("s:e/a", b"abc")
    with lab.begin() as connection:
        deletion.keep(connection, "s:d", lifetime_s=1e-6, pinned=True)
        deletion.keep(connection, "s:e", lifetime_s=1e-6, pinned=False)

    with pytest.raises(Conflict, match="pinned"):
        delete(lab, "s:d")
    with lab.begin() as connection:
        assert deletion.expire(connection) == 1

    assert [there(lab, did)[0].status for did in ("s:d", "s:e")] == ["open", "deleting"]
    with lab.begin() as connection, pytest.raises(Conflict, match="being deleted"):
        deletion.keep(connection, "s:e", lifetime_s=None, pinned=True)
    with lab.begin() as connection, pytest.raises(NotFound):
        deletion.delete(connection, "s:nothing")


def test_a_dataset_that_goes_takes_no_file(lab):
    lab.put("s:d/a", b"abc")
    delete(lab)

    with pytest.raises(Conflict, match="being deleted"):
        catalog.put(lab.begin, "s:d", "b", io.BytesIO(b"x"), storage="NORTH-DISK", owner="alice", cap_bytes=9)


def test_a_file_tells_what_made_it_and_what_read_it(lab):
    lab.put("s:d/a", b"abc")
    [maker, reader] = lab.bound_jobs(2, inputs=["s:d/a"])
    lab.put("s:out/b", b"abc")
    lab.do("UPDATE files SET panda_id = %(id)s, attempt_nr = 1 WHERE lfn = 'b'", id=maker)

    with lab.begin() as connection:
        source, made = lineage(connection, "s:d", "a"), lineage(connection, "s:out", "b")
        with pytest.raises(NotFound):
            lineage(connection, "s:d", "nothing")

    assert source.file.panda_id is None
    assert [(job.panda_id, job.status, job.owner) for job in source.read_by] == [
        (reader, "assigned", "alice"), (maker, "assigned", "alice")
    ]  # fmt: skip
    assert [(row.dataset, row.lfn) for row in made.made_from] == [("s:d", "a")]
    assert made.file.panda_id == maker
