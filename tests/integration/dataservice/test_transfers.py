"""Inputs come to the site, each file once; the last one wakes the job, and no crash or race loses that."""

import threading

import pytest
import storage_servers

from panda.dataservice import admission, transfers, waiting
from panda.dataservice.movers.base import Content, Place, Tick, Underway
from panda.dataservice.movers.local import LocalMover
from panda.jobs import due


def request(lab, panda_ids, deadline_s=3600.0):
    with lab.begin() as connection:
        return transfers.request_inputs(connection, panda_ids, deadline_s=deadline_s)


def due_ids(lab, n=100):
    with lab.begin() as connection:
        return admission.due_ids(connection, n, lab.settings.data.transfer_lease_s)


def carry_out_all(lab):
    """Everything that is due, without the waits between tries."""
    hopeless = []
    while ids := due_ids(lab):
        hopeless += transfers.carry_out(lab.begin, ids, lab.settings)
        lab.do("UPDATE transfers SET due_at = panda_now() WHERE status = 'queued'")
    return hopeless


def in_thread(function):
    """Run `function` in a thread; `.join()` gives what it raised a voice."""
    trouble = []

    def body():
        try:
            function()
        except BaseException as problem:
            trouble.append(problem)

    thread = threading.Thread(target=body, daemon=True)
    thread.start()

    def join(timeout_s=10):
        thread.join(timeout_s)
        assert not thread.is_alive()
        assert trouble == []

    return thread, join


def wait_for_lock(lab):
    """Until some transaction waits for a lock."""
    for _ in range(1000):
        if lab.query("SELECT 1 FROM pg_locks WHERE NOT granted"):
            return
        threading.Event().wait(0.005)
    raise AssertionError("nobody waits")


def test_a_job_whose_inputs_are_there_goes_on_at_once(lab):
    lab.put("s:d/a", b"abc", "SOUTH-DISK")
    jobs = lab.bound_jobs(2, inputs=["s:d/a"]) + lab.jobs(1)

    assert request(lab, jobs) == jobs

    assert lab.transfers() == []
    assert [r.status for r in lab.query("SELECT status FROM job_files")] == ["ready", "ready"]


def test_the_last_of_its_files_makes_a_job_due_for_activate(lab):
    lab.put("s:d/a", b"abc")
    lab.put("s:d/b", b"defg")
    [job] = lab.bound_jobs(inputs=["s:d/a", "s:d/b"])

    assert request(lab, [job]) == []
    parked = lab.due(job)
    first, second = due_ids(lab)
    transfers.carry_out(lab.begin, [first], lab.settings)
    half_way = lab.due(job)
    transfers.carry_out(lab.begin, [second], lab.settings)

    assert (parked.stage, parked.waits_for, parked.missing) == ("activate", "data", 2)
    assert (half_way.waits_for, half_way.missing) == ("data", 1)
    assert (lab.due(job).stage, lab.due(job).waits_for, lab.due(job).missing) == ("activate", None, 0)
    assert [t.status for t in lab.transfers()] == ["done", "done"]
    assert [t.source for t in lab.transfers()] == ["NORTH-DISK", "NORTH-DISK"]
    assert lab.where("s:d/b", "SOUTH-DISK").read_bytes() == b"defg"
    assert {r.status for r in lab.query("SELECT status FROM job_files")} == {"ready"}
    assert lab.query("SELECT * FROM transfer_waiters") == []


def test_a_thousand_jobs_that_want_one_file_make_one_transfer(lab):
    lab.put("s:d/a", b"abc")
    jobs = lab.bound_jobs(1000, inputs=["s:d/a"])

    assert request(lab, jobs[:600]) == []
    assert request(lab, jobs[600:]) == []
    assert len(lab.transfers()) == 1
    carry_out_all(lab)

    awake = lab.query("SELECT count(*) AS n FROM job_due WHERE waits_for IS NULL AND missing = 0")
    assert awake[0].n == 1000


def test_many_waiters_are_woken_chunk_by_chunk(lab, monkeypatch):
    monkeypatch.setattr(waiting, "CHUNK", 3)
    lab.put("s:d/a", b"abc")
    jobs = lab.bound_jobs(7, inputs=["s:d/a"])
    request(lab, jobs)

    carry_out_all(lab)

    assert {lab.due(job).waits_for for job in jobs} == {None}
    assert [t.status for t in lab.transfers()] == ["done"]


