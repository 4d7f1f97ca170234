"""What a hostile look found: jobs that could be lost, stuck, or said to be what they are not."""

from pathlib import Path
from typing import Any

import pytest

from panda.db.session import rows, run
from panda.dispatcher.words import OutputReport
from panda.errors import Invalid
from panda.jobs import kill, relaying, retry
from panda.jobs.submission import Accepted
from panda.states import Stage


def retry_one(world: Any, panda_id: int, stage: Stage | None = None) -> retry.RetryOutcome:
    with world.begin() as connection:
        return retry.retry(connection, [panda_id], stage=stage, by="alice", reason="")


def spoil(world: Any, accepted: Accepted, document: str) -> None:
    """The stored document is one that a check at the door did not understand."""
    with world.begin() as connection:
        run(
            connection,
            "UPDATE jobsets SET document = %(document)s WHERE jobset_id = %(id)s",
            {"document": document, "id": accepted.jobset_id},
        )


def written(world: Any, *, output_dataset: str = "user.alice:shared", lfn: str = "out") -> tuple[int, Any]:
    """A job with one output, and the pilot that has it."""
    accepted = world.submit(jobs=[{"command": ["true"], "outputs": [lfn]}], output_dataset=output_dataset)
    world.settle()
    [job] = world.acquire()
    return accepted.first_panda_id, job


def write(world: Any, job: Any) -> None:
    """The pilot writes the job's output and says that it finished."""
    path = Path(job.outputs[0].url.removeprefix("file://"))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"abc")
    world.report(
        job, "finished", outputs=[OutputReport(lfn=job.outputs[0].lfn, size_bytes=3, adler32="024d0127", guid=None)]
    )


# -- documents that cannot become jobs -------------------------------------------------------------


def test_a_dataset_named_twice_as_input_is_refused(world):
    with pytest.raises(Invalid) as refusal:
        world.submit(jobs=[{"command": ["true"], "inputs": ["mc:x", "mc:x"]}])
    assert refusal.value.code == "input_not_unique"
    twice = {"A": {"dataset": "mc:x", "files_per_job": 0}, "B": {"dataset": "mc:x", "files_per_job": 0}}
    with pytest.raises(Invalid) as refusal:
        world.submit(template={"command": ["true"], "inputs": twice})
    assert refusal.value.code == "input_not_unique"


@pytest.mark.parametrize(
    "outputs", [["a_${seq}", "a_${seq:d}"], ["../a_${seq}"], ["a" * 235 + "${seq:020d}"], ["x${seq}0", "x0${seq}"]]
)
def test_outputs_of_a_template_that_are_no_names_of_their_own_are_refused(world, outputs):
    with pytest.raises(Invalid):
        world.submit(template={"command": ["true"], "outputs": outputs, "count": 2})


def test_a_nul_character_is_refused_and_a_backslash_before_a_u_is_not(world):
    with pytest.raises(Invalid) as refusal:
        world.submit(jobs=[{"command": ["a\0b"]}])
    assert refusal.value.code == "nul"
    world.submit(jobs=[{"command": ["a\\u0000b"]}])


def test_a_format_is_tried_once_however_large_the_range_and_often_the_word(world):
    words = ["${x:06d}"] * 2000
    world.submit(template={"command": words, "matrix": {"x": {"range": [0, 999_999]}}})


def test_a_set_that_cannot_be_expanded_fails_and_stops_nobody(world):
    """Two outputs of job 11 are called x111; nothing at the door can see that."""
    poisoned = world.submit(template={"command": ["true"], "outputs": ["x${seq}1", "x1${seq}"], "count": 25})
    innocent = world.jobs()
    world.settle()

    assert world.status(innocent[0]) == "activated"
    ids = range(poisoned.first_panda_id, poisoned.last_panda_id + 1)
    statuses = [world.status(panda_id) for panda_id in ids]
    assert [n for n, status in enumerate(statuses) if status == "failed"] == [1, 11]
    assert set(statuses) == {"failed", "activated"}
    assert world.job(poisoned.first_panda_id + 11)["error_code"] == "define:bad_document"


def test_a_document_that_is_none_any_more_fails_its_jobs(world):
    accepted = world.submit(jobs=[{"command": ["true"]}] * 3)
    spoil(world, accepted, '{"nonsense": 1}')
    world.settle()
    assert {world.status(accepted.first_panda_id + n) for n in range(3)} == {"failed"}


def test_long_commands_go_in_chunks_that_fit_a_transaction(world):
    world.submit(template={"command": ["sh", "-c", "x" * 100_000], "count": 5000})
    world.turn_expansion()
    [row] = world.query("SELECT n_expanded FROM jobsets")
    assert 100 <= row.n_expanded <= 160


def test_a_long_list_of_values_does_not_make_chunks_small(world):
    values = [f"value-{n:06d}" for n in range(50_000)]
    world.submit(template={"command": ["true", "${x}"], "matrix": {"x": values}})
    world.turn_expansion()
    [row] = world.query("SELECT n_expanded FROM jobsets")
    assert row.n_expanded == world.engine.chunk_jobs


# -- kill ------------------------------------------------------------------------------------------


def test_a_kill_between_publication_and_end_does_not_cancel_a_job_with_published_outputs(world):
    panda_id, job = written(world)
    write(world, job)
    world.run_stage(Stage.STAGE_OUT, [panda_id])

    with world.begin() as connection:
        outcome = kill.request(connection, [panda_id], by="alice", reason="")
    assert outcome.refused[panda_id].startswith("its outputs are published")
    with world.begin() as connection:
        relaying.resend_waiting(connection)
    world.settle()
    assert world.status(panda_id) == "finished"


