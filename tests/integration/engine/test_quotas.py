"""Quotas of running jobs, bans and limits: enforced at dispatch, from the leases, owner by owner."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest

from panda.auth import users
from panda.brokerage import explaining
from panda.db import session
from panda.dispatcher import dispatch, matching, quotas
from panda.dispatcher.quotas import Allowance
from panda.dispatcher.words import AcquireRequest
from panda.errors import Conflict, Invalid, NotFound
from panda.harvester.demand import demands
from panda.jobs import counters, priority, share_usage
from panda.jobs import kill as killing
from panda.jobs.quotas import history, standing, table, watching
from panda.jobs.quotas.rules import Limits, Quota
from panda.jobs.why import why
from workflows.beat import see_to_quotas


@pytest.fixture(autouse=True)
def own_allowance(monkeypatch):
    """This process knows nothing of other tests; what it handed out is in the next count for certain."""
    monkeypatch.setattr(quotas, "OVERLAP_S", 0.0)
    monkeypatch.setattr(matching, "allowance", Allowance())


def set_quota(world, subject, **values):
    with world.begin() as connection:
        table.set_quota(connection, subject, values, by="olga", reason="test")
    watched(world)


def watched(world):
    """The walk that follows a change."""
    see_to_quotas()
    matching.forget()


def queue_up(world, n=5, cores=1, **owners):
    """So many jobs of each owner, ready at NORTH-Q; `cores` each."""
    for owner, n_jobs in (owners or {"alice": n}).items():
        world.submit(owner=owner, template={"command": ["true"], "count": n_jobs, "cores": cores},
                     brokerage={"sites": ["NORTH"]})  # fmt: skip
    world.settle()


def take(world, n=1, fresh=True, pilot_id=""):
    """Jobs that a pilot gets, by owner. `fresh`: what other processes did is counted first."""
    if fresh:
        with world.begin() as connection:
            session.run(connection, "UPDATE share_usage SET counted_at = 'epoch'")
        matching.forget()
    request = AcquireRequest(
        pilot_id=pilot_id or f"p-{uuid4().hex}", queue="NORTH-Q", request_id=uuid4().hex, n=n, cores=4, memory_mb=8000, disk_mb=20_000,
        walltime_s=86_400,
    )  # fmt: skip
    jobs = dispatch.acquire(world.begin, request, world.settings).jobs
    found = world.query(
        "SELECT panda_id, owner FROM jobs WHERE panda_id = ANY(%(ids)s)", ids=[j.panda_id for j in jobs]
    )
    owner_of = {row.panda_id: row.owner for row in found}
    return Counter(owner_of[job.panda_id] for job in jobs), jobs


def whos(world):
    return Counter(row.who for row in world.query("SELECT who FROM ready"))


@pytest.mark.parametrize("first", ["quota", "jobs"])
def test_an_owner_gets_as_many_cores_as_their_quota_and_others_get_the_rest(world, first):
    if first == "quota":
        set_quota(world, "user:alice", running_cores=4)
    queue_up(world, alice=10, bob=10)
    if first == "jobs":
        assert whos(world) == {"": 20}
        set_quota(world, "user:alice", running_cores=4)
    assert whos(world) == {"alice": 10, "": 10}

    got, jobs = take(world, n=12)
    assert got == {"alice": 4, "bob": 8}
    got, _ = take(world, n=5)
    assert got == {"bob": 2}

    world.report(next(job for job in jobs if world.job(job.panda_id)["owner"] == "alice"), "finished")
    got, _ = take(world, n=5)
    assert got == {"alice": 1}


@pytest.mark.parametrize("limits", [{"running_jobs": 3}, {"running_cores": 7}])
def test_cores_and_jobs_are_counted_each_by_itself(world, limits):
    set_quota(world, "default", **limits)
    queue_up(world, cores=2, alice=6, bob=1)

    assert take(world, n=20)[0] == {"alice": 3, "bob": 1}


def test_a_group_is_bound_together_and_a_user_in_it_by_both(world):
    set_quota(world, "group:higgs", running_cores=6, members=["alice", "bob"])
    set_quota(world, "user:bob", running_cores=2)
    queue_up(world, alice=10, bob=10, eve=3)

    total = Counter()
    for _ in range(6):
        total += take(world, n=4)[0]

    assert total["bob"] <= 2
    assert total["alice"] + total["bob"] == 6
    assert total["eve"] == 3


def test_a_large_job_waits_until_it_fits_into_what_is_left_and_small_ones_go_before_it(world):
    set_quota(world, "user:alice", running_cores=5)
    queue_up(world, alice=2, cores=4)
    assert take(world, n=2)[0] == {"alice": 1}
    queue_up(world, alice=2, cores=1)

    assert take(world, n=4)[0] == {"alice": 1}
    assert take(world)[0] == {}
    with world.begin() as connection:
        [ready] = session.rows(connection, "SELECT panda_id FROM ready r JOIN shapes USING (shape_id) WHERE cores = 4")
        assert "user:alice runs 5 of 5 cores" in why(connection, ready.panda_id).summary


def test_two_dispatchers_in_the_same_moment_pass_a_quota_by_a_claim_at_most_and_it_heals(world, monkeypatch):
    monkeypatch.setattr(share_usage, "KEEP", share_usage.KEEP.replace(
        "took_s = extract(epoch FROM panda_now() - %(at)s)", "took_s = 1000"))  # fmt: skip
    set_quota(world, "user:alice", running_cores=10)
    queue_up(world, alice=40)
    processes = [Allowance(), Allowance()]
    with world.begin() as connection:  # both are known to hand out jobs
        for name in ("one", "two"):
            session.run(connection, "UPDATE share_usage SET counted_at = 'epoch'")
            share_usage.current(connection, name, by_owner=True)

    total = 0
    for turn in range(20):
        monkeypatch.setattr(matching, "allowance", processes[turn % 2])
        total += take(world, n=1, fresh=False)[0]["alice"]
    assert total in (10, 11)
    for _ in range(4):
        assert take(world, n=5)[0]["alice"] <= 10 - total if total < 10 else not take(world, n=5)[0]


@pytest.mark.parametrize("binds", [False, True])
def test_a_claim_of_a_known_pilot_is_one_statement_and_asks_nothing_about_owners(world, monkeypatch, binds):
    if binds:
        set_quota(world, "user:alice", running_cores=2)
        monkeypatch.setattr(quotas.picture, "TRUST_S", 1e9)
        monkeypatch.setattr(share_usage, "FLOOR_S", 1e9)
    queue_up(world, alice=3)
    take(world, pilot_id="known")
    statements = []
    execute = session._execute

    def told(connection, sql, values):
        statements.append(sql)
        return execute(connection, sql, values)

    monkeypatch.setattr(session, "_execute", told)
    monkeypatch.setattr(matching, "TRUST_S", 1e9)
    assert take(world, fresh=False, pilot_id="known")[0] == {"alice": 1}

    assert [sql for sql in statements if "panda_id, owner FROM jobs" not in sql] == [matching.CLAIM_AT_ONCE]
    assert take(world, fresh=False, pilot_id="known")[0] == ({} if binds else {"alice": 1})


def test_of_many_owners_only_some_are_asked_and_the_best_rank_still_goes_first(world, monkeypatch):
    monkeypatch.setattr(matching, "MOST_PAIRS", 3)
    set_quota(world, "default", running_cores=1)
    queue_up(world, **{f"user{number}": 2 for number in range(8)})

    order = [next(iter(take(world)[0])) for _ in range(8)]

    assert order == [f"user{number}" for number in range(8)]
    assert take(world)[0] == {}


def test_a_banned_users_jobs_are_not_started_and_say_why_until_they_are_let_in_again(world):
    queue_up(world, alice=2, bob=1)
    with world.begin() as connection:
        users.create(connection, "alice", ["user"], by="olga", reason="", request_id=None)
        assert users.ban(connection, "alice", by="olga", reason="token was published", request_id=None)
    watched(world)

    assert take(world, n=5)[0] == {"bob": 1}
    [first, _] = [row.panda_id for row in world.query("SELECT panda_id FROM ready WHERE who = 'alice' ORDER BY 1")]
    with world.begin() as connection:
        answer = why(connection, first)
        assert standing.full(connection) == ["alice"]
    assert "none of its owner's jobs is started: alice is banned: token was published" in answer.summary
    assert world.query("SELECT nothing_because FROM pilots WHERE nothing_because IS NOT NULL") == []
    assert take(world)[0] == {}
    [pilot] = world.query("SELECT nothing_because FROM pilots WHERE nothing_because IS NOT NULL")
    assert pilot.nothing_because == "alice is banned: token was published"

    with world.begin() as connection:
        assert users.unban(connection, "alice", by="olga", reason="a mistake", request_id=None)
    watched(world)
    assert take(world, n=5)[0] == {"alice": 2}
    world.pass_time(11)
    watched(world)
    assert whos(world) == {}


def test_a_limited_user_has_the_smaller_quota(world):
    set_quota(world, "limited", running_cores=1)
    queue_up(world, alice=3)
    with world.begin() as connection:
        users.create(connection, "alice", ["user"], by="olga", reason="", request_id=None)
        assert users.limit(connection, "alice", by="olga", reason="noisy", request_id=None)
        assert not users.limit(connection, "alice", by="olga", reason="again", request_id=None)
    watched(world)

    assert take(world, n=5)[0] == {"alice": 1}

    with world.begin() as connection:
        assert users.unlimit(connection, "alice", by="olga", reason="quiet now", request_id=None)
    watched(world)
    assert take(world, n=5)[0] == {"alice": 2}
    audit = [row.action for row in world.query("SELECT action FROM audit_log WHERE target = 'alice' ORDER BY audit_id")]
    assert audit == ["create_user", "limit", "unlimit"]


def test_what_became_ready_with_an_old_picture_is_marked_by_a_second_walk(world):
    set_quota(world, "user:alice", running_cores=1)
    queue_up(world, alice=3)
    with world.begin() as connection:  # as a stage would that began before
        session.run(connection, "UPDATE ready SET who = ''")
    watched(world)
    assert whos(world) == {"": 3}

    world.pass_time(watching.SEEN_S + 1)
    watched(world)

    assert whos(world) == {"alice": 3}
    with world.begin() as connection:
        assert not watching.walk(connection)


def test_a_walk_goes_on_where_it_ended_and_skips_rows_that_a_claim_holds(world):
    queue_up(world, alice=5)
    with world.begin() as connection:
        table.set_quota(connection, "user:alice", {"running_cores": 1}, by="olga", reason="test")
    [first, *_] = world.query("SELECT panda_id FROM ready ORDER BY 1")
    with world.begin() as claim:
        session.rows(claim, "SELECT FROM ready WHERE panda_id = %(id)s FOR UPDATE", {"id": first.panda_id})
        steps = 0
        while True:
            with world.begin() as connection:
                if not watching.walk(connection, limit=2):
                    break
            steps += 1
    assert steps == 3
    assert whos(world) == {"": 1, "alice": 4}


def test_another_priority_keeps_the_mark(world):
    set_quota(world, "user:alice", running_cores=1)
    queue_up(world, alice=2)
    ids = [row.panda_id for row in world.query("SELECT panda_id FROM ready")]

    with world.begin() as connection:
        priority.set_priority(connection, ids, 5)

    assert whos(world) == {"alice": 2}


def test_no_pilot_is_started_for_jobs_that_a_quota_keeps_waiting(world):
    with world.begin() as connection:
        session.run(connection, "UPDATE queues SET submitter = 'local', max_pilots = 9")
    set_quota(world, "user:alice", running_cores=2)
    queue_up(world, alice=5, bob=3)

    def wanted():
        with world.begin() as connection:
            session.run(connection, "UPDATE share_usage SET counted_at = 'epoch'")
            return {each.queue: each.n_ready for each in demands(connection)}

    assert wanted() == {"NORTH-Q": 8, "SOUTH-Q": 0}
    take(world, n=2)
    assert wanted()["NORTH-Q"] == 3


def test_the_table_takes_over_the_file_and_keeps_what_an_operator_set_until_the_file_changes(world):
    def sync(**cores):
        with world.begin() as connection:
            table.sync(connection, [Quota("user", name, Limits(running_cores=n)) for name, n in cores.items()])
            return {row.subject: row.running_cores for row in table.all_of_them(connection)}

    assert sync(ann=5, bob=6) == {"user:ann": 5, "user:bob": 6}
    set_quota(world, "user:ann", running_cores=50)
    set_quota(world, "user:eve", running_cores=7)

    assert sync(ann=5, bob=6) == {"user:ann": 50, "user:bob": 6, "user:eve": 7}
    assert sync(ann=8) == {"user:ann": 8, "user:eve": 7}


def test_a_change_is_written_down_and_leaves_alone_what_it_does_not_name(world):
    set_quota(world, "user:ann", running_cores=5, queued_jobs=100)
    set_quota(world, "user:ann", running_cores=None, beyond="hold")

    with world.begin() as connection:
        [row] = table.all_of_them(connection)
        assert (row.queued_jobs, row.running_cores, row.beyond) == (100, None, "hold")
        assert not table.clear(connection, "user:ann", by="olga", reason="left")
        assert table.all_of_them(connection) == []
    first, second, third = world.query("SELECT who, action, target, reason, facts FROM audit_log ORDER BY audit_id")
    assert tuple(first)[:4] == ("olga", "set_quota", "quota user:ann", "test")
    assert second.facts == {
        "was": {"running_cores": 5, "beyond": None},
        "now": {"running_cores": None, "beyond": "hold"},
    }
    assert (third.action, third.facts["was"]["queued_jobs"]) == ("clear_quota", 100)


@pytest.mark.parametrize(
    ("subject", "values", "reason", "code"),
    [
        ("ann", {"running_cores": 1}, "why", "unknown_subject"), ("user:a b", {"running_cores": 1}, "why", "bad_name"),
        ("user:ann", {"running_cores": -1}, "why", "bad_quota"), ("user:ann", {"running_cores": 1.5}, "why", "bad_quota"),
        ("user:ann", {"core_hours": float("nan")}, "why", "bad_quota"), ("user:ann", {"beyond": "x"}, "why", "bad_quota"),
        ("user:ann", {"members": ["x"]}, "why", "bad_quota"), ("group:g", {"running_cores": 1}, "why", "no_members"),
        ("group:g", {"members": ["a b"]}, "why", "bad_name"), ("user:ann", {"running_cores": 1}, " ", "no_reason"),
    ],
)  # fmt: skip
def test_a_senseless_quota_changes_nothing(world, subject, values, reason, code):
    with pytest.raises(Invalid) as problem, world.begin() as connection:
        table.set_quota(connection, subject, values, by="olga", reason=reason)

    assert problem.value.code == code
    assert world.query("SELECT FROM quotas") == []


def test_a_quota_that_is_not_there_cannot_be_cleared(world):
    with pytest.raises(NotFound), world.begin() as connection:
        table.clear(connection, "user:ann", by="olga", reason="why")


# ---- queued jobs -------------------------------------------------------------------------------------------


def n_waiting(world, wait):
    return len(world.query("SELECT FROM job_due WHERE waits_for = %(wait)s::text", wait=wait))


def submit(world, n, owner="alice", **more):
    return world.submit(owner=owner, template={"command": ["true"], "count": n}, brokerage={"sites": ["NORTH"]}, **more)


def let_in(world):
    """The clock's next look, and what follows."""
    with world.begin() as connection:
        session.run(connection, "UPDATE share_usage SET counted_at = 'epoch'")
    see_to_quotas()
    world.settle()