def test_a_file_that_is_wrong_at_its_source_is_brought_from_another_replica(lab):
    lab.put("s:d/a", b"abc", "NORTH-DISK").write_bytes(b"xyz")
    lab.put("s:d/a", b"abc", "WEST-DISK")
    [job] = lab.bound_jobs(inputs=["s:d/a"])
    request(lab, [job])

    hopeless = carry_out_all(lab)

    assert hopeless == []
    [done] = lab.transfers()
    assert (done.status, done.tries, done.source) == ("done", 2, "WEST-DISK")
    assert lab.where("s:d/a", "SOUTH-DISK").read_bytes() == b"abc"
    assert lab.due(job).waits_for is None


def test_files_that_arrived_and_tries_that_failed_are_counted_by_storage(lab):
    lab.put("s:d/a", b"abc", "NORTH-DISK").unlink()
    lab.put("s:d/a", b"abc", "WEST-DISK")
    lab.put("s:d/b", b"defg", "WEST-DISK").write_bytes(b"xyz")
    lab.put("s:d/b", b"defg", "NORTH-DISK")
    request(lab, lab.bound_jobs(inputs=["s:d/a", "s:d/b"]))
    lost = due_ids(lab)
    lab.do("UPDATE transfers SET planned = 'NORTH-DISK', lease_until = panda_now() - interval '1 s'")
    with lab.begin() as connection:
        assert transfers.requeue_expired(connection) == len(lost) == 2

    assert carry_out_all(lab) == []

    found = lab.query("SELECT labels, sum(n) AS n, sum(amount) AS amount FROM meter_deltas GROUP BY 1 ORDER BY 1")
    counted = {tuple(r.labels): (r.n, r.amount) for r in found}
    assert counted.pop(("NORTH-DISK", "SOUTH-DISK", "mover_silent")) == (2, 0)
    assert counted.pop(("NORTH-DISK", "SOUTH-DISK", "enoent"), (1, 0)) == (1, 0)
    assert counted.pop(("WEST-DISK", "SOUTH-DISK", "wrong_content"), (1, 0)) == (1, 0)
    assert sum(n for n, _ in counted.values()) == 2
    assert sum(amount for _, amount in counted.values()) == 7


def test_a_source_that_vanished_is_replaced_by_another_replica(lab):
    lab.put("s:d/a", b"abc", "NORTH-DISK").unlink()
    lab.put("s:d/a", b"abc", "WEST-DISK")
    [job] = lab.bound_jobs(inputs=["s:d/a"])
    request(lab, [job])

    assert carry_out_all(lab) == []

    assert lab.transfers()[0].tries == 2
    assert lab.due(job).waits_for is None


def test_a_destination_that_fills_up_in_the_middle_is_tried_again_when_there_is_room(lab, tmp_path):
    lab.put("s:d/a", b"x" * (700 << 10))
    [job] = lab.bound_jobs(inputs=["s:d/a"])
    request(lab, [job])
    with storage_servers.small_disk(tmp_path / "small") as disk:
        lab.do("UPDATE storages SET root = %(root)s WHERE name = 'SOUTH-DISK'", root=str(disk))
        (disk / "others").write_bytes(b"x" * (700 << 10))
        assert transfers.carry_out(lab.begin, due_ids(lab), lab.settings) == []
        [waits] = lab.transfers()
        assert (waits.status, "No space left" in waits.error) == ("queued", True)
        assert [each.name for each in disk.rglob("*") if each.is_file()] == ["others"]

        (disk / "others").unlink()
        lab.do("UPDATE transfers SET due_at = panda_now()")
        assert carry_out_all(lab) == []

    assert lab.due(job).waits_for is None


def test_wrong_bytes_never_appear_at_the_destination(lab):
    lab.put("s:d/a", b"abc").write_bytes(b"xyz")
    request(lab, lab.bound_jobs(inputs=["s:d/a"]))

    transfers.carry_out(lab.begin, due_ids(lab), lab.settings)

    assert [path for path in (lab.root / "south").rglob("*") if path.is_file()] == []
    [failed] = lab.transfers()
    assert (failed.status, failed.tries, failed.lease_until) == ("queued", 1, None)
    assert "holds 3 bytes with adler32" in failed.error


