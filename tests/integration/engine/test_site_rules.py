"""Rules close queues that fail and take out black holes; test jobs bring queues back. Each act has the rule's name."""

import pytest

from panda.brokerage.explaining import explain
from panda.db.session import run
from panda.dispatcher import matching
from panda.jobs import kill, switches, why
from panda.jobs.switches import Place, What
from panda.sites import ends, judging, rules, trying
from panda.sites.rules import NodeRule, QueueRule, Rules, TestRule
from panda.sites.status import set_queue_status

FAILS = QueueRule(name="queue-fails", window_s=3600, at_least=4, failed_percent=75, at_most_percent=50)
HOLE = NodeRule(name="black-hole", window_s=1800, at_least=3, failed_percent=90, quick_s=60, for_s=3600)
BACK = TestRule(name="back-online", jobs=3, needed=2, every_s=900)
ONCE = {"defaults": {"max_attempts": 1}}
TO_NORTH = {"brokerage": {"sites": ["NORTH"]}}


def clock(world, *of):
    """The tick: what ended until the last but one look is counted, and judged."""
    matching.forget()
    for _ in range(2):
        ends.count(world.begin)
    found = Rules(tuple(r for r in of if isinstance(r, QueueRule)), tuple(r for r in of if isinstance(r, NodeRule)))
    return judging.judge(world.begin, found)


def look(world, rule=BACK):
    return trying.look(world.begin, rule, world.settings.api)


def end(world, n, *, fails, queue="NORTH-Q", node="node-1", code=1099, wall_s=5.0):
    """`n` attempts end on a node of a queue."""
    clock(world)  # from here on it is counted
    document = {"brokerage": {"sites": [queue], "test": True}} | ONCE
    ids = world.jobs(n, **document)
    world.settle()
    for number in range(n):
        [job] = world.acquire(queue=queue, pilot_id=f"{node}-{queue}-{ids[number]}", node=node)
        if fails:
            world.report(job, "failed", error_code=code, exit_code=1 if code == 1305 else None, wall_s=wall_s)
        else:
            world.report(job, "finished", exit_code=0, wall_s=wall_s)
    world.settle()
    return ids


def queue(world, name="NORTH-Q"):
    return world.query("SELECT * FROM queues WHERE name = %(name)s", name=name)[0]


def acts(world):
    found = world.query("SELECT rule, queue, node, did, is_passive FROM site_rule_acts ORDER BY act_id")
    return [tuple(row) for row in found]


def incidents(world):
    return {row.key: row for row in world.query("SELECT key, level, message FROM incidents")}


def sql(world, text, **values):
    with world.begin() as connection:
        run(connection, text, values)


def test_ends_are_counted_by_minute_node_and_error(world):
    end(world, 2, fails=True, node="slot1@node-7", wall_s=4.0)
    end(world, 1, fails=False, node="node-7", queue="SOUTH-Q", wall_s=9.0)
    clock(world)
    clock(world)

    found = world.query("SELECT queue, node, error_code, sum(n)::int AS n, sum(wall_s)::int AS wall_s FROM node_minutes"
                        " GROUP BY 1, 2, 3 ORDER BY 1")  # fmt: skip
    assert [tuple(row) for row in found] == [
        ("NORTH-Q", "node-7", "pilot:1099", 2, 8),
        ("SOUTH-Q", "node-7", "", 1, 9),
    ]
    world.pass_time(rules.KEPT_S + 120)
    with world.begin() as connection:
        ends.tidy(connection)
    assert world.query("SELECT FROM node_minutes") == []


