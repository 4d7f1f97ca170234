"""What past predictions teach: how wide an estimate must be, and how often it was right."""

from typing import NamedTuple

import pytest

from panda.jobs.estimates import ENOUGH, FIRST_SPREAD, FOREVER_S, PACE_S, learnt, part_of, seconds
from panda.jobs.share_tree import Share, Tree


class Past(NamedTuple):
    base_s: float
    took_s: float
    has_started: bool = True
    was_right: bool = True
    is_overdue: bool = False


def test_until_enough_were_compared_nothing_is_learnt():
    few = [Past(100, 100)] * (ENOUGH - 1) + [Past(100, 10, has_started=False)]  # one of them is still open

    assert learnt(few) == (FIRST_SPREAD, None, ENOUGH - 1)


def test_the_spread_is_that_of_the_middle_of_what_happened():
    past = [Past(100, 100.0 * n) for n in range(1, 101)]

    measured = learnt(past)

    assert measured.spread == (10.0, 90.0)
    assert (measured.coverage, measured.n_compared) == (1.0, 100)


def test_what_waits_too_long_counts_as_wrong_and_widens_the_spread():
    past = [Past(100, 100.0)] * 15 + [Past(100, 900.0, has_started=False, was_right=False, is_overdue=True)] * 5

    measured = learnt(past)

    assert measured.coverage == 0.75
    assert measured.spread == (1.0, 9.0)


def test_an_estimate_is_never_a_point():
    assert learnt([Past(100, 100.0)] * 30).spread == (1.0, 2.0)


@pytest.mark.parametrize(
    ("n_before", "n_starts", "part", "expected"),
    [
        (0, 60, 1.0, 60.0),
        (59, 60, 1.0, PACE_S),
        (59, 60, 0.5, 2 * PACE_S),
        (5, 0, 1.0, None),
        (5, 10, 0.0, None),
        (1_000_000, 1, 1.0, FOREVER_S),
    ],
)
def test_a_job_starts_when_those_before_it_have_started(n_before, n_starts, part, expected):
    assert seconds(n_before, n_starts, part) == expected


def test_a_share_gets_its_part_of_the_starts_among_those_that_wait_there():
    tree = Tree([Share("a", None, 60), Share("b", None, 30), Share("c", None, 10)])

    assert part_of(tree, "b", {"a", "b", "c"}) == pytest.approx(0.3)
    assert part_of(tree, "b", {"b", "c"}) == pytest.approx(0.75)
    assert part_of(tree, "unheard", {"unheard"}) == 1.0