def test_a_set_beyond_the_quota_is_refused_with_its_numbers_and_nothing_is_stored(world):
    set_quota(world, "user:alice", queued_jobs=10)
    submit(world, 6)

    with pytest.raises(Conflict) as refused:
        submit(world, 5)

    assert refused.value.code == "over_quota"
    assert "user:alice has 6 jobs queued and may have 10; this set has 5 more" in str(refused.value)
    assert len(world.query("SELECT FROM jobsets")) == 1
    submit(world, 4)
    submit(world, 100, owner="bob")


def test_what_runs_or_has_ended_is_not_queued(world):
    set_quota(world, "user:alice", queued_jobs=4)
    submit(world, 4)
    world.settle()
    _, jobs = take(world, n=3)
    world.report(jobs[0], "finished")
    world.settle()
    with world.begin() as connection:
        session.run(connection, "UPDATE share_usage SET counted_at = 'epoch'")

    submit(world, 3)
    with pytest.raises(Conflict):
        submit(world, 1)


def test_a_set_that_is_held_is_let_in_as_there_is_room_in_order(world):
    set_quota(world, "default", queued_jobs=4, beyond="hold")
    first = submit(world, 3)
    accepted = submit(world, 6)
    assert (first.held, accepted.held) == (False, True)
    assert submit(world, 6, key="k").held
    world.settle()

    assert (n_waiting(world, "pilot"), n_waiting(world, "quota")) == (3, 12)
    let_in(world)
    assert (n_waiting(world, "pilot"), n_waiting(world, "quota")) == (4, 11)
    assert world.due(accepted.first_panda_id).waits_for == "pilot"
    with world.begin() as connection:
        answer = why(connection, accepted.first_panda_id + 1)
    assert (answer.waits_for, answer.facts["held_before_it"]) == ("quota", 0)
    assert "user:alice has 4 of 4 jobs queued" in answer.summary

    take(world, n=4)
    let_in(world)
    assert (n_waiting(world, "pilot"), n_waiting(world, "quota")) == (4, 7)

    with world.begin() as connection:
        table.clear(connection, "default", by="olga", reason="enough")
    let_in(world)
    assert (n_waiting(world, "pilot"), n_waiting(world, "quota")) == (11, 0)
    assert world.query("SELECT FROM jobsets WHERE held_at IS NOT NULL") == []