def test_a_queue_that_fails_is_tried_with_test_jobs_until_enough_succeed(world):
    end(world, 1, fails=False, queue="SOUTH-Q")
    waiting = world.jobs(2, **TO_NORTH)
    world.settle()
    sql(world, "UPDATE ready SET rank = rank + 10000000")
    end(world, 4, fails=True)

    assert clock(world, FAILS) == 1
    assert clock(world, FAILS) == 0
    closed = queue(world)
    assert (closed.status, closed.status_by, closed.status_rule) == ("test", "rule:queue-fails", "queue-fails")
    reason = "rule queue-fails: 4 of 4 attempts failed in 60 min (pilot:1099 4 times)"
    assert closed.status_reason == reason
    [entry] = world.query("SELECT who, reason, facts->>'rule' AS rule FROM audit_log WHERE target = 'queue NORTH-Q'")
    assert tuple(entry) == ("rule:queue-fails", reason, "queue-fails")
    assert incidents(world)["rule queue-fails: queue NORTH-Q"].message == (
        "rule queue-fails: queue NORTH-Q is test: 4 of 4 attempts failed in 60 min (pilot:1099 4 times)"
    )
    [version] = world.query("SELECT who, source FROM site_versions ORDER BY version_id DESC LIMIT 1")
    assert tuple(version) == ("rule:queue-fails", "rule")

    # what waited there went away, and who names the queue waits and knows why
    world.settle()
    assert world.due(waiting[0]).waits_for == "queue"
    with world.begin() as connection:
        told = why.why(connection, waiting[0]).decision.funnel[0]["refused"]["NORTH-Q"]
    assert told == f"the queue is test ({reason})"

    # a first try fails
    assert look(world) == 0
    world.settle()
    tests = world.query("SELECT panda_id, owner FROM jobs WHERE status = 'activated' ORDER BY panda_id")
    assert [row.owner for row in tests] == ["panda"] * 3
    for number, row in enumerate(tests):
        [job] = world.acquire(queue="NORTH-Q", pilot_id=f"test-{row.panda_id}")
        world.report(
            job, "finished" if number == 0 else "failed", error_code=0 if number == 0 else 1305, exit_code=number
        )
    world.settle()
    assert look(world) == 0
    assert look(world) == 0  # the next ones are not due
    [judged] = world.query("SELECT n_finished, judged_at IS NOT NULL AS is_judged FROM queue_tests")
    assert tuple(judged) == (1, True)

    # the second one succeeds
    world.pass_time(BACK.every_s + 1)
    look(world)
    world.settle()
    for number in range(3):
        [job] = world.acquire(queue="NORTH-Q", pilot_id=f"again-{number}")
        world.report(job, "finished", exit_code=0)
    world.settle()
    assert look(world) == 1
    opened = queue(world)
    assert (opened.status, opened.status_by, opened.status_rule) == ("online", "rule:back-online", "")
    assert opened.status_reason.startswith("rule back-online: 3 of 3 test jobs succeeded (job set ")
    assert acts(world) == [
        ("queue-fails", "NORTH-Q", "", "test", False),
        ("back-online", "NORTH-Q", "", "online", False),
    ]
    assert clock(world, FAILS) == 0  # what failed before counts no more
    world.settle()
    assert world.status(waiting[0]) == "activated"


def test_a_passive_rule_only_tells_once_for_the_same_evidence(world):
    passive = QueueRule(name="queue-fails", window_s=3600, at_least=4, failed_percent=75, passive=True)
    end(world, 4, fails=True)

    for _ in range(2):
        assert clock(world, passive) == 0

    assert queue(world).status == "online"
    assert acts(world) == [("queue-fails", "NORTH-Q", "", "test", True)]
    assert "queue NORTH-Q would be test" in incidents(world)["rule queue-fails: queue NORTH-Q"].message
    assert world.query("SELECT FROM audit_log WHERE who LIKE 'rule:%%'") == []


def test_if_too_many_queues_fail_at_once_nothing_is_done(world):
    end(world, 4, fails=True)
    end(world, 4, fails=True, queue="SOUTH-Q")

    assert clock(world, FAILS) == 0

    assert {queue(world).status, queue(world, "SOUTH-Q").status} == {"online"}
    told = incidents(world)["rule queue-fails: too many queues"]
    assert (told.level, "2 of 2 queues would be out, more than 50 %" in told.message) == ("error", True)


