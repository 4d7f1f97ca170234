"""How many jobs a pilot asks for, and when."""

from dataclasses import replace

import pytest
from pilot_stub_server import make_job

from pilot.demand import Demand
from pilot.offer import Offer, Room
from pilot.wire import AcquireReply, PilotJob

OFFER = Offer(
    pilot_id="p",
    url="http://x",
    work="/w",
    queue="Q",
    node="n",
    tags=[],
    cores=4,
    memory_mb=8000,
    disk_mb=10_000,
    slot_s=3600,
    idle_s=20,
    max_jobs=0,
    bulk=1,
    wait_s=60,
    grace_s=10,
)
EMPTY = AcquireReply(jobs=[], heartbeat_s=30, lease_s=120)


def job(**more):
    return PilotJob.read(make_job(1, **more))


def test_an_empty_slot_asks_for_a_job_per_core_and_waits_as_long_as_it_would_idle():
    ask = Demand(OFFER, 0).ask(0, Room(OFFER), n_held=0, n_queued=0)

    assert ask is not None
    assert (ask["n"], ask["cores"], ask["wait_s"], ask["walltime_s"]) == (4, 4, 20, 3600 - OFFER.reserve_s)


def test_the_ask_says_what_is_free():
    room = Room(OFFER)
    room.take(job(cores=3, memory_mb=5000, disk_mb=9000))
    ask = Demand(OFFER, 0).ask(100, room, n_held=1, n_queued=0)

    assert ask is not None
    assert (ask["n"], ask["cores"], ask["memory_mb"], ask["disk_mb"]) == (1, 1, 3000, 1000)
    assert (ask["walltime_s"], ask["wait_s"]) == (3500 - OFFER.reserve_s, 5)


def test_gpus_are_taken_and_given_back():
    room = Room(replace(OFFER, gpus=2))
    one, three = job(gpus=1), job(gpus=3)
    room.take(one)
    ask = Demand(replace(OFFER, gpus=2), 0).ask(100, room, n_held=1, n_queued=0)

    assert ask is not None
    assert (ask["gpus"], room.fits(job(gpus=2)), room.fits_never(job(gpus=2)), room.fits_never(three)) == (
        1, False, False, True,
    )  # fmt: skip
    room.give_back(one)
    assert room.fits(job(gpus=2))


def test_a_full_slot_asks_for_nothing():
    room = Room(OFFER)
    room.take(job(cores=4))

    assert Demand(OFFER, 0).ask(0, room, n_held=1, n_queued=0) is None


def test_one_request_at_a_time():
    demand = Demand(OFFER, 0)
    assert demand.ask(0, Room(OFFER), 0, 0)
    assert demand.ask(1, Room(OFFER), 0, 0) is None

    demand.answered(20, EMPTY)
    assert demand.ask(21, Room(OFFER), 0, 0)


def test_a_server_that_answers_at_once_is_asked_ever_less_often():
    demand, now, asked_at = Demand(OFFER, 0), 0.0, []
    while now < 60:
        if demand.ask(now, Room(OFFER), 0, 0):
            asked_at.append(now)
            demand.answered(now, EMPTY)
        now += 0.05

    assert 8 < len(asked_at) < 25


@pytest.mark.parametrize(
    ("wall_s", "n_expected"),
    [(0.01, 100), (10, 24), (3000, 0)],
    ids=["tiny jobs fill the stock", "longer ones as far as the lease", "long ones are not hoarded"],
)
def test_bulk_is_bounded_by_what_can_start_within_the_lease(wall_s, n_expected):
    offer = replace(OFFER, bulk=100)
    room = Room(offer)
    room.take(job(cores=4))
    demand = Demand(offer, 0)
    demand.ran(wall_s)

    ask = demand.ask(0, room, n_held=4, n_queued=0)

    assert (ask["n"] if ask else 0) == n_expected


def test_before_the_first_job_has_run_nothing_is_held_in_stock():
    ask = Demand(replace(OFFER, bulk=100), 0).ask(0, Room(OFFER), 0, 0)

    assert ask is not None
    assert ask["n"] == 4


def test_a_slot_near_its_end_takes_nothing():
    demand = Demand(OFFER, 0)

    assert demand.ask(3575, Room(OFFER), 0, 0) is None
    assert demand.is_over(3575)


def test_a_job_that_never_fits_is_told_from_one_that_waits():
    room = Room(OFFER)
    room.take(job(memory_mb=7000))

    assert not room.fits(job(memory_mb=2000))
    assert not room.fits_never(job(memory_mb=2000))
    assert room.fits_never(job(memory_mb=9000))
