"""One job or one step that goes wrong stops nobody else; and what went wrong for another reason is no job's fault."""

from types import SimpleNamespace

import pytest

from panda.db.session import rows, run
from panda.errors import Invalid
from panda.jobs import due, expansion, kill, relaying, sweeping
from panda.states import Stage, Wait
from workflows import recovery
from workflows import relay as relays
from workflows.relay import Relay

WORKER = "stages@node"


@pytest.fixture
def relay(world, monkeypatch):
    """A relay whose Redis takes everything and keeps nothing; `sent` holds what it got."""
    sent = []

    class Chain:
        def __init__(self, stage, panda_ids):
            self.what = (stage, list(panda_ids))

        def apply_async(self, connection):
            sent.append(self.what)

    monkeypatch.setattr(relays, "chain_from", Chain)
    monkeypatch.setattr(Relay, "_watch_epoch", lambda self: None)
    monkeypatch.setattr(Relay, "_room", lambda self, redis, lane: 16)
    monkeypatch.setattr(relays, "app", SimpleNamespace(pool=_Pool()))
    monkeypatch.setattr(relays.Redis, "from_url", lambda *_, **__: None)
    relay = Relay(world.begin, world.settings)
    relay.sent = sent
    return relay


class _Pool:
    def acquire(self, block):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


# -- the sweeper -----------------------------------------------------------------------------------


def late_jobs(world, n):
    ids = world.jobs(n)
    world.settle()
    world.pass_time(world.engine.pilot_wait_s + 1)
    return ids


def test_a_job_whose_wait_cannot_be_handled_is_put_off_and_the_others_go_on(world, monkeypatch):
    ids = late_jobs(world, 13)
    bad, handler = ids[7], sweeping.HANDLERS[Wait.PILOT]

    def raising(connection, panda_ids, settings):
        handler(connection, panda_ids, settings)
        if bad in panda_ids:
            raise ValueError("this one")

    monkeypatch.setitem(sweeping.HANDLERS, Wait.PILOT, raising)
    world.sweep()

    assert {world.status(i) for i in ids if i != bad} == {"defined"}
    assert world.status(bad) == "activated"  # nothing of it is half done
    assert "this one" in world.due(bad).error
    assert world.sweep() == 0  # it is not asked again at once
    [incident] = world.query("SELECT * FROM incidents WHERE component = 'sweeper'")
    assert incident.context["panda_id"] == bad

    monkeypatch.setitem(sweeping.HANDLERS, Wait.PILOT, handler)
    world.pass_time(sweeping.PUT_OFF_S + 1)
    world.sweep()
    assert world.status(bad) == "defined"


def test_a_database_that_refuses_is_nobodys_fault(world, monkeypatch):
    ids = late_jobs(world, 3)

    def refused(connection, panda_ids, settings):
        run(connection, "DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '40P01'; END $$")

    monkeypatch.setitem(sweeping.HANDLERS, Wait.PILOT, refused)
    with pytest.raises(Exception, match="no"):
        world.sweep()

    assert world.query("SELECT 1 FROM incidents") == []
    assert {world.due(i).tries for i in ids} == {0}


# -- the relay -------------------------------------------------------------------------------------


def test_a_step_of_the_relay_that_raises_rests_longer_each_time_and_the_others_go_on(world, relay, monkeypatch):
    world.submit(jobs=[{"command": ["true"]}] * 3)
    world.turn_expansion()
    world.submit(jobs=[{"command": ["true"]}])
    calls = []

    def raising(begin, engine):
        calls.append(1)
        raise Invalid("a document that nobody understands")

    monkeypatch.setattr(expansion, "expand", raising)
    for _ in range(50):
        relay.turn()

    assert [len(ids) for _, ids in relay.sent] == [3]
    assert len(calls) == 1  # it does not spin
    assert relay._rests["expand"].rest_s == relays.FIRST_REST_S
    relay._rests["expand"] = relay._rests["expand"]._replace(until=0.0)
    relay.turn()
    assert relay._rests["expand"].rest_s == 2 * relays.FIRST_REST_S


def test_a_turn_that_raises_does_not_end_the_relay(world, relay, monkeypatch):
    turns = []

    def turn():
        turns.append(1)
        if len(turns) == 3:
            relay.stop()
        raise RuntimeError("a bug of ours")

    monkeypatch.setattr(relay, "turn", turn)
    monkeypatch.setattr(relays, "PAUSE_S", 0.01)
    relay.run()

    assert len(turns) == 3


# -- poison ----------------------------------------------------------------------------------------


def sent(world):
    """One look of the relay; what it would send."""
    return [group.panda_ids for group in world.claim(final=False)]


