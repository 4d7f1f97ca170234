"""People hear of what they asked to hear of, once; and nobody else does."""

import pytest

from panda.db.session import run
from panda.errors import Invalid, NotFound, UnknownName
from panda.jobs import incidents, notices
from panda.jobs.incidents import Incident

PEOPLE = "INSERT INTO users (name, roles, created_at) VALUES ('alice', '{user}', panda_now()), ('bob', '{user}', panda_now())"


@pytest.fixture
def alice(world):
    """alice.rule(...), alice.feed()"""
    with world.begin() as connection:
        run(connection, PEOPLE)

    class Alice:
        def rule(self, kind, above_percent=None):
            with world.begin() as connection:
                notices.add_rule(connection, "alice", kind, above_percent)

        def feed(self):
            with world.begin() as connection:
                notices.tell(connection)
                return [notice["message"] for notice in notices.newest(connection, "alice")]

    return Alice()


def ends(world, *exit_codes, owner="alice"):
    """A set whose jobs end like this."""
    accepted = world.submit(jobs=[{"command": ["true"]}] * len(exit_codes), owner=owner, defaults={"max_attempts": 1})
    world.settle()
    for job, code in zip(world.acquire(len(exit_codes)), exit_codes, strict=True):
        world.report(job, "running")
        world.fail(job, code) if code else world.report(job, "finished")
    world.settle()
    return accepted.jobset_id


def test_the_end_of_a_set_is_told_once_to_its_owner_alone(world, alice):
    alice.rule("set_ended")
    mine, _ = ends(world, 0, 3), ends(world, 0, owner="bob")

    assert alice.feed() == [f"Job set {mine} (set) ended: 1 finished, 1 failed, 0 cancelled"]
    assert len(alice.feed()) == 1
    with world.begin() as connection:
        assert (notices.mark_read(connection, "alice"), notices.mark_read(connection, "alice")) == (1, 0)


@pytest.mark.parametrize(("above", "is_told"), [(40, True), (60, False)])
def test_a_set_that_fails_more_than_its_share_is_told(world, alice, above, is_told):
    alice.rule("set_failing", above)
    jobset_id = ends(world, 0, 3)

    assert alice.feed() == ([f"1 of 2 jobs of set {jobset_id} (set) failed"] if is_told else [])


def test_what_ended_before_the_rule_is_not_told(world, alice):
    ends(world, 0)
    world.pass_time(1)
    alice.rule("set_ended")

    assert alice.feed() == []


def test_an_incident_is_told_until_somebody_answers_it(world, alice):
    alice.rule("incident")
    with world.begin() as connection:
        incidents.report(connection, [Incident("relay", "error", "a", "late"), Incident("relay", "error", "b", "answered"),
                                      Incident("relay", "warning", "c", "small")])  # fmt: skip
        [number] = [row.incident_id for row in incidents.newest(connection) if row.key == "b"]
        incidents.answer(connection, number, closes=False, by="olga", comment="I look", request_id=None)

    assert alice.feed() == ["relay: late"]


def test_a_rule_that_cannot_be_meant_is_refused(world, alice):
    for kind, percent, problem in [("lunch", None, UnknownName), ("set_failing", None, Invalid), ("set_ended", 5, Invalid),
                                   ("set_failing", 100, Invalid)]:  # fmt: skip
        with pytest.raises(problem):
            alice.rule(kind, percent)
    with pytest.raises(NotFound), world.begin() as connection:
        notices.drop_rule(connection, "alice", 1)
    with world.begin() as connection:
        assert notices.rules(connection, "alice") == []
