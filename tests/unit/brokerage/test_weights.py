"""Jobs are dealt out fairly, and every one of them exactly once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from panda.brokerage.broker import next_look_s
from panda.brokerage.subjects import Geography, Load, Locality
from panda.brokerage.weights import PREFERRED, backlog_weight, bringing_s, deal, queue_weight, terms_of
from tests.unit.brokerage.subjects import a_kind, a_queue, at, wishes

names = st.sampled_from("abcdefgh")
weights = st.dictionaries(names, st.floats(1e-9, 1e9), min_size=1)


def test_the_weight_is_the_documented_one():
    assert backlog_weight(Load()) == 1 / 10
    assert backlog_weight(Load(assigned=10, activated=5, starting=5, running=59)) == 60 / (30 * 2)
    assert backlog_weight(Load(assigned=15, activated=10, running=6)) == 7 / (35 * 1.5)


def test_a_queue_where_the_bytes_are_weighs_more_than_one_where_they_are_not():
    here, half, elsewhere = (a_kind(locality=at(place, n)) for place, n in (("DISK", 10), ("DISK", 5), ("OTHER", 10)))
    plain = queue_weight(a_kind(), a_queue())

    assert queue_weight(here, a_queue()) == plain
    assert plain > queue_weight(half, a_queue()) > queue_weight(elsewhere, a_queue()) > 0


MAP = Geography({"DISK": ("S", "EU"), "NEAR": ("N", "EU"), "FAR": ("F", "US"), "LINKED": ("L", "US")}, {("L", "S"): 5})


@pytest.mark.parametrize(
    ("inputs", "seconds"),
    [
        (at("DISK", 10, 1024), 0),  # they are there
        (at("CACHE", 10, 1024), 0),  # and there its nodes read too
        (at("LINKED", 10, 1000), 60 + 1000 * 1.5 / 100),  # a link says how far it is
        (at("NEAR", 10, 1000), 60 + 1000 * 2 / 100),  # the same cloud
        (at("FAR", 10, 1000), 60 + 1000 * 3 / 100),
        (at("FAR", 10, 100_000), 60 + 100_000 * 3 / 100),
        (Locality(0, (("DISK", 4), ("FAR", 10), ("NEAR", 3)), 1000), 60 + 300 * 2 / 100 + 300 * 3 / 100),
        (Locality(0, (), 1000), 60 + 1000 * 3 / 100),  # in pieces smaller than a tenth, who knows where
    ],
)
def test_what_has_to_be_brought_takes_time_by_its_size_and_by_the_nearest_links(inputs, seconds):
    place = a_queue(cloud="EU", read_storages=("CACHE",), geography=MAP)

    assert bringing_s(inputs, place) == pytest.approx(seconds)
    assert terms_of(a_kind(locality=inputs), place, {})["transfer"] == pytest.approx(3600 / (3600 + seconds))


TAPES = Geography({"DISK": ("S", "EU"), "TAPE": ("S", "EU"), "FAR": ("F", "US")}, {}, frozenset({"TAPE"}))


@pytest.mark.parametrize(
    ("tenths", "weight", "distances"),
    [
        ((("DISK", 10), ("TAPE", 10)), 1, []),  # the disk has it
        ((("TAPE", 10),), 0.1, [0]),
        ((("FAR", 10), ("TAPE", 10)), 1, [20]),  # a disk far away goes before a tape at hand
        ((("FAR", 5), ("TAPE", 10)), 0.55, [20, 0]),
        ((), 1, [20]),
    ],
)
def test_what_a_tape_has_to_bring_online_first_weighs_less(tenths, weight, distances):
    inputs, place = Locality(0, tenths, 1000), a_queue(cloud="EU", geography=TAPES)

    assert terms_of(a_kind(locality=inputs), place, {})["recall"] == pytest.approx(weight)
    assert [way.distance for way in inputs.ways(place)] == distances


@pytest.mark.parametrize(
    ("starts", "running", "weight"), [(None, 100, 1), (100, 100, 1), (50, 100, 51 / 101), (0, 100, 0.5), (900, 100, 2)]
)
def test_a_queue_whose_cores_change_hands_often_weighs_more(starts, running, weight):
    place = a_queue(load=Load(running=running, starts=starts))

    assert terms_of(a_kind(), place, {})["pace"] == pytest.approx(weight)


def test_a_queue_that_no_pilot_visits_weighs_less():
    plain = queue_weight(a_kind(), a_queue())

    assert queue_weight(a_kind(), a_queue(submitter="none")) < plain
    assert queue_weight(a_kind(), a_queue(submitter="none", load=Load(n_pilots=1))) == plain


def test_a_queue_that_the_job_set_prefers_weighs_more():
    kind = a_kind(wishes=wishes(prefer=["N*"]))

    assert queue_weight(kind, a_queue(site="NORTH")) == PREFERRED * queue_weight(kind, a_queue(site="SOUTH"))


def test_a_policy_says_how_much_a_term_counts():
    elsewhere = a_kind(locality=at("OTHER", 10))

    assert queue_weight(elsewhere, a_queue(), {"locality": 0, "transfer": 0}) == queue_weight(a_kind(), a_queue())
    assert terms_of(elsewhere, a_queue(), {"locality": 2})["locality"] == pytest.approx(0.01)


def test_remainders_go_to_the_largest_and_ties_to_the_first_name():
    assert deal(10, {"a": 1, "b": 1, "c": 1}, {"a": None, "b": None, "c": None}) == {"a": 4, "b": 3, "c": 3}
    assert deal(10, {"a": 0.1, "b": 1}, {"a": None, "b": None}) == {"a": 1, "b": 9}
    assert deal(1, {"a": 1, "b": 2}, {"a": None, "b": None}) == {"b": 1}


@given(st.integers(0, 5000), weights)
def test_all_jobs_are_dealt_and_none_far_from_its_share(n, given_weights):
    dealt = deal(n, given_weights, dict.fromkeys(given_weights))

    assert sum(dealt.values()) == n
    total = sum(given_weights.values())
    for name, weight in given_weights.items():
        assert abs(dealt.get(name, 0) - n * weight / total) <= 1 + 1e-6


@given(st.integers(0, 500), st.dictionaries(names, st.tuples(st.floats(1e-6, 1e6), st.none() | st.integers(0, 100))))
def test_room_is_respected_and_used(n, queues):
    room = {name: limit for name, (_, limit) in queues.items()}

    dealt = deal(n, {name: weight for name, (weight, _) in queues.items()}, room)

    assert all(room[name] is None or count <= room[name] for name, count in dealt.items())
    unlimited = any(limit is None for limit in room.values())
    assert sum(dealt.values()) == (n if unlimited else min(n, sum(limit for limit in room.values() if limit)))


def test_looks_at_a_waiting_job_grow_apart():
    assert [next_look_s(waited, 30) for waited in (0, 29, 60, 119, 120, 500, 1e6)] == [30, 30, 60, 60, 120, 480, 600]
    assert next_look_s(0, 0) == 1
    assert next_look_s(1e6, 3600) == 3600
