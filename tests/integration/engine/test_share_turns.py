"""Law 11: dispatch goes by the deficit of shares, to a stated tolerance, at a cost that does not grow with them."""

import random
from collections import Counter, defaultdict
from pathlib import Path
from uuid import uuid4

import pytest

from panda.db import session
from panda.dispatcher import dispatch, matching, reports
from panda.dispatcher.shares import Balance
from panda.dispatcher.words import AcquireRequest, Report, UpdateRequest
from panda.errors import Invalid, NotFound, UnknownName
from panda.jobs import share_usage, shares
from panda.jobs.share_tree import Share
from panda.jobs.why import why
from panda.sites import applying, siteinfo


def plant(world, weights):
    """A tree: `{"a": 60, "b": {"c": 1, "d": 2}}`; a share with others below it weighs `b.weight` or 10."""

    def read(given, parent):
        for name, value in given.items():
            if isinstance(value, dict):
                yield Share(name, parent, value.get("weight", 10))
                yield from read({key: below for key, below in value.items() if key != "weight"}, name)
            else:
                yield Share(name, parent, value)

    with world.begin() as connection:
        shares.sync(connection, list(read({"default": 1, **weights}, None)))


def queue_up(world, **n_jobs):
    """So many jobs of each share, ready at NORTH-Q."""
    for share, n in n_jobs.items():
        world.submit(template={"command": ["true"], "count": n}, share=share, brokerage={"sites": ["NORTH"]})
    world.settle()


class Fleet:
    """Cores at NORTH-Q, served by dispatchers of which each knows only what one process knows."""

    def __init__(self, world, monkeypatch, *, cores, n_dispatchers=1, wall=None, queues=()):
        """`queues`: have four cores each, beside the `cores` at NORTH-Q."""
        self.world, self.monkeypatch = world, monkeypatch
        self.now, self.n_finished = 0, 0
        self.free_at = {"NORTH-Q": cores} | dict.fromkeys(queues, 4)
        self.wall = wall or {}
        self.running = Counter()
        self.balances = [Balance() for _ in range(n_dispatchers)]
        self._ends = defaultdict(list)
        # The time between two counts is one round, however quick the machine is.
        endless = share_usage.KEEP.replace("took_s = extract(epoch FROM panda_now() - %(at)s)", "took_s = 1000")
        assert endless != share_usage.KEEP
        monkeypatch.setattr(share_usage, "KEEP", endless)

    def round(self, n_per_claim=5):
        """What is over ends, then every free core is asked for."""
        self.now += 1
        self.report(self._ends.pop(self.now, []))
        with self.world.begin() as connection:
            session.run(connection, "UPDATE share_usage SET counted_at = 'epoch'")
        matching.forget()
        for balance in random.Random(self.now).sample(self.balances, len(self.balances)):
            balance.forget()
        for queue in random.Random(self.now).sample(list(self.free_at), len(self.free_at)):
            idle = 0
            while self.free_at[queue] and idle < len(self.balances):
                balance = self.balances[self.now % len(self.balances)]
                self.balances.append(self.balances.pop(0))
                idle = 0 if self.claim(balance, min(self.free_at[queue], n_per_claim), queue) else idle + 1

    def claim(self, balance, n, queue="NORTH-Q"):
        """One claim through one dispatcher; how many jobs it got."""
        self.monkeypatch.setattr(matching, "balance", balance)
        jobs = dispatch.acquire(self.world.begin, ask(n, queue=queue), self.world.settings).jobs
        with self.world.begin() as connection:
            found = session.rows(
                connection, "SELECT panda_id, share FROM jobs WHERE panda_id = ANY(%(ids)s)",
                {"ids": [job.panda_id for job in jobs]},
            )  # fmt: skip
        share_of = {row.panda_id: row.share for row in found}
        for job in jobs:
            share = share_of[job.panda_id]
            self.running[share] += job.cores
            self.free_at[queue] -= job.cores
            # Evenly spread at the start, so that about as many end in each round.
            wall = self.wall.get(share, 10)
            over = self.now + (wall if self.now > 1 else 1 + self.running[share] % wall)
            self._ends[over].append((share, queue, job))
        return len(jobs)

    def report(self, ended):
        """The pilots' last words on some jobs."""
        said = [
            Report(panda_id=job.panda_id, attempt_nr=job.attempt_nr, token=job.token, status="finished",
                   exit_code=0, wall_s=1.0)
            for _, _, job in ended
        ]  # fmt: skip
        if said:
            answers = reports.update(self.world.begin, UpdateRequest(pilot_id="p", reports=said), self.world.settings)
            assert {answer.outcome for answer in answers.results} == {"ok"}
        for share, queue, job in ended:
            self.running[share] -= job.cores
            self.free_at[queue] += job.cores
        self.n_finished += len(ended)

    def error(self, parts):
        """How far the running cores are from `parts`, at worst, as a part of all of them."""
        return max(abs(self.running[share] / self.running.total() - part) for share, part in parts.items())