def test_a_file_that_can_be_had_nowhere_is_told_to_those_who_wait(lab):
    lab.put("s:d/a", b"abc").unlink()
    jobs = lab.bound_jobs(2, inputs=["s:d/a"])
    request(lab, jobs)

    hopeless = carry_out_all(lab)

    assert [panda_id for panda_id, _ in hopeless] == jobs
    assert hopeless[0][1].startswith("s:d/a could not be brought to SOUTH-DISK in 8 tries: No such file or directory: ")
    assert [(t.status, t.tries) for t in lab.transfers()] == [("failed", 8)]
    # if the carrier dies before it fails them, the sweeper does so soon
    assert lab.query("SELECT 1 FROM job_due WHERE waits_for = 'data' AND due_at < panda_now() + interval '1 minute'")
    assert lab.due(jobs[0]).error == hopeless[0][1]


def test_after_a_failed_transfer_the_next_attempt_gets_a_new_one(lab):
    path = lab.put("s:d/a", b"abc")
    path.rename(path.with_name("hidden"))
    [job] = lab.bound_jobs(inputs=["s:d/a"])
    request(lab, [job])
    carry_out_all(lab)
    path.with_name("hidden").rename(path)

    assert request(lab, [job]) == []
    assert carry_out_all(lab) == []

    assert [t.status for t in lab.transfers()] == ["failed", "done"]
    assert lab.due(job).waits_for is None


def test_an_offline_destination_is_tried_again_later(lab):
    lab.put("s:d/a", b"abc")
    request(lab, lab.bound_jobs(inputs=["s:d/a"]))
    lab.do("UPDATE storages SET status = 'offline' WHERE name = 'SOUTH-DISK'")

    transfers.carry_out(lab.begin, due_ids(lab), lab.settings)

    assert due_ids(lab) == []
    [waiting_one] = lab.transfers()
    assert (waiting_one.status, waiting_one.error) == ("queued", "storage SOUTH-DISK is offline")


def test_a_transfer_whose_mover_was_killed_is_taken_again(lab):
    lab.put("s:d/a", b"abc")
    [job] = lab.bound_jobs(inputs=["s:d/a"])
    request(lab, [job])
    lost = due_ids(lab)
    with lab.begin() as connection:
        assert transfers.requeue_expired(connection) == 0
    lab.do("UPDATE transfers SET lease_until = panda_now() - interval '1 second'")

    with lab.begin() as connection:
        assert transfers.requeue_expired(connection) == 1
    again = due_ids(lab)
    transfers.carry_out(lab.begin, again, lab.settings)

    assert again == lost
    assert lab.due(job).waits_for is None