def test_the_same_submission_again_says_the_same_and_is_not_counted_twice(world):
    set_quota(world, "default", queued_jobs=4, beyond="hold")
    first = submit(world, 6, key="k")

    again = submit(world, 6, key="k")

    assert again == first._replace(replayed=True)


def test_a_group_may_have_as_many_queued_as_its_members_together(world):
    set_quota(world, "group:higgs", queued_jobs=5, members=["alice", "bob"])
    submit(world, 3)
    with pytest.raises(Conflict, match="group:higgs has 3 jobs queued and may have 5"):
        submit(world, 3, owner="bob")
    submit(world, 2, owner="bob")


def test_a_set_that_is_held_and_waits_for_parents_goes_through_both_waits(world):
    set_quota(world, "default", queued_jobs=2, beyond="hold")
    parent = submit(world, 1)
    child = submit(world, 4, depends_on=[parent.jobset_id])
    assert child.held
    world.settle()
    assert n_waiting(world, "parent") == 4

    [job] = take(world)[1]
    world.report(job, "finished")
    world.settle()
    assert n_waiting(world, "quota") == 4
    let_in(world)
    assert (n_waiting(world, "pilot"), n_waiting(world, "quota")) == (2, 2)


def test_a_held_set_that_is_cancelled_ends_and_keeps_no_other_waiting(world):
    set_quota(world, "default", queued_jobs=2, beyond="hold")
    first, second = submit(world, 5), submit(world, 5)
    world.settle()
    let_in(world)
    with world.begin() as connection:
        killing.request_jobset(connection, first.jobset_id, by="alice", reason="wrong")
    world.settle()

    let_in(world)

    assert [row.panda_id for row in world.query("SELECT panda_id FROM job_due WHERE waits_for = 'pilot' ORDER BY 1")] == [
        second.first_panda_id, second.first_panda_id + 1,
    ]  # fmt: skip
    [row] = world.query("SELECT held_at, ended_at FROM jobsets WHERE jobset_id = %(id)s", id=first.jobset_id)
    assert row.held_at is None
    assert row.ended_at is not None