def ask(n=1, cores=4, queue="NORTH-Q"):
    return AcquireRequest(
        pilot_id=f"p-{uuid4().hex}", queue=queue, request_id="r", n=n, cores=cores, memory_mb=8000,
        disk_mb=20_000, walltime_s=86_400,
    )  # fmt: skip


FIFTY = Path(__file__).parents[3] / "examples" / "fleet" / "sites.toml"
PARTS = {"a": 0.6, "b": 0.3, "c": 0.1}


@pytest.mark.parametrize("n_dispatchers", [1, 2])
def test_running_cores_keep_to_60_30_10_however_long_the_jobs_of_each_share_are(world, monkeypatch, n_dispatchers):
    """Two dispatchers: between two counts neither knows what the other one hands out, here a sixth of the fleet."""
    plant(world, {"a": 60, "b": 30, "c": 10})
    queue_up(world, a=1200, b=1200, c=1300)
    fleet = Fleet(world, monkeypatch, cores=200, n_dispatchers=n_dispatchers, wall={"a": 12, "b": 6, "c": 2})
    errors = []

    while fleet.n_finished < 3000:
        fleet.round()
        errors.append(fleet.error(PARTS))

    assert max(errors[2:]) <= 0.02
    assert len(errors) > 10


def test_running_cores_keep_to_60_30_10_at_fifty_queues_with_two_dispatchers(world, monkeypatch):
    """The short form of `make fairness`: 200 cores, four at each queue, filled in any order."""
    with world.begin() as connection:
        applying.sync(connection, siteinfo.load_file(FIFTY), world.settings.data_dir)
    plant(world, {"a": 60, "b": 30, "c": 10})
    for share, n in {"a": 600, "b": 600, "c": 700}.items():
        world.submit(template={"command": ["true"], "count": n}, share=share, brokerage={"sites": ["SIM-*"]})
    world.settle()
    names = [f"SIM-{number:02}-Q" for number in range(1, 51)]
    fleet = Fleet(world, monkeypatch, cores=0, n_dispatchers=2, wall={"a": 12, "b": 6, "c": 2}, queues=names)
    errors = []

    while fleet.n_finished < 600:
        fleet.round()
        errors.append(fleet.error(PARTS))

    assert max(errors[2:]) <= 0.02
    assert fleet.running.total() == 200


def test_a_tree_gives_each_branch_its_part_and_each_leaf_its_part_of_that(world, monkeypatch):
    plant(world, {"production": {"weight": 60, "simulation": 3, "reconstruction": 1}, "analysis": 30, "other": 10})
    queue_up(world, simulation=300, reconstruction=150, analysis=250, other=150)
    fleet = Fleet(
        world, monkeypatch, cores=100, wall={"simulation": 5, "reconstruction": 10, "analysis": 4, "other": 8}
    )

    for _ in range(10):
        fleet.round()

    assert fleet.error({"simulation": 0.45, "reconstruction": 0.15, "analysis": 0.3, "other": 0.1}) <= 0.02


def test_what_an_idle_share_leaves_goes_to_its_siblings_until_it_wants_it_back(world, monkeypatch):
    plant(world, {"production": {"weight": 60, "simulation": 3, "reconstruction": 1}, "analysis": 40})
    queue_up(world, reconstruction=400, analysis=300)
    fleet = Fleet(world, monkeypatch, cores=50, wall={"reconstruction": 2, "analysis": 2, "simulation": 2})

    for _ in range(4):
        fleet.round()
    assert fleet.error({"reconstruction": 0.6, "analysis": 0.4}) <= 0.02

    queue_up(world, simulation=200)
    for _ in range(4):
        fleet.round()
    assert fleet.error({"simulation": 0.45, "reconstruction": 0.15, "analysis": 0.4}) <= 0.02


