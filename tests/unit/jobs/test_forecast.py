"""What becomes of core hours: used up when, and again some when."""

from datetime import date, timedelta

import pytest

from panda.jobs.quotas.forecast import outlook, together

TODAY = date(2026, 3, 31)


def ago(**hours: float) -> dict[date, float]:
    """`d3=5`: five core hours three days ago."""
    return {TODAY - timedelta(days=int(name[1:])): value for name, value in hours.items()}


def steady(per_day: float, days: int = 30) -> dict[date, float]:
    return {TODAY - timedelta(days=k): per_day for k in range(days)}


@pytest.mark.parametrize(
    ("days", "used", "limit", "told"),
    [
        (steady(10), 300, 1000, (10, None, None)),  # what falls out of the period is what comes in
        (steady(10, 7), 70, 100, (10, TODAY + timedelta(days=3), None)),
        (ago(d29=95), 95, 100, (0, None, None)),
        (ago(d29=60, d1=70), 130, 100, (10, None, TODAY + timedelta(days=1))),
        (ago(d10=100), 100, 100, (0, None, TODAY + timedelta(days=20))),
        ({}, 0, 10, (0, None, None)),
        ({}, 70, 100, (10, TODAY + timedelta(days=3), None)),  # it runs still, and no day has it yet
    ],
)
def test_when_core_hours_are_used_up_and_when_there_are_some_again(days, used, limit, told):
    found = outlook(days, used, limit, TODAY, 30)

    assert (found.per_day, found.used_up_on, found.room_on) == told
    assert found.period_days == 30


def test_what_runs_for_longer_than_anything_counted_leaves_no_day_on_which_there_is_room():
    assert outlook({}, 500, 100, TODAY, 30).room_on is None


def test_a_group_used_what_its_members_did():
    assert together({"anna": ago(d1=1, d2=2), "bert": ago(d1=4), "carl": ago(d1=9)}, ("anna", "bert", "eve")) == ago(
        d1=5, d2=2
    )
