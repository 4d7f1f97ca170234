"""Outputs reach the catalogue only if they are what the pilot said, and go where the job set wants them."""

import pytest

from panda.dataservice import admission, catalog, outputs, transfers


@pytest.fixture(autouse=True)
def out(lab):
    with lab.begin() as connection:
        return catalog.create(connection, "s:out", owner="alice")


def ran_jobs(lab, n=1, lfns=("o",), **more):
    """Jobs that a pilot ran: their outputs have a place."""
    references = [f"s:out/{lfn}" for lfn in lfns]
    jobs = lab.jobs(n, outputs=references, stage="stage_out", status="holding", **more)
    with lab.begin() as connection:
        outputs.reserve(connection, jobs)
    return jobs


def register(lab, jobs):
    with lab.begin() as connection:
        return outputs.register(connection, jobs, outputs.reported(connection, jobs), deadline_s=60)


def test_each_attempt_writes_to_a_place_of_its_own(lab):
    [job] = ran_jobs(lab)
    [first] = lab.query("SELECT storage, path, attempt_nr FROM job_files")
    lab.do("UPDATE jobs SET attempt_nr = 2, computing_site = 'WEST-Q'")
    with lab.begin() as connection:
        outputs.reserve(connection, [job])
    [second] = lab.query("SELECT storage, path, attempt_nr FROM job_files")

    assert (first.storage, first.attempt_nr, first.path.rpartition("/")[2]) == ("SOUTH-DISK", 1, f"o@{job}.1")
    assert (second.storage, second.attempt_nr, second.path.rpartition("/")[2]) == ("WEST-DISK", 2, f"o@{job}.2")


def test_verified_outputs_are_registered_and_the_jobs_go_on(lab):
    jobs = ran_jobs(lab, 1, lfns=("o1", "o2"))
    lab.write_output(jobs[0], "o1", b"abc")
    lab.write_output(jobs[0], "o2", b"")
    other = lab.jobs()

    assert outputs.verify(lab.begin, jobs + other) == {}
    assert register(lab, jobs + other) == jobs + other
    assert register(lab, jobs + other) == jobs + other  # safe to run twice

    with lab.begin() as connection:
        files = catalog.files_of(connection, "s:out")
        dataset = catalog.show(connection, "s:out")
    assert [(f.lfn, f.size_bytes, f.storages) for f in files] == [("o1", 3, ["SOUTH-DISK"]), ("o2", 0, ["SOUTH-DISK"])]
    assert (dataset.n_files, dataset.size_bytes) == (2, 3)
    assert {r.status for r in lab.query("SELECT status FROM job_files")} == {"registered"}


def test_an_output_that_is_not_what_the_pilot_said_is_a_problem(lab):
    fine, cut, gone, silent = (
        ran_jobs(lab, 1),
        ran_jobs(lab, 1, ("p",)),
        ran_jobs(lab, 1, ("q",)),
        ran_jobs(lab, 1, ("r",)),
    )
    lab.write_output(fine[0], "o", b"abc")
    lab.write_output(cut[0], "p", b"abc").write_bytes(b"ab")
    lab.write_output(gone[0], "q", b"abc").unlink()

    problems = outputs.verify(lab.begin, fine + cut + gone + silent)

    assert problems == {
        cut[0]: "output p holds 2 bytes with adler32 012600c4, the pilot reported 3 with 024d0127",
        gone[0]: "output q is not on storage SOUTH-DISK",
        silent[0]: "output r was not written",
    }


def test_a_storage_that_is_away_is_no_verdict(lab):
    [job] = ran_jobs(lab, 1)
    lab.write_output(job, "o", b"abc")

    lab.do("UPDATE storages SET status = 'offline'")
    offline = outputs.verify(lab.begin, [job])
    lab.do("UPDATE storages SET status = 'online', kind = 'http', root = 'http://127.0.0.1:1'")
    silent = outputs.verify(lab.begin, [job])

    assert isinstance(offline[job], outputs.Away)
    assert isinstance(silent[job], outputs.Away)
    assert "does not answer" in silent[job]


def test_of_two_jobs_that_write_one_name_the_first_keeps_it(lab):
    first, second = ran_jobs(lab, 2)
    for job in (first, second):
        lab.write_output(job, "o", b"abc")

    together = outputs.verify(lab.begin, [first, second])
    register(lab, [first])
    later = outputs.verify(lab.begin, [second])

    assert together == {second: f"job {first} writes o into dataset s:out too"}
    assert later == {second: f"dataset s:out has another file o already, from job {first}"}


def test_outputs_that_belong_elsewhere_are_shipped_before_the_job_goes_on(lab):
    jobs = ran_jobs(lab, 1, lfns=("o1", "o2"), output_storage="NORTH-DISK")
    lab.write_output(jobs[0], "o1", b"abc")
    lab.write_output(jobs[0], "o2", b"defg")
    assert outputs.verify(lab.begin, jobs) == {}

    assert register(lab, jobs) == []
    parked = lab.due(jobs[0])
    with lab.begin() as connection:
        ids = admission.due_ids(connection, 10, 60)
    assert transfers.carry_out(lab.begin, ids, lab.settings) == []
    woken = lab.due(jobs[0])

    assert (parked.stage, parked.waits_for, parked.missing) == ("stage_out", "data", 2)
    assert (woken.stage, woken.waits_for) == ("stage_out", None)
    assert outputs.verify(lab.begin, jobs) == {}
    assert register(lab, jobs) == jobs
    assert lab.where("s:out/o2", "NORTH-DISK").read_bytes() == b"defg"
    assert [r.status for r in lab.query("SELECT status FROM jobs")] == ["transferring"]


def test_outputs_that_are_where_they_belong_need_no_transfer(lab):
    jobs = ran_jobs(lab, 1, output_storage="SOUTH-DISK")
    lab.write_output(jobs[0], "o", b"abc")

    assert register(lab, jobs) == jobs
    assert lab.transfers() == []
