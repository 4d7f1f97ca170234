"""Buckets: a burst, then a steady trickle, for each token by itself."""

from panda.api.rates import Buckets


def test_a_burst_is_let_through_then_one_drop_at_a_time():
    buckets = Buckets(per_s=2, size=3)

    assert [buckets.take(1, 100.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert buckets.take(1, 100.25) == 0.25
    assert buckets.take(1, 100.5) == 0.0
    assert buckets.take(1, 100.5) > 0


def test_one_token_takes_nothing_from_another():
    buckets = Buckets(per_s=1, size=1)

    assert [buckets.take(key, 5.0) for key in (1, 2, 1)] == [0.0, 0.0, 1.0]


def test_a_bucket_never_holds_more_than_its_size_and_never_runs_backwards():
    buckets = Buckets(per_s=1, size=2)

    assert [buckets.take(1, at) for at in (1000.0, 1.0, 0.0)][:2] == [0.0, 0.0]
    assert [buckets.take(1, 9999.0) for _ in range(3)] == [0.0, 0.0, 1.0]


def test_without_a_rate_nothing_is_refused():
    assert all(Buckets(0, 1).take(1, 0.0) == 0.0 for _ in range(1000))