def test_a_weight_that_is_changed_while_it_runs_counts_from_then_on(world, monkeypatch):
    plant(world, {"a": 50, "b": 50})
    queue_up(world, a=200, b=200)
    fleet = Fleet(world, monkeypatch, cores=40, wall={"a": 2, "b": 2})
    fleet.round()
    assert fleet.running == {"a": 20, "b": 20}

    with world.begin() as connection:
        assert shares.set_weight(connection, "a", 150, by="olga", reason="campaign") == 50
    for _ in range(4):
        fleet.round()

    assert fleet.running == {"a": 30, "b": 10}


def test_cores_count_not_jobs(world, monkeypatch):
    plant(world, {"wide": 50, "narrow": 50})
    for share, cores in (("wide", 4), ("narrow", 1)):
        world.submit(
            template={"command": ["true"], "count": 60, "cores": cores}, share=share, brokerage={"sites": ["NORTH"]}
        )
    world.settle()
    fleet = Fleet(world, monkeypatch, cores=80)

    while fleet.free_at["NORTH-Q"] >= 4:
        assert fleet.claim(fleet.balances[0], 1) == 1

    assert abs(fleet.running["wide"] - fleet.running["narrow"]) <= 4


def test_when_a_share_has_too_few_jobs_the_others_fill_the_claim(world, monkeypatch):
    plant(world, {"a": 90, "b": 10})
    queue_up(world, a=2, b=20)
    fleet = Fleet(world, monkeypatch, cores=10)

    assert fleet.claim(fleet.balances[0], 10) == 10
    assert fleet.running == {"a": 2, "b": 8}


def test_jobs_of_a_share_that_the_file_no_longer_names_still_come_to_an_end(world, monkeypatch):
    plant(world, {"a": 50, "old": 50})
    queue_up(world, a=60, old=30)
    plant(world, {"a": 50})
    fleet = Fleet(world, monkeypatch, cores=51)

    fleet.round()

    assert fleet.running == {"a": 50, "old": 1}
    with world.begin() as connection:
        standings = {each.name: each for each in share_usage.standings(connection)}
    assert (standings["old"].kind, standings["old"].weight, standings["old"].n_ready) == ("stray", 1, 29)
    with pytest.raises(UnknownName, match="unknown share 'old'"):
        world.submit(jobs=[{"command": ["true"]}], share="old")


def n_scans(connection):
    """How often this connection searched each hot table by an index, and read one from end to end."""
    sql = """SELECT relname, idx_scan, seq_scan FROM pg_stat_xact_user_tables
        WHERE relname IN ('ready', 'jobs', 'job_due', 'leases')"""
    found = session.rows(connection, sql)
    return Counter({row.relname: row.idx_scan for row in found}), sum(row.seq_scan for row in found)


def cost_of_a_claim(world, monkeypatch, n):
    """Statements, and searches in the hot tables, of a claim for `n` jobs."""
    statements = []
    execute = session._execute

    def told(connection, sql, values):
        statements.append(sql)
        return execute(connection, sql, values)

    with world.begin() as connection:
        offer = matching.offer_of(connection, "NORTH-Q", anew=True)  # as in a process that looked a moment ago
        matching.turns(connection, matching.fitting(offer, ask()).by_share, n)
        before, _ = n_scans(connection)
        with monkeypatch.context() as patch:
            patch.setattr(session, "_execute", told)
            got, _ = dispatch._claim(connection, ask(n), ["token"] * n, 120, is_poll=False)
        after, n_read_whole = n_scans(connection)
        session.roll_back(connection)
    assert (len(got), n_read_whole) == (n, 0)
    return len(statements), after - before


@pytest.mark.parametrize("n", [1, 20])
def test_a_claim_costs_the_same_with_twenty_shares_and_a_long_queue_as_with_few(world, monkeypatch, n):
    balance = Balance()
    monkeypatch.setattr(matching, "balance", balance)
    monkeypatch.setattr(matching, "TRUST_S", 1e9)
    monkeypatch.setattr(share_usage, "FLOOR_S", 1e9)
    leaves = {f"s{number:02}": 1 for number in range(20)}
    plant(world, leaves)
    queue_up(world, s00=20, s01=20, s02=20)
    few = cost_of_a_claim(world, monkeypatch, n)

    queue_up(world, **dict.fromkeys(leaves, 120))
    balance.forget()
    many = cost_of_a_claim(world, monkeypatch, n)

    assert few == many
    assert few[0] == min(n, 3)