def test_a_held_wait_that_runs_out_is_prolonged_and_one_that_was_forgotten_goes_on(world):
    set_quota(world, "default", queued_jobs=1, beyond="hold")
    accepted = submit(world, 3)
    world.settle()
    let_in(world)
    with world.begin() as connection:  # as if the clock had died in the middle
        session.run(connection, "UPDATE jobsets SET n_admitted = 2")
    world.pass_time(3_700)

    assert world.sweep() == 2
    world.settle()

    waits = [world.due(accepted.first_panda_id + n).waits_for for n in range(3)]
    assert waits == ["pilot", "pilot", "quota"]
    assert world.sweep() == 0


def test_two_submissions_at_once_do_not_both_find_the_last_room(world):
    set_quota(world, "user:alice", queued_jobs=10)
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(submit, world, 4) for _ in range(4)]
    refused = [each.exception() for each in asked if each.exception()]

    assert len(refused) == 2
    assert {problem.code for problem in refused} == {"over_quota"}
    [row] = world.query("SELECT sum(n_open) AS n FROM jobsets")
    assert row.n == 8


# ---- what was used -----------------------------------------------------------------------------------------


def used(world, **core_hours):
    """So many core hours of each owner, today."""
    with world.begin() as connection:
        for owner, hours in core_hours.items():
            session.run(
                connection,
                "INSERT INTO usage_deltas VALUES (panda_now()::date, %(owner)s, 'default', 'NORTH-Q', 0, 0, 0, 1, 1, %(s)s)",
                {"owner": owner, "s": hours * 3600.0},
            )
        counters.fold(connection)
        history.make(connection, world.settings.quotas)