def begin_run(world, run_id, panda_ids, worker=WORKER):
    with world.begin() as connection:
        relaying.begin_run(connection, run_id, worker, panda_ids)


def restart_worker(world, worker=WORKER):
    """A worker dies, and another one starts under its name."""

    class Consumer:
        hostname = worker

    recovery.resend_all(sender=Consumer())


@pytest.fixture
def recovering(world, monkeypatch):
    monkeypatch.setattr(recovery, "begin", lambda: world.begin)


def test_any_number_of_restarts_poisons_no_job(world, recovering):
    ids = world.jobs(40)
    world.turn_expansion()

    for _ in range(3 * world.engine.max_deliveries):
        assert sent(world) == [ids]  # and nobody begins with it: the worker is restarted
        restart_worker(world)

    world.settle()
    assert {world.status(i) for i in ids} == {"activated"}


def test_redis_erased_again_and_again_poisons_no_job(world):
    ids = world.jobs(4)
    world.turn_expansion()

    for n in range(3 * world.engine.max_deliveries):
        assert sent(world) == [ids]
        with world.begin() as connection:
            relaying.new_epoch(connection, f"epoch-{n}")

    world.settle()
    assert {world.status(i) for i in ids} == {"activated"}


def test_a_job_that_kills_its_whole_worker_ends_as_poison_and_those_beside_it_do_not(world, recovering):
    """The worst case: it kills the worker at once, with whatever another process of that worker has in its hands."""
    ids = world.jobs(64)
    world.turn_expansion()
    bad = ids[20]

    for nr in range(4 * world.engine.max_deliveries):
        groups = sent(world)
        for n, group in enumerate(groups):
            begin_run(world, f"run-{nr}-{n}", group)
        killers = [group for group in groups if bad in group]
        if killers:  # nobody came to an end
            restart_worker(world)
        else:
            for n, group in enumerate(groups):
                world.run_chain(Stage.DEFINE, group)
                with world.begin() as connection:
                    relaying.end_run(connection, f"run-{nr}-{n}")
        world.pass_time(relaying.APART_S)
        if world.status(bad) == "failed":
            break

    world.settle()
    assert world.job(bad)["error_code"] == "define:poison"
    assert {world.status(i) for i in ids if i != bad} == {"activated"}


def test_what_has_begun_at_one_worker_is_not_sent_again_because_another_one_starts(world, recovering):
    ids = world.jobs(4)
    world.turn_expansion()
    assert sent(world) == [ids]
    begin_run(world, "run", ids[:2], worker="stages@elsewhere")

    restart_worker(world)

    assert sent(world) == [ids[2:]]


def test_a_note_is_written_while_a_stage_runs_and_gone_when_it_ends(world, monkeypatch):
    [panda_id] = world.jobs()
    world.turn_expansion()
    sent(world)
    stage, noted = world.task(Stage.DEFINE), []
    body = stage.run

    def looking(connection, panda_ids, chain_id):
        noted.extend(world.query("SELECT worker, panda_ids FROM stage_starts"))
        return body(connection, panda_ids, chain_id)

    monkeypatch.setattr(stage, "run", looking)
    stage.push_request(id="run-1", hostname=WORKER)
    try:
        assert stage([panda_id]) == [panda_id]
    finally:
        stage.pop_request()

    assert [(note.worker, note.panda_ids) for note in noted] == [(WORKER, [panda_id])]
    assert world.query("SELECT 1 FROM stage_starts") == []
    world.settle()


def test_a_stage_that_backs_off_does_not_get_its_delivery_back(world):
    [panda_id] = world.jobs()
    world.turn_expansion()
    sent(world)
    with world.begin() as connection:
        due.back_off(connection, [panda_id], for_s=60, error="it raised")
        assert relaying.resend_waiting(connection) == 0

    assert world.due(panda_id).deliveries == 1


def test_a_payload_that_ends_its_pilot_each_time_fails_with_that_reason(world):
    [panda_id] = world.jobs(defaults={"max_attempts": 3})
    for _ in range(3):
        world.settle()
        [job] = world.acquire()
        world.report(job, "running")
        world.pass_time(world.settings.dispatcher.lease_s + 1)
        world.sweep()

    job = world.job(panda_id)
    assert (job["status"], job["error_code"]) == ("failed", "dispatch:kills_pilots")
    assert "every one of its 3 attempts" in job["error_message"]
    with world.begin() as connection:
        assert [r.outcome for r in rows(connection, "SELECT outcome FROM attempts")] == ["failed"] * 3
        kill.request(connection, [panda_id], by="alice", reason="")