def test_a_mover_killed_between_the_copy_and_the_waking_loses_nothing(lab, monkeypatch):
    lab.put("s:d/a", b"abc")
    [job] = lab.bound_jobs(inputs=["s:d/a"])
    request(lab, [job])

    class Killed(BaseException):
        pass

    def killed(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(waiting, "count_down", killed)
        with pytest.raises(Killed):
            transfers.carry_out(lab.begin, due_ids(lab), lab.settings)
    assert lab.due(job).waits_for == "data"
    lab.where("s:d/a", "NORTH-DISK").unlink()  # it must not be copied again
    lab.do("UPDATE transfers SET lease_until = panda_now() - interval '1 second', tries = 8")
    with lab.begin() as connection:
        transfers.requeue_expired(connection)

    assert carry_out_all(lab) == []

    assert lab.due(job).waits_for is None
    assert [t.status for t in lab.transfers()] == ["done"]


def test_a_message_that_comes_twice_is_carried_out_once(lab, monkeypatch):
    lab.put("s:d/a", b"abc")
    [job] = lab.bound_jobs(inputs=["s:d/a"])
    request(lab, [job])
    ids = due_ids(lab)
    copies = []
    copy = LocalMover.copy

    def counted(self, source: Place, destination: Place, expected: Content, tick: Tick) -> None:
        copies.append(destination)
        transfers.carry_out(lab.begin, ids, lab.settings)  # the duplicate, in the middle of the copy
        copy(self, source, destination, expected, tick)

    monkeypatch.setattr(LocalMover, "copy", counted)
    transfers.carry_out(lab.begin, ids, lab.settings)

    assert len(copies) == 1
    assert [(t.status, t.tries) for t in lab.transfers()] == [("done", 1)]
    assert lab.due(job).missing == 0


def test_a_slow_mover_whose_lease_ran_out_spoils_nothing(lab, monkeypatch):
    lab.put("s:d/a", b"abc")
    [job] = lab.bound_jobs(inputs=["s:d/a"])
    request(lab, [job])

    def overtaken(self, source: Place, destination: Place, expected: Content, tick: Tick) -> None:
        monkeypatch.undo()
        lab.do("UPDATE transfers SET lease_until = panda_now() - interval '1 second'")
        with lab.begin() as connection:
            transfers.requeue_expired(connection)
        carry_out_all(lab)
        raise OSError(5, "the disk broke", "a")

    monkeypatch.setattr(LocalMover, "copy", overtaken)

    assert transfers.carry_out(lab.begin, due_ids(lab), lab.settings) == []
    assert [(t.status, t.tries) for t in lab.transfers()] == [("done", 2)]
    assert lab.due(job).waits_for is None


def test_a_slow_mover_on_its_last_try_does_not_give_up_what_another_carries(lab, monkeypatch):
    lab.put("s:d/a", b"abc")
    [job] = lab.bound_jobs(inputs=["s:d/a"])
    request(lab, [job])
    lab.do("UPDATE transfers SET tries = 7")

    def overtaken(self, source: Place, destination: Place, expected: Content, tick: Tick) -> None:
        lab.do("UPDATE transfers SET tries = 9, source = 'WEST-DISK'")  # another one took it
        raise OSError(5, "the disk broke", "a")

    monkeypatch.setattr(LocalMover, "copy", overtaken)

    assert transfers.carry_out(lab.begin, due_ids(lab), lab.settings) == []
    assert [(t.status, t.tries) for t in lab.transfers()] == [("moving", 9)]
    assert (lab.due(job).waits_for, lab.due(job).missing) == ("data", 1)
    assert len(lab.query("SELECT * FROM transfer_waiters")) == 1


def test_a_copy_that_somebody_else_makes_is_asked_after_and_costs_no_try(lab, monkeypatch):
    lab.put("s:d/a", b"abc")
    [job] = lab.bound_jobs(inputs=["s:d/a"])
    request(lab, [job])

    def elsewhere(*_):
        raise Underway("rule 7 is REPLICATING", 60.0)

    with monkeypatch.context() as patch:
        patch.setattr(LocalMover, "copy", elsewhere)
        for _ in range(lab.settings.data.transfer_tries + 1):
            assert transfers.carry_out(lab.begin, due_ids(lab), lab.settings) == []
            [waits] = lab.query("SELECT *, due_at - panda_now() AS for_s FROM transfers")
            assert (waits.status, waits.tries, waits.error) == ("queued", 0, "rule 7 is REPLICATING")
            assert 50 < waits.for_s.total_seconds() <= 60
            assert due_ids(lab) == []
            lab.do("UPDATE transfers SET due_at = panda_now()")
    assert lab.due(job).waits_for == "data"

    assert carry_out_all(lab) == []
    assert lab.due(job).waits_for is None


def test_who_is_late_to_say_that_somebody_else_copies_does_not_undo_what_another_carrier_began(lab, monkeypatch):
    lab.put("s:d/a", b"abc")
    request(lab, lab.bound_jobs(inputs=["s:d/a"]))
    [transfer_id] = due_ids(lab)

    def elsewhere(*_):
        lab.do("UPDATE transfers SET tries = tries + 1")  # our lease ran out, another has it
        raise Underway("rule 7 is REPLICATING", 60.0)

    monkeypatch.setattr(LocalMover, "copy", elsewhere)
    transfers.carry_out(lab.begin, [transfer_id], lab.settings)

    [row] = lab.query("SELECT * FROM transfers")
    assert (row.status, row.tries) == ("moving", 2)


def test_a_killed_job_is_not_woken_by_its_file(lab):
    lab.put("s:d/a", b"abc")
    killed, other = lab.bound_jobs(2, inputs=["s:d/a"])
    request(lab, [killed, other])
    lab.do("UPDATE job_due SET stage = 'archive', waits_for = 'operator', missing = 0 WHERE panda_id = %(i)s", i=killed)

    carry_out_all(lab)

    assert (lab.due(killed).stage, lab.due(killed).waits_for) == ("archive", "operator")
    assert lab.due(other).waits_for is None


def test_a_job_that_was_sent_elsewhere_does_not_count_the_files_of_its_first_site(lab):
    lab.put("s:d/a", b"abc")
    [job] = lab.bound_jobs(inputs=["s:d/a"], queue="SOUTH-Q")
    request(lab, [job])
    lab.do("UPDATE jobs SET computing_site = 'WEST-Q'")
    request(lab, [job])
    to_south, to_west = sorted(due_ids(lab))

    transfers.carry_out(lab.begin, [to_south], lab.settings)
    assert (lab.due(job).waits_for, lab.due(job).missing) == ("data", 1)

    transfers.carry_out(lab.begin, [to_west], lab.settings)
    assert lab.due(job).waits_for is None


def test_transfers_that_nobody_waits_for_are_forgotten(lab):
    lab.put("s:d/a", b"abc")
    lab.put("s:d/b", b"abc")
    [gone] = lab.bound_jobs(inputs=["s:d/a"])
    [waits] = lab.bound_jobs(inputs=["s:d/b"])
    request(lab, [gone, waits])
    lab.do("DELETE FROM job_due WHERE panda_id = %(i)s", i=gone)

    with lab.begin() as connection:
        assert transfers.forget_unwanted(connection) == 1

    assert len(lab.transfers()) == 1
    assert [row.panda_id for row in lab.query("SELECT panda_id FROM transfer_waiters")] == [waits]


def test_what_a_late_job_lacks_is_said(lab):
    lab.put("s:d/a", b"abc").unlink()
    lab.put("s:d/b", b"abc")
    [job] = lab.bound_jobs(inputs=["s:d/a", "s:d/b"])
    request(lab, [job])
    transfers.carry_out(lab.begin, due_ids(lab)[:1], lab.settings)

    with lab.begin() as connection:
        sentences = transfers.deadline_passed(connection, [job])

    assert sentences[job].startswith("s:d/a and 1 more did not reach SOUTH-DISK in time (No such file")


# ---- two connections at once ------------------------------------------------------------------


def test_the_last_two_transfers_ending_at_once_wake_the_job_exactly_once(lab):
    lab.put("s:d/a", b"abc")
    lab.put("s:d/b", b"defg")
    [job] = lab.bound_jobs(inputs=["s:d/a", "s:d/b"])
    request(lab, [job])
    one, other = due_ids(lab)
    woken = []

    def end_other():
        with lab.begin() as connection:
            waiting.count_down(connection, other)
            woken.append(("other", _missing(connection, job)))

    with lab.begin() as connection:
        waiting.count_down(connection, one)  # holds the job's row
        _, join = in_thread(end_other)
        wait_for_lock(lab)
        woken.append(("one", _missing(connection, job)))
    join()

    assert woken == [("one", ("data", 1)), ("other", (None, 0))]


def _missing(connection, panda_id):
    row = connection.exec_driver_sql("SELECT waits_for, missing FROM job_due WHERE panda_id = %s", (panda_id,)).one()
    return row.waits_for, row.missing


def test_stage_in_against_a_transfer_that_is_just_entering_its_replica(lab):
    lab.put("s:d/a", b"abc")
    [first] = lab.bound_jobs(inputs=["s:d/a"])
    [second] = lab.bound_jobs(inputs=["s:d/a"])
    request(lab, [first])
    [transfer_id] = due_ids(lab)
    result = []

    with lab.begin() as connection:
        connection.exec_driver_sql(transfers.HOLD, {"transfer_id": transfer_id})
        connection.exec_driver_sql("INSERT INTO replicas SELECT file_id, 'SOUTH-DISK', path, panda_now() FROM replicas")
        _, join = in_thread(lambda: result.append(request(lab, [second])))
        wait_for_lock(lab)  # it saw no replica and waits for the transfer's row
    join()

    assert result == [[second]]
    assert [row.panda_id for row in lab.query("SELECT panda_id FROM transfer_waiters")] == [first]


def test_a_transfer_that_ends_while_stage_in_attaches_waits_and_wakes_the_job(lab):
    lab.put("s:d/a", b"abc")
    [first] = lab.bound_jobs(inputs=["s:d/a"])
    [second] = lab.bound_jobs(inputs=["s:d/a"])
    request(lab, [first])
    ids = due_ids(lab)

    with lab.begin() as connection:
        assert transfers.request_inputs(connection, [second], deadline_s=60) == []
        _, join = in_thread(lambda: transfers.carry_out(lab.begin, ids, lab.settings))
        wait_for_lock(lab)
    join()

    assert {lab.due(job).waits_for for job in (first, second)} == {None}
    assert [t.status for t in lab.transfers()] == ["done"]


def test_a_transfer_that_is_given_up_while_stage_in_attaches_tells_that_job_too(lab):
    lab.put("s:d/a", b"abc").unlink()
    [first] = lab.bound_jobs(inputs=["s:d/a"])
    [second] = lab.bound_jobs(inputs=["s:d/a"])
    request(lab, [first])
    ids = due_ids(lab)
    lab.do("UPDATE transfers SET tries = 7")
    hopeless = []

    with lab.begin() as connection:
        assert transfers.request_inputs(connection, [second], deadline_s=60) == []
        _, join = in_thread(lambda: hopeless.extend(transfers.carry_out(lab.begin, ids, lab.settings)))
        wait_for_lock(lab)
    join()

    assert sorted(panda_id for panda_id, _ in hopeless) == [first, second]
    assert [t.status for t in lab.transfers()] == ["failed"]


def test_two_passes_that_want_the_same_files_share_their_transfers(lab):
    for lfn in "abc":
        lab.put(f"s:d/{lfn}", b"abc")
    forward = lab.bound_jobs(3, inputs=["s:d/a", "s:d/b", "s:d/c"])
    backward = lab.bound_jobs(3, inputs=["s:d/c", "s:d/b", "s:d/a"])

    with lab.begin() as connection:
        transfers.request_inputs(connection, forward, deadline_s=60)
        _, join = in_thread(lambda: request(lab, backward))
        wait_for_lock(lab)
    join()

    assert len(lab.transfers()) == 3
    assert {lab.due(job).missing for job in forward + backward} == {3}


def test_a_kill_that_holds_the_job_is_waited_for_and_respected(lab):
    lab.put("s:d/a", b"abc")
    [job] = lab.bound_jobs(inputs=["s:d/a"])
    request(lab, [job])
    ids = due_ids(lab)

    with lab.begin() as connection:
        due.lock(connection, [job])
        _, join = in_thread(lambda: transfers.carry_out(lab.begin, ids, lab.settings))
        wait_for_lock(lab)
        due.wake(connection, [job], stage="archive")
    join()

    assert (lab.due(job).stage, lab.due(job).missing) == ("archive", 1)
    assert [t.status for t in lab.transfers()] == ["done"]


def test_a_job_that_attaches_just_before_its_transfer_is_forgotten_keeps_it(lab):
    lab.put("s:d/a", b"abc")
    [gone] = lab.bound_jobs(inputs=["s:d/a"])
    [late] = lab.bound_jobs(inputs=["s:d/a"])
    request(lab, [gone])
    lab.do("UPDATE job_due SET waits_for = 'operator' WHERE panda_id = %(i)s", i=gone)
    forgotten = []

    with lab.begin() as connection:
        transfers.request_inputs(connection, [late], deadline_s=60)
        with lab.begin() as other:
            forgotten.append(transfers.forget_unwanted(other))  # skips the row that is held
    with lab.begin() as other:
        forgotten.append(transfers.forget_unwanted(other))

    assert forgotten == [0, 0]
    assert len(lab.transfers()) == 1