def standing_of(world):
    return {row.owner: (round(row.part, 2), row.late_ms, round(row.core_hours, 1))
            for row in world.query("SELECT * FROM owner_usage ORDER BY owner")}  # fmt: skip


def test_who_used_much_of_late_comes_later_by_minutes(world):
    world.stop_the_clock()
    used(world, alice=30, bob=10)
    assert standing_of(world) == {"alice": (0.75, 45 * 60_000, 30), "bob": (0.25, 15 * 60_000, 10)}

    queue_up(world, alice=1)
    queue_up(world, bob=1)
    queue_up(world, eve=1)
    assert [take(world)[0].popitem()[0] for _ in range(3)] == ["eve", "bob", "alice"]


def test_what_is_long_ago_counts_less_and_is_forgotten(world):
    world.stop_the_clock(hour=18)  # what was used today counts as used at noon, or now
    used(world, alice=10)
    with world.begin() as connection:
        session.run(connection, "UPDATE owner_days SET day = day - 7")
    used(world, bob=10)

    assert standing_of(world) == {"alice": (0.33, 20 * 60_000, 10), "bob": (0.67, 40 * 60_000, 10)}
    with world.begin() as connection:
        session.run(connection, "UPDATE owner_days SET day = day - 100")
        history.make(connection, world.settings.quotas)
    assert standing_of(world) == {}
    assert world.query("SELECT FROM owner_days") == []


