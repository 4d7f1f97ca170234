"""Whose turn it is, and which part of the machines each may use: arithmetic on a tree."""

import math
import random
from collections import Counter

import pytest

from panda.errors import ConfigError
from panda.jobs.share_tree import Share, Tree

#: production 60 (simulation 3, reconstruction 1), analysis 30, default 10
TREE = Tree(
    [
        Share("production", None, 60), Share("simulation", "production", 3), Share("reconstruction", "production", 1),
        Share("analysis", None, 30), Share("default", None, 10),
    ]
)  # fmt: skip
LEAVES = ["simulation", "reconstruction", "analysis", "default"]


def test_only_leaves_may_be_named():
    assert TREE.leaves == sorted(LEAVES)
    assert TREE.below("production") == ["reconstruction", "simulation"]
    assert [share.name for share in TREE.walk()] == [
        "analysis", "default", "production", "reconstruction", "simulation",
    ]  # fmt: skip


def test_a_part_is_the_weight_among_siblings_times_the_part_above():
    assert TREE.parts(LEAVES) == pytest.approx(
        {"production": 0.6, "simulation": 0.45, "reconstruction": 0.15, "analysis": 0.3, "default": 0.1}
    )


def test_the_part_of_an_idle_share_goes_to_its_siblings_first():
    assert TREE.parts(["reconstruction", "analysis", "default"]) == pytest.approx(
        {"production": 0.6, "reconstruction": 0.6, "analysis": 0.3, "default": 0.1}
    )


def test_the_part_of_an_idle_branch_is_spread_over_those_beside_it():
    assert TREE.parts(["analysis", "default"]) == pytest.approx({"analysis": 0.75, "default": 0.25})
    assert TREE.parts([]) == {}


def test_the_parts_of_whoever_is_active_make_a_whole():
    choice = random.Random(4711)
    for _ in range(200):
        tree = random_tree(choice)
        active = choice.sample(tree.leaves, choice.randint(1, len(tree.leaves)))
        parts = tree.parts(active)
        assert math.isclose(sum(parts[leaf] for leaf in active), 1)


def random_tree(choice):
    shares = [Share("0", None, choice.uniform(0.1, 9))]
    for n in range(1, choice.randint(2, 30)):
        parent = choice.choice([None, *(share.name for share in shares)])
        shares.append(Share(str(n), parent, choice.uniform(0.1, 9)))
    return Tree(shares)


def test_the_branch_that_is_furthest_below_its_part_comes_first():
    load = TREE.load({"simulation": 59, "analysis": 30, "default": 10})

    assert TREE.first(LEAVES, load) == "reconstruction"
    assert TREE.order(LEAVES, load) == ["reconstruction", "simulation", "analysis", "default"]


def test_a_branch_that_is_above_its_part_waits_even_if_a_share_in_it_has_nothing():
    load = TREE.load({"simulation": 70, "analysis": 20, "default": 10})

    assert TREE.order(LEAVES, load) == ["analysis", "default", "reconstruction", "simulation"]


def test_while_nothing_runs_the_heaviest_goes_first():
    assert TREE.order(LEAVES, {}) == ["simulation", "reconstruction", "analysis", "default"]


@pytest.mark.parametrize("n", [1, 10, 100])
def test_jobs_are_dealt_out_until_every_share_has_its_part(n):
    running = Counter[str]()
    for _ in range(1000 // n):
        running.update(TREE.deal(dict.fromkeys(LEAVES, 1), n, TREE.load(running), most=4))

    parts = TREE.parts(LEAVES)
    assert all(abs(running[leaf] - 1000 * parts[leaf]) <= 1 for leaf in LEAVES)


def test_cores_count_not_jobs():
    cores = {"simulation": 8, "analysis": 1}
    running = Counter[str]()
    for _ in range(300):
        [share] = TREE.deal(cores, 1, TREE.load(running), most=1)
        running[share] += cores[share]

    assert running["simulation"] / running.total() == pytest.approx(60 / 90, abs=0.02)


def test_a_claim_takes_from_few_shares_those_that_are_furthest_below():
    tree = Tree(Share(f"s{n:02}", None, 1) for n in range(20))
    running = Counter({f"s{n:02}": n for n in range(20)})

    dealt = tree.deal(dict.fromkeys(running, 1), 12, tree.load(running), most=3)

    assert dealt == {"s00": 5, "s01": 4, "s02": 3}


def test_a_share_that_the_tree_does_not_have_gets_its_turn_as_the_lightest_at_the_top():
    assert TREE.is_stray("old")
    assert TREE.is_stray("production")
    assert TREE.parts(["analysis", "default", "production"]) == pytest.approx(
        {"analysis": 0.6, "default": 0.2, "production (stray)": 0.2}
    )
    assert TREE.first(["simulation", "old"], TREE.load({"simulation": 60, "old": 9})) == "old"


@pytest.mark.parametrize(
    "shares",
    [
        [Share("a", "b", 1), Share("b", "a", 1)],
        [Share("a", "a", 1)],
        [Share("a", "b", 1), Share("b", "c", 1), Share("c", "b", 1), Share("default", None, 1)],
    ],
)
def test_a_cycle_is_refused(shares):
    with pytest.raises(ConfigError, match="stands below itself"):
        Tree(shares)


def test_a_parent_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match="share a stands below b, which is not there"):
        Tree([Share("a", "b", 1)])