@pytest.mark.parametrize(
    ("n", "fails", "code", "status"), [(3, True, 1099, "online"), (4, True, 1305, "online"), (4, False, 0, "online")]
)
def test_few_failures_or_those_of_the_payload_close_no_queue(world, n, fails, code, status):
    end(world, n, fails=fails, code=code)

    assert clock(world, FAILS) == 0
    assert queue(world).status == status


def test_an_operators_word_stands_above_rules(world):
    end(world, 4, fails=True)
    with world.begin() as connection:
        set_queue_status(connection, "NORTH-Q", "brokeroff", by="olga", reason="drain")
    assert clock(world, FAILS) == 0
    assert queue(world).status == "brokeroff"

    # opened again, what failed before counts no more
    world.pass_time(60)
    with world.begin() as connection:
        set_queue_status(connection, "NORTH-Q", "online", by="olga", reason="mended")
    assert clock(world, FAILS) == 0

    # an operator may want it tried; and may end the trial
    with world.begin() as connection:
        set_queue_status(connection, "NORTH-Q", "test", by="olga", reason="is it well?", tried=True)
    look(world)
    [sent] = world.query("SELECT jobset_id FROM queue_tests")
    with world.begin() as connection:
        set_queue_status(connection, "NORTH-Q", "offline", by="olga", reason="it burns")
    look(world)
    with world.begin() as connection:
        kill.cancel_chunk(connection)
    world.settle()
    [left] = world.query("SELECT judged_at IS NOT NULL AS is_judged, n_finished FROM queue_tests")
    assert tuple(left) == (True, None)
    [jobset] = world.query("SELECT cancel_reason FROM jobsets WHERE jobset_id = %(id)s", id=sent.jobset_id)
    assert jobset.cancel_reason == "its queue is not tried any more"


def test_a_queue_that_cannot_be_tried_is_told_and_the_others_are(world):
    for name in ("NORTH-Q", "SOUTH-Q"):
        with world.begin() as connection:
            set_queue_status(connection, name, "test", by="olga", reason="x", tried=True)

    look(world, TestRule(name="back-online", share="nothing"))
    assert "unknown share 'nothing'" in incidents(world)["rule back-online: no test of NORTH-Q"].message
    look(world)
    assert len(world.query("SELECT FROM queue_tests")) == 2


def test_a_black_hole_gets_no_jobs_until_a_time_and_its_pilots_hear_why(world):
    end(world, 3, fails=False, node="good")
    end(world, 3, fails=True, node="bad", code=1305)

    assert clock(world, HOLE) == 1
    assert clock(world, HOLE) == 0
    world.jobs(3, **TO_NORTH)
    world.settle()

    assert world.acquire(queue="NORTH-Q", pilot_id="bad-1", node="bad") == []
    assert world.acquire(queue="NORTH-Q", pilot_id="bad-2", node="slot3@bad") == []
    [job] = world.acquire(queue="NORTH-Q", pilot_id="good-1", node="good")
    world.report(job, "finished", exit_code=0)
    world.settle()
    [heard] = world.query("SELECT nothing_because FROM pilots WHERE pilot_id = 'bad-1'")
    assert heard.nothing_because.startswith(
        "node bad is taken out by rule:black-hole: 3 of 3 attempts failed in 30 min (payload:1 3 times),"
        " after 5 s on average; until "
    )
    assert acts(world) == [("black-hole", "NORTH-Q", "bad", "taken out", False)]
    [entry] = world.query("SELECT who, target FROM audit_log WHERE action = 'pause_dispatch'")
    assert tuple(entry) == ("rule:black-hole", "node bad of queue NORTH-Q")
    assert "rule black-hole: node bad of queue NORTH-Q" in incidents(world)

    world.pass_time(HOLE.for_s + 1)
    switches.forget()
    assert len(world.acquire(queue="NORTH-Q", pilot_id="bad-1", node="bad")) == 1
    assert clock(world, HOLE) == 0