def test_core_hours_of_the_period_keep_further_jobs_waiting_also_while_they_run(world):
    set_quota(world, "user:alice", core_hours=10)
    used(world, alice=8)
    queue_up(world, alice=3, cores=2)
    _, [job] = take(world)
    world.report(job, "running")

    with world.begin() as connection:
        session.run(connection, "UPDATE jobs SET started_at = started_at - interval '1 hour' WHERE status = 'running'")
        history.make(connection, world.settings.quotas)

    assert take(world, n=3)[0] == {}
    [pilot] = world.query("SELECT nothing_because FROM pilots WHERE nothing_because IS NOT NULL")
    assert pilot.nothing_because == "user:alice used 10 of 10 core hours of this period"


def test_the_clock_works_it_out_once_a_minute(world):
    with world.begin() as connection:
        assert history.make_if_due(connection, world.settings.quotas)
        assert not history.make_if_due(connection, world.settings.quotas)
    world.pass_time(history.EVERY_S + 1)
    with world.begin() as connection:
        assert history.make_if_due(connection, world.settings.quotas)


def test_how_somebody_stands_is_told_with_every_limit(world):
    set_quota(world, "user:alice", queued_jobs=100, running_cores=2)
    set_quota(world, "group:higgs", running_jobs=50, members=["alice", "bob"])
    used(world, alice=3, bob=1)
    queue_up(world, alice=5, bob=1)
    take(world, n=4)
    with world.begin() as connection:
        session.run(connection, "UPDATE share_usage SET counted_at = 'epoch'")
        told = standing.report(connection, "alice", 30)

    own, group = told.standings
    assert (own.subject, own.queued_jobs, own.running_cores) == ("user:alice", (3, 100), (2, 2))
    assert (group.subject, group.running_jobs, group.running_cores) == ("group:higgs", (3, 50), (3, None))
    assert told.throttled == "user:alice runs 2 of 2 cores"
    assert told.used.part == pytest.approx(0.75)


