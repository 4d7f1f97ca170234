"""Why the jobs of a set have not ended: by what they wait for, whole or a part of every part."""

import pytest

from panda.brokerage import explaining_sets
from panda.brokerage.explaining_sets import explain_set
from panda.errors import NotFound
from panda.jobs import hold


def told(world, jobset_id):
    with world.begin() as connection:
        return explain_set(connection, jobset_id, world.settings)


def kinds(found):
    return sorted((each.n, each.status, each.waits_for, each.queue) for each in found.groups)


def submitted(world, jobs, **document):
    accepted = world.submit(jobs=jobs, **document)
    world.settle()
    return accepted.jobset_id, list(range(accepted.first_panda_id, accepted.last_panda_id + 1))


def test_jobs_are_put_together_by_what_they_wait_for(world):
    jobs = [{"command": ["true"]}] * 3 + [{"command": ["true"], "memory_mb": 20_000}] * 4
    jobset_id, panda_ids = submitted(
        world, [*jobs, {"command": ["true"], "tags": ["nosuch"]}], brokerage={"sites": ["NORTH"]}
    )
    [job] = world.acquire(1, queue="NORTH-Q")
    with world.begin() as connection:
        hold.hold(connection, panda_ids[-2:-1], by="alice", reason="not yet", may_all=False)

    found = told(world, jobset_id)

    assert kinds(found) == [
        (1, "defined", "operator", None), (1, "defined", "queue", None), (1, "sent", "lease", None),
        (2, "activated", "pilot", "NORTH-Q"), (3, "defined", "queue", None),
    ]  # fmt: skip
    assert (found.owner, found.n_open, found.n_seen, found.is_whole, found.n_more) == ("alice", 8, 8, True, 0)
    largest = found.groups[0]
    assert largest.panda_ids == panda_ids[3:6]
    assert largest.explanation.answer.panda_id == panda_ids[3]
    assert "needs 20 GB of memory" in largest.explanation.answer.summary
    assert "ask for 8 GB of memory instead of 20 GB" in largest.explanation.changes[0].say
    assert [each.panda_ids for each in found.groups if each.waits_for == "lease"] == [[job.panda_id]]


def test_what_brokerage_said_in_two_passes_is_one_kind_if_only_numbers_differ(world):
    world.query("UPDATE queues SET max_ready = 1 RETURNING 1")
    world.jobs(1, brokerage={"sites": ["NORTH"]})
    world.settle()
    jobset_id, panda_ids = submitted(world, [{"command": ["true"]}] * 4, brokerage={"sites": ["NORTH"]})
    world.query(
        "WITH d AS (INSERT INTO brokerage_decisions (at, n_jobs, policy, funnel, weights, chosen, terms)"
        " SELECT at, 1, policy, replace(funnel::text, 'limit is 1', 'limit is 77')::jsonb, weights, chosen, terms"
        " FROM brokerage_decisions ORDER BY decision_id DESC LIMIT 1 RETURNING decision_id)"
        " UPDATE jobs SET decision_id = d.decision_id FROM d WHERE panda_id = %(id)s RETURNING 1", id=panda_ids[0],
    )  # fmt: skip

    assert kinds(told(world, jobset_id)) == [(4, "defined", "queue", None)]


def test_of_a_large_set_every_part_is_looked_at(world, monkeypatch):
    monkeypatch.setattr(explaining_sets, "STRIPES", 4)
    monkeypatch.setattr(explaining_sets, "WIDTH", 2)
    sql = explaining_sets.KINDS_OF.replace("generate_series(0, 40 - 1)", "generate_series(0, 4 - 1)")
    monkeypatch.setattr(explaining_sets, "KINDS_OF", sql.replace("LIMIT 250", "LIMIT 2"))
    jobs = [{"command": ["true"], "tags": [f"t{i // 10}"]} for i in range(40)]
    jobset_id, _ = submitted(world, jobs)

    found = told(world, jobset_id)

    assert (found.n_open, found.n_seen, found.is_whole) == (40, 8, False)
    assert [each.n for each in found.groups] == [2, 2, 2, 2]


def test_many_kinds_are_told_as_their_number(world, monkeypatch):
    monkeypatch.setattr(explaining_sets, "KINDS", 2)
    jobs = [{"command": ["true"], "memory_mb": 20_000 + i} for i in range(5)]
    jobset_id, _ = submitted(world, jobs)

    found = told(world, jobset_id)

    assert ([each.n for each in found.groups], found.n_more) == ([1, 1], 3)


def test_jobs_that_are_not_made_yet_and_sets_that_have_ended(world):
    accepted = world.submit(jobs=[{"command": ["true"]}] * 3)
    fresh = told(world, accepted.jobset_id)
    assert (fresh.n_open, fresh.n_not_made, fresh.n_seen, fresh.groups) == (3, 3, 0, [])
    world.settle()
    for job in world.acquire(3, queue="NORTH-Q") + world.acquire(3, queue="SOUTH-Q", pilot_id="other"):
        world.report(job, "finished")
    world.settle()

    ended = told(world, accepted.jobset_id)

    assert (ended.n_open, ended.n_not_made, ended.n_seen, ended.groups) == (0, 0, 0, [])
    with pytest.raises(NotFound):
        told(world, accepted.jobset_id + 1)


def test_failed_jobs_that_rest_are_not_open(world):
    jobset_id, _ = submitted(world, [{"command": ["true"], "max_attempts": 1}] * 2, brokerage={"sites": ["NORTH"]})
    [job] = world.acquire(1, queue="NORTH-Q")
    world.fail(job)
    world.settle()

    assert kinds(told(world, jobset_id)) == [(1, "activated", "pilot", "NORTH-Q")]