def test_the_end_of_a_set_passes_over_a_job_whose_outputs_are_published(world):
    panda_id, job = written(world)
    write(world, job)
    world.run_stage(Stage.STAGE_OUT, [panda_id])
    other = world.submit(jobs=[{"command": ["true"]}])
    world.turn_expansion()
    [mine] = world.query("SELECT jobset_id FROM jobs WHERE panda_id = %(id)s", id=panda_id)
    with world.begin() as connection:
        kill.request_jobset(connection, mine.jobset_id, by="alice", reason="")
        kill.request_jobset(connection, other.jobset_id, by="alice", reason="")
    world.settle()
    assert world.status(other.first_panda_id) == "cancelled"
    assert world.status(panda_id) == "finished"


def test_a_job_whose_end_was_asked_for_does_not_start_over_by_itself(world):
    [panda_id] = world.jobs()
    world.settle()
    [job] = world.acquire()
    with world.begin() as connection:
        kill.request(connection, [panda_id], by="alice", reason="")
    world.report(job, "failed", error_code=1201, error_message="killed by signal")
    assert world.status(panda_id) == "failed"


# -- retry -----------------------------------------------------------------------------------------


def test_a_payload_that_failed_does_not_finish_by_a_retry_from_stage_out(world):
    [panda_id] = world.jobs()
    world.settle()
    [job] = world.acquire()
    world.fail(job)
    assert panda_id in retry_one(world, panda_id, Stage.STAGE_OUT).refused
    world.settle()
    assert world.status(panda_id) == "failed"


def test_a_job_whose_inputs_were_never_bound_cannot_start_behind_define(world):
    accepted = world.submit(jobs=[{"command": ["true"], "inputs": ["mc:nothing/there"]}])
    world.settle()
    assert accepted.first_panda_id in retry_one(world, accepted.first_panda_id, Stage.BROKER).refused


def test_published_outputs_are_never_written_over_by_a_retry(world):
    panda_id, job = written(world)
    write(world, job)
    world.run_stage(Stage.STAGE_OUT, [panda_id])
    with world.begin() as connection:  # its archive stage ends its worker each time
        run(connection, "UPDATE job_due SET deliveries = 12, due_at = panda_now()")
    world.claim(final=True)
    assert world.job(panda_id)["error_code"] == "archive:poison"

    assert panda_id in retry_one(world, panda_id, Stage.BROKER).refused
    assert retry_one(world, panda_id).retried == [panda_id]
    world.settle()
    assert world.status(panda_id) == "finished"


def test_a_retry_in_a_set_whose_cancellation_is_done_lives(world):
    accepted = world.submit(jobs=[{"command": ["true"]}] * 2)
    world.settle()
    [first] = world.acquire()
    world.fail(first)
    with world.begin() as connection:
        kill.request_jobset(connection, accepted.jobset_id, by="alice", reason="")
    assert retry_one(world, first.panda_id).refused[first.panda_id] == "its job set is being cancelled"
    world.settle()

    assert retry_one(world, first.panda_id).retried == [first.panda_id]
    world.settle()
    assert world.status(first.panda_id) == "activated"


def test_a_retry_does_not_run_ahead_of_the_parents(world):
    parent = world.submit(jobs=[{"command": ["true"]}])
    child = world.submit(jobs=[{"command": ["true"]}], depends_on=[parent.jobset_id])
    world.settle()
    world.pass_time(world.engine.parent_wait_s + 1)
    world.sweep()
    assert world.status(child.first_panda_id) == "failed"
    assert child.first_panda_id in retry_one(world, child.first_panda_id).refused


# -- rows that nobody moves on ---------------------------------------------------------------------


def test_a_job_that_ended_and_was_sent_too_often_still_reaches_the_archive(world):
    [panda_id] = world.jobs()
    world.settle()
    with world.begin() as connection:
        kill.request(connection, [panda_id], by="alice", reason="")
        run(connection, "UPDATE job_due SET deliveries = 1000, due_at = panda_now()")
    world.settle()
    assert world.job(panda_id)["archived"]


def test_a_dataset_that_two_sets_write_closes_with_the_last_one(world):
    first_id, first = written(world, lfn="one")
    second_id, second = written(world, lfn="two")
    write(world, first)
    world.settle()
    write(world, second)
    world.settle()
    assert (world.status(first_id), world.status(second_id)) == ("finished", "finished")
    with world.begin() as connection:
        [dataset] = rows(connection, "SELECT status FROM datasets")
    assert dataset.status == "closed"


# -- a storage that goes away -----------------------------------------------------------------------


def set_storages(world: Any, status: str) -> None:
    with world.begin() as connection:
        run(connection, "UPDATE storages SET status = %(status)s", {"status": status})


def test_outputs_on_a_storage_that_is_away_wait_for_it(world):
    panda_id, job = written(world)
    write(world, job)
    set_storages(world, "offline")

    world.settle()
    waiting = world.due(panda_id)
    world.settle()
    set_storages(world, "online")
    world.pass_time(5)
    world.settle()

    assert (waiting.stage, waiting.waits_for, waiting.tries) == ("stage_out", None, 1)
    assert "is offline" in waiting.error
    assert (world.status(panda_id), world.job(panda_id)["attempt_nr"]) == ("finished", 1)


def test_a_storage_that_stays_away_costs_an_attempt_and_no_job(world):
    panda_id, job = written(world)
    write(world, job)
    set_storages(world, "offline")

    for _ in range(9):
        world.settle()
        world.pass_time(400)
    set_storages(world, "online")
    world.sweep()
    world.settle()

    [again] = world.acquire()
    write(world, again)
    world.settle()
    assert (world.status(panda_id), world.job(panda_id)["attempt_nr"]) == ("finished", 2)