def test_a_ban_counts_also_while_nobody_has_counted_what_owners_run(world, monkeypatch):
    queue_up(world, alice=1)
    with world.begin() as connection:
        users.create(connection, "alice", ["user"], by="olga", reason="", request_id=None)
        users.ban(connection, "alice", by="olga", reason="spam", request_id=None)
    watched(world)
    with world.begin() as connection:
        counted = share_usage.current(connection, by_owner=True)
    monkeypatch.setattr(share_usage, "current", lambda *_, **__: counted._replace(owners=None))

    assert take(world, fresh=False)[0] == {}


def waits(world):
    return Counter(row.waits_for for row in world.query("SELECT waits_for FROM job_due"))


def ban(world, deed, **words):
    with world.begin() as connection:
        deed(connection, "alice", by="olga", request_id=None, **words)
    watched(world)


def test_jobs_of_who_is_banned_take_nobodys_place_at_a_queue_until_the_ban_ends(world):
    with world.begin() as connection:
        users.create(connection, "alice", ["user"], by="olga", reason="", request_id=None)
    ban(world, users.ban, reason="spam")
    queue_up(world, alice=3, bob=2)

    assert waits(world) == {"queue": 3, "pilot": 2}
    [job] = world.query("SELECT panda_id FROM job_due WHERE waits_for = 'queue' ORDER BY panda_id LIMIT 1")
    with world.begin() as connection:
        story = explaining.explain(connection, job.panda_id, world.settings)
    assert "alice is banned: spam" in story.answer.summary
    assert [change.command for change in story.changes] == ["panda users unban alice --reason …"]

    ban(world, users.unban, reason="a mistake")
    world.settle()
    assert waits(world) == {"pilot": 5}


def test_jobs_of_whose_core_hours_are_used_up_wait_before_a_queue_is_chosen_others_after_it(world):
    used(world, alice=11, bob=1)
    set_quota(world, "user:alice", core_hours=10)
    set_quota(world, "user:bob", core_hours=10, running_jobs=1)
    queue_up(world, alice=3, bob=3)
    take(world)
    assert waits(world) == {"queue": 3, "pilot": 2, "lease": 1}

    set_quota(world, "user:alice", core_hours=100)
    world.settle()
    assert waits(world) == {"pilot": 5, "lease": 1}
