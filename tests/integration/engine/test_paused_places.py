"""What an operator pauses stays where it is until it is resumed, and everybody who waits is told why."""

import pytest

from panda.dispatcher import matching
from panda.errors import Invalid, NotFound, UnknownName
from panda.jobs import rebroker, switches, why
from panda.jobs.switches import Place, What
from panda.sites.status import set_queue_status
from panda.sites.waking import look_again


@pytest.fixture
def pause(world):
    """pause(what, **place)"""

    def make(what, *, for_s=None, **place):
        with world.begin() as connection:
            switches.pause(connection, what, Place(**place), by="olga", reason="the disk burns", for_s=for_s)

    return make


@pytest.fixture
def resume(world):
    """resume(what, **place)"""

    def make(what, **place):
        with world.begin() as connection:
            switches.resume(connection, what, Place(**place), by="olga", reason="it is out")
            look_again(connection)

    return make


def ready(world, n=1):
    panda_ids = world.jobs(n)
    world.settle()
    return panda_ids


def told(world, pilot_id):
    return world.query("SELECT nothing_because FROM pilots WHERE pilot_id = %(id)s", id=pilot_id)[0].nothing_because


@pytest.mark.parametrize("place", [{}, {"site": "NORTH"}, {"queue": "NORTH-Q"}, {"queue": "NORTH-Q", "node": "node-1"}])
def test_where_dispatch_is_paused_no_pilot_gets_a_job_until_it_is_resumed(world, pause, resume, place):
    ready(world, 4)
    pause("dispatch", **place)

    assert world.acquire(4, queue="NORTH-Q") == []
    assert "by olga: the disk burns" in told(world, "pilot-1")
    assert bool(world.acquire(1, queue="SOUTH-Q", pilot_id="pilot-2")) == bool(place)

    resume("dispatch", **place)
    assert world.acquire(1, queue="NORTH-Q")


def test_other_nodes_of_a_queue_go_on_while_one_is_taken_out(world, pause):
    ready(world, 2)
    pause("dispatch", queue="NORTH-Q", node="node-1")
    pause("dispatch", queue="SOUTH-Q")

    assert world.acquire(1, queue="NORTH-Q", node="node-2", pilot_id="pilot-2")


def test_a_pause_ends_by_itself_when_its_time_is_over(world, pause):
    ready(world, 2)
    pause("dispatch", for_s=60)
    assert world.acquire(2) == []

    world.pass_time(61)

    assert world.acquire(2)


def test_while_brokerage_is_paused_at_a_site_jobs_go_to_another_one(world, pause):
    pause("brokerage", site="NORTH")

    panda_ids = ready(world, 6)

    assert {world.job(panda_id)["computing_site"] for panda_id in panda_ids} == {"SOUTH-Q"}


def test_while_brokerage_is_paused_everywhere_jobs_wait_and_know_why(world, pause, resume):
    pause("brokerage")
    [panda_id] = ready(world)

    with world.begin() as connection:
        answer = why.why(connection, panda_id)
    assert (world.status(panda_id), world.due(panda_id).waits_for) == ("defined", "queue")
    assert "brokerage is paused by olga: the disk burns" in str(answer.decision.funnel)

    resume("brokerage")
    world.settle()
    assert world.status(panda_id) == "activated"


def test_a_job_that_waits_for_a_pilot_knows_of_the_pause(world, pause):
    [panda_id] = ready(world)
    pause("dispatch")

    with world.begin() as connection:
        assert "dispatch is paused by olga: the disk burns" in why.why(connection, panda_id).summary


def test_claims_go_by_a_picture_and_ask_nothing(world, monkeypatch):
    ready(world)
    asked = []
    original = switches.current
    monkeypatch.setattr(switches, "current", lambda connection: asked.append(1) or original(connection))
    monkeypatch.setattr(switches, "TRUST_S", 60.0)
    matching.forget()
    with world.begin() as connection:
        for queue in ("NORTH-Q", "SOUTH-Q", "NORTH-Q"):
            matching.offer_of(connection, queue, anew=True)

    assert len(asked) == 1


@pytest.mark.parametrize(
    ("what", "place", "reason", "for_s", "problem"),
    [
        ("lunch", {}, "why not", None, UnknownName),
        ("dispatch", {"site": "NOWHERE"}, "why not", None, NotFound),
        ("dispatch", {"queue": "NOWHERE"}, "why not", None, NotFound),
        ("dispatch", {}, "  ", None, Invalid),
        ("dispatch", {}, "x" * 2001, None, Invalid),
        ("dispatch", {}, "why not", 0, Invalid),
        ("dispatch", {"node": "n"}, "why not", None, Invalid),
        ("brokerage", {"queue": "NORTH-Q", "node": "n"}, "why not", None, Invalid),
        ("dispatch", {"site": "NORTH", "queue": "NORTH-Q"}, "why not", None, Invalid),
    ],
)
def test_what_cannot_be_paused_is_refused_and_nothing_is(world, what, place, reason, for_s, problem):
    with pytest.raises(problem), world.begin() as connection:
        switches.pause(connection, what, Place(**place), by="olga", reason=reason, for_s=for_s)

    with world.begin() as connection:
        assert switches.current(connection) == []
    assert world.query("SELECT 1 FROM audit_log") == []


def test_what_is_not_paused_cannot_be_resumed(world):
    with pytest.raises(NotFound), world.begin() as connection:
        switches.resume(connection, What.DISPATCH, Place(), by="olga", reason="it is out")


def test_a_ready_job_that_is_brokered_anew_leaves_a_closed_queue(world):
    panda_ids = ready(world, 4)
    before = {panda_id: world.job(panda_id)["computing_site"] for panda_id in panda_ids}
    with world.begin() as connection:
        set_queue_status(connection, "NORTH-Q", "offline", by="olga", reason="broken")
        done, refused = rebroker.rebroker(connection, [*panda_ids, 10**9], by="olga", reason="it is broken there")
    world.settle()

    assert set(before.values()) == {"NORTH-Q", "SOUTH-Q"}
    assert done == panda_ids
    assert refused == {10**9: "it is archived or unknown"}
    assert {world.job(panda_id)["computing_site"] for panda_id in panda_ids} == {"SOUTH-Q"}


def test_a_running_job_is_not_brokered_anew(world):
    ready(world)
    [job] = world.acquire()

    with world.begin() as connection:
        done, refused = rebroker.rebroker(connection, [job.panda_id], by="olga", reason="")

    assert (done, list(refused)) == ([], [job.panda_id])