def test_the_running_cores_are_counted_from_the_leases_and_by_one_process_at_a_time(world):
    plant(world, {"a": 1, "b": 1})
    queue_up(world, a=3, b=2)
    taken = world.acquire(5, queue="NORTH-Q")
    world.report(taken[0], "running")
    world.report(taken[1], "finished")

    with world.begin() as connection:
        session.run(connection, "UPDATE share_usage SET counted_at = 'epoch'")
    with world.begin() as slow:
        assert sum(share_usage.current(slow).cores.values()) == 4
        with world.begin() as other:
            assert share_usage.current(other).cores == {}  # it neither waits nor counts
    with world.begin() as connection:
        assert sum(share_usage.current(connection).cores.values()) == 4


def test_dispatchers_know_how_many_they_are_and_forget_those_that_left(world):
    with world.begin() as connection:
        for dealer in ("one", "two", None):
            session.run(connection, "UPDATE share_usage SET counted_at = 'epoch'")
            count = share_usage.current(connection, dealer)
    assert count.n_dealers == 2

    world.pass_time(60)

    with world.begin() as connection:
        assert share_usage.current(connection, "one").n_dealers == 1


def test_a_weight_set_at_run_time_stays_until_the_file_says_something_else(world):
    plant(world, {"a": 60, "b": {"c": 1}})
    with world.begin() as connection:
        shares.set_weight(connection, "a", 70, by="olga", reason="campaign")
        shares.set_weight(connection, "c", 7, by="olga", reason="campaign")

    plant(world, {"a": 60, "b": {"c": 2}})

    with world.begin() as connection:
        assert {share.name: share.weight for share in shares.tree(connection).walk()} == {
            "a": 70, "b": 10, "c": 2, "default": 1,
        }  # fmt: skip


def test_who_changed_a_weight_and_why_is_written_down(world):
    plant(world, {"a": 60})

    with world.begin() as connection:
        shares.set_weight(connection, "a", 70, by="olga", reason="campaign", request_id="r1")

    [entry] = world.query("SELECT who, action, target, reason, facts, request_id FROM audit_log")
    assert tuple(entry) == ("olga", "set_share_weight", "share a", "campaign", {"was": 60, "now": 70}, "r1")


@pytest.mark.parametrize(
    ("name", "weight", "reason", "error"),
    [
        ("x", 1, "why", NotFound), ("a", 0, "why", Invalid), ("a", float("nan"), "why", Invalid),
        ("a", 1e9, "why", Invalid), ("a", 5, " ", Invalid),
    ],
)  # fmt: skip
def test_a_senseless_change_of_a_weight_changes_nothing(world, name, weight, reason, error):
    plant(world, {"a": 60})

    with pytest.raises(error), world.begin() as connection:
        shares.set_weight(connection, name, weight, by="olga", reason=reason)

    with world.begin() as connection:
        assert shares.tree(connection).shares["a"].weight == 60


def test_a_job_set_must_name_a_leaf(world):
    plant(world, {"production": {"simulation": 1, "reconstruction": 1}})

    with pytest.raises(UnknownName, match="unknown share 'simulatoin'; did you mean 'simulation'") as unknown:
        world.submit(jobs=[{"command": ["true"]}], share="simulatoin")
    with pytest.raises(Invalid, match="name one of them: reconstruction, simulation") as inner:
        world.submit(jobs=[{"command": ["true"]}], share="production")

    assert unknown.value.code == inner.value.code == "unknown_share"
    assert (unknown.value.where, inner.value.where) == ("share", "share")
    assert world.query("SELECT 1 FROM jobsets") == []
    world.jobs(1, share="simulation")


def test_a_job_that_waits_says_how_its_share_stands_and_who_is_ahead(world):
    plant(world, {"a": 60, "b": 30, "c": 10})
    queue_up(world, c=4)
    world.acquire(3, queue="NORTH-Q")
    queue_up(world, a=1, b=1)
    with world.begin() as connection:
        session.run(connection, "UPDATE share_usage SET counted_at = 'epoch'")
        [waiting] = session.rows(connection, "SELECT panda_id FROM ready WHERE share = 'c'")
        [first] = session.rows(connection, "SELECT panda_id FROM ready WHERE share = 'a'")
        late, soon = why(connection, waiting.panda_id), why(connection, first.panda_id)

    assert late.facts["share"] == {
        "name": "c", "part": 0.1, "running_cores": 3, "all_cores": 3, "ahead": ["a", "b"],
    }  # fmt: skip
    assert "; shares a, b go first (c runs 3 of 3 cores, its part is 10%)" in late.summary
    assert soon.facts["share"]["ahead"] == []
    assert "first" not in soon.summary