def test_a_node_that_somebody_let_in_again_is_judged_by_what_it_does_then(world):
    end(world, 3, fails=False, node="good")
    end(world, 3, fails=True, node="bad")
    clock(world, HOLE)
    with world.begin() as connection:
        switches.resume(connection, What.DISPATCH, Place(queue="NORTH-Q", node="bad"), by="olga", reason="mended")

    assert clock(world, HOLE) == 0
    world.pass_time(60)
    end(world, 3, fails=True, node="bad")
    assert clock(world, HOLE) == 1


def test_half_of_the_nodes_are_never_taken_out(world):
    end(world, 3, fails=False, node="good")
    end(world, 3, fails=True, node="bad-1")
    half = NodeRule(name="black-hole", window_s=1800, at_least=3, failed_percent=90, quick_s=60, at_most_percent=40)

    assert clock(world, half) == 0
    assert "1 of 2 nodes of queue NORTH-Q would be out" in incidents(world)[
        "rule black-hole: too many nodes of queue NORTH-Q"].message  # fmt: skip


def test_a_queue_in_downtime_and_one_that_runs_as_much_as_it_may_give_no_jobs(world):
    world.jobs(6, **TO_NORTH)
    world.settle()
    sql(world, "UPDATE queues SET max_running = 3 WHERE name = 'NORTH-Q'")
    assert len(world.acquire(2, queue="NORTH-Q")) == 2
    assert len(world.acquire(4, queue="NORTH-Q", pilot_id="pilot-2")) == 1
    assert world.acquire(queue="NORTH-Q", pilot_id="pilot-3") == []
    heard = "SELECT nothing_because FROM pilots WHERE pilot_id = %(id)s"
    assert world.query(heard, id="pilot-3")[0].nothing_because == (
        "as many jobs run here as may, by the cap of the queue or its site"
    )

    # the cap of a site is for all its queues
    sql(world, "UPDATE queues SET max_running = 0")
    sql(world, "UPDATE sites SET max_running = 4 WHERE name = 'NORTH'")
    assert len(world.acquire(4, queue="NORTH-Q", pilot_id="pilot-4")) == 1
    sql(world, "UPDATE sites SET max_running = 0")

    sql(world, "INSERT INTO downtimes (name, kind, target, starts_at, ends_at, made_by)"
               " VALUES ('d', 'site', 'NORTH', '2026-01-01', '2035-02-01 18:00', 'olga')")  # fmt: skip
    assert world.acquire(queue="NORTH-Q", pilot_id="pilot-5") == []
    assert world.query(heard, id="pilot-5")[0].nothing_because == "the queue is in downtime until 2035-02-01 18:00 UTC"


@pytest.mark.parametrize(
    ("table", "name", "words"),
    [("queues", "NORTH-Q", "only 2 jobs may run at queue NORTH-Q, and 2 do"),
     ("sites", "NORTH", "only 2 jobs may run at all queues of site NORTH together, and 2 do")],
)  # fmt: skip
def test_a_ready_job_is_told_the_cap_that_keeps_it(world, table, name, words):
    jobs = world.jobs(3, **TO_NORTH)
    world.settle()
    assert len(world.acquire(2, queue="NORTH-Q")) == 2
    sql(world, f"UPDATE {table} SET max_running = 2 WHERE name = '{name}'")

    with world.begin() as connection:
        found = explain(connection, jobs[-1], world.settings)

    assert found.answer.summary == f"It is ready at NORTH-Q, next in line; {words}."
    assert found.answer.facts["cap"]["n_running"] == 2
    assert f"wait until fewer than 2 jobs run at {table[:-1]} {name}" in [each.say for each in found.changes]


def test_within_one_picture_a_cap_holds_too(world):
    world.jobs(6, **TO_NORTH)
    world.settle()
    sql(world, "UPDATE queues SET max_running = 3 WHERE name = 'NORTH-Q'")
    matching.forget()
    with world.begin() as connection:
        matching.offer_of(connection, "NORTH-Q")

    assert matching.room("NORTH-Q", 5) == 3
    matching._given["NORTH-Q"] = 2
    assert matching.room("NORTH-Q", 5) == 1
