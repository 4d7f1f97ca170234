"""A job that is held stands still, whatever the engine does, and goes on where it stood once it is released."""

import threading

import pytest

from panda.jobs import expansion, hold, jobsets, kill, why
from panda.states import Stage


def held(world, *panda_ids, by="alice", reason="wait for me", may_all=False):
    with world.begin() as connection:
        return hold.hold(connection, panda_ids, by=by, reason=reason, may_all=may_all)


def released(world, *panda_ids, by="alice", may_all=False):
    with world.begin() as connection:
        return hold.release(connection, panda_ids, by=by, may_all=may_all)


def place(world, panda_id):
    due = world.due(panda_id)
    return world.status(panda_id), due.stage, due.waits_for


def told(world, panda_id):
    with world.begin() as connection:
        return why.why(connection, panda_id).summary


def run_to_its_end(world, panda_id):
    world.settle()
    [job] = world.acquire()
    assert job.panda_id == panda_id
    world.report(job, "finished")
    world.settle()
    assert world.status(panda_id) == "finished"


def test_a_ready_job_that_is_held_gives_its_queue_back_and_no_pilot_gets_it(world):
    [panda_id] = world.jobs()
    world.settle()

    assert held(world, panda_id) == ([panda_id], {})
    world.settle()

    assert place(world, panda_id) == ("defined", "broker", "operator")
    assert world.acquire() == []
    assert told(world, panda_id) == "alice holds it: wait for me. Once released, it goes on at stage broker."
    assert released(world, panda_id) == ([panda_id], {})
    run_to_its_end(world, panda_id)
    assert world.moves(panda_id)[:5] == ["pending", "defined", "assigned", "activated", "defined"]


@pytest.mark.parametrize("stages", [0, 1, 2, 3])
def test_a_job_is_held_at_any_place_before_a_pilot_has_it_and_ends_well(world, stages):
    [panda_id] = world.jobs()
    world.turn_expansion()
    world.claim(final=False)
    for stage in (Stage.DEFINE, Stage.BROKER, Stage.STAGE_IN)[:stages]:
        world.run_stage(stage, [panda_id])

    assert held(world, panda_id).done == [panda_id]
    for stage in (Stage.DEFINE, Stage.BROKER, Stage.STAGE_IN, Stage.ACTIVATE):  # messages that are still on their way
        assert world.run_stage(stage, [panda_id]) == []
    before = place(world, panda_id)
    world.pass_time(100 * 3600)
    world.sweep()

    assert (
        before
        == place(world, panda_id)
        == (*(("pending", "define") if stages == 0 else ("defined", "broker")), "operator")
    )
    assert released(world, panda_id).done == [panda_id]
    run_to_its_end(world, panda_id)


def test_what_a_pilot_has_or_what_ended_is_not_held_and_what_is_not_held_is_not_released(world):
    first, second, third = world.jobs(3)
    world.settle()
    [job] = world.acquire()
    with world.begin() as connection:
        kill.request(connection, [second], by="alice", reason="")

    assert held(world, first, second, 10**9).refused == {
        first: "it is sent; only a job that no pilot has can be held",
        second: "it is cancelled; only a job that no pilot has can be held",
        10**9: "it is archived or unknown",
    }
    assert released(world, third).refused == {third: "it is not held"}
    world.fail(job)
    assert released(world, first).refused == {first: "it is not held"}  # it failed, and waits for a person as well


def test_what_an_operator_holds_its_owner_cannot_release(world):
    [panda_id] = world.jobs()
    world.settle()

    assert held(world, panda_id).done == [panda_id]
    assert held(world, panda_id, by="otto", reason="broken input", may_all=True).done == [panda_id]

    assert released(world, panda_id).refused == {panda_id: "otto holds it, and an operator has to release it"}
    assert held(world, panda_id).done == [panda_id]  # asking again changes nothing
    assert "otto holds it: broken input" in told(world, panda_id)
    assert released(world, panda_id, by="olga", may_all=True).done == [panda_id]
    run_to_its_end(world, panda_id)


def test_a_held_job_can_be_cancelled_and_its_note_is_tidied_away(world):
    [panda_id] = world.jobs()
    world.settle()
    held(world, panda_id)

    with world.begin() as connection:
        assert kill.request(connection, [panda_id], by="alice", reason="").asked == [panda_id]
    world.settle()
    world.pass_time(2 * 86_400)
    with world.begin() as connection:
        hold.tidy(connection)

    assert world.status(panda_id) == "cancelled"
    assert world.query("SELECT * FROM holds") == []


def test_a_job_that_waits_for_its_parents_is_held_past_their_end(world):
    [parent] = world.jobs()
    [child] = world.jobs(depends_on=[1])
    world.settle()
    held(world, child)

    run_to_its_end(world, parent)
    world.settle()
    assert place(world, child) == ("pending", "define", "operator")

    assert released(world, child).done == [child]
    run_to_its_end(world, child)


def test_a_job_released_before_its_parents_end_waits_for_them_again(world):
    [parent] = world.jobs()
    [child] = world.jobs(depends_on=[1])
    world.settle()
    until = world.due(child).due_at
    held(world, child)

    assert released(world, child).done == [child]
    assert place(world, child) == ("pending", "define", "parent")
    assert world.due(child).due_at == until  # the time that its parents have went on
    run_to_its_end(world, parent)
    run_to_its_end(world, child)


def test_a_release_and_the_end_of_the_parents_at_one_time_lose_no_job(world, begin):
    world.jobs()
    [child] = world.jobs(depends_on=[1])
    world.settle()
    held(world, child)
    [job] = world.acquire()
    world.report(job, "finished")
    for group in world.claim(final=True):
        world.run_chain(group.stage, group.panda_ids)
    entered, go_on = threading.Event(), threading.Event()

    def passes_them_by():
        """A releaser of the set, stopped before it commits."""
        with begin() as connection:
            assert expansion.release_chunk(connection, world.engine) == 1
            entered.set()
            go_on.wait(30)

    releaser = threading.Thread(target=passes_them_by)
    releaser.start()
    assert entered.wait(30)
    person = threading.Thread(target=lambda: released(world, child))
    person.start()
    while person.is_alive() and not world.query("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"):
        pass
    go_on.set()
    releaser.join(30)
    person.join(30)

    run_to_its_end(world, child)


def test_a_set_that_is_held_by_parents_that_failed_runs_when_it_is_released(world):
    world.jobs()
    [child] = world.jobs(depends_on=[1], on_parent_failure="hold")
    world.settle()
    [job] = world.acquire()
    world.fail(job)
    world.settle()
    assert place(world, child) == ("pending", "define", "parent")

    with world.begin() as connection:
        assert jobsets.pass_over_parents(connection, 2) == 1
    run_to_its_end(world, child)

    with world.begin() as connection:
        assert jobsets.pass_over_parents(connection, 2) == 0
