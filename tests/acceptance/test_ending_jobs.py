"""Jobs that people end, and jobs that they give another attempt."""

import pytest

from panda.client import Conflict


def test_a_job_that_waits_is_cancelled_at_once(user):
    accepted = user.submit(["true"], brokerage={"sites": ["WEST"]})
    panda_id = accepted.first_panda_id
    user.reaches(panda_id, "activated")

    affected = user.client.cancel(panda_id, reason="not needed any more")

    assert affected.n == 1
    assert user.client.job(panda_id).status == "cancelled"
    assert user.client.why(panda_id).summary == "It was cancelled by admin: not needed any more."


def test_a_job_that_runs_is_ended_by_its_pilot_also_when_it_ignores_sigterm(user, tmp_path):
    deaf = tmp_path / "deaf"
    accepted = user.submit(["sh", "-c", f"trap '' TERM; touch {deaf}; while :; do sleep 0.2; done"], ["sleep", "60"])
    stubborn, obedient = accepted.first_panda_id, accepted.last_panda_id
    for panda_id in (stubborn, obedient):
        user.reaches(panda_id, "running")
        user.client.cancel(panda_id, reason="enough")

    jobs = user.ended(accepted, within_s=30)

    assert [job.status for job in jobs] == ["cancelled", "cancelled"]
    assert deaf.exists()
    for job in jobs:
        assert job.kill_requested_at is not None
        assert user.client.why(job.panda_id).summary.startswith("It was cancelled by pilot: killed on request")


def test_a_whole_set_is_cancelled_the_waiting_and_the_running(user):
    accepted = user.submit(template={"command": ["sleep", "60"], "count": 40})
    user.client.wait(jobsets=[accepted.jobset_id], timeout_s=30, until=lambda w: w.by_status.get("running", 0) > 0)

    user.client.cancel_jobset(accepted.jobset_id, reason="wrong input")
    jobs = user.ended(accepted, within_s=30)

    jobset = user.client.jobset(accepted.jobset_id)
    assert {job.status for job in jobs} == {"cancelled"}
    assert (jobset.status, jobset.ledger.cancelled) == ("cancelled", 40)


def test_what_has_ended_cannot_be_cancelled_and_what_finished_cannot_be_retried(user):
    [job] = user.run(["true"])

    cancelled = user.client.cancel(job.panda_id)
    with pytest.raises(Conflict) as not_retried:
        user.client.retry(job.panda_id)
    with pytest.raises(Conflict) as set_not_cancelled:
        user.client.cancel_jobset(job.jobset_id)

    assert (cancelled.n, list(cancelled.refused)) == (0, [str(job.panda_id)])
    assert not_retried.value.code == "cannot_retry"
    assert set_not_cancelled.value.code == "jobset_ended"
    assert user.client.job(job.panda_id).status == "finished"


def test_failed_jobs_succeed_at_their_second_attempt(user):
    accepted = user.submit(["sh", "-c", "test $PANDA_ATTEMPT = 2"], ["true"], ["sh", "-c", "test $PANDA_ATTEMPT = 2"])
    before = [job.status for job in user.ended(accepted)]

    affected = user.client.retry_jobset(accepted.jobset_id, reason="once more")
    jobs = user.ended(accepted)

    assert before == ["failed", "finished", "failed"]
    assert affected.n == 2
    assert [(job.status, job.attempt_nr) for job in jobs] == [("finished", 2), ("finished", 1), ("finished", 2)]
    first, second = user.client.attempts(jobs[0].panda_id)
    assert (first.outcome, first.error_code, second.outcome) == ("failed", "payload:1", "finished")
    assert user.client.jobset(accepted.jobset_id).status == "finished"


def test_a_set_whose_parent_failed_is_closed_with_the_reason(user):
    parent = user.submit(["false"])
    child = user.submit(["true"], depends_on=[parent.jobset_id])

    [job] = user.ended(child)

    assert job.status in ("closed", "cancelled")
    assert str(parent.jobset_id) in user.client.why(job.panda_id).summary
