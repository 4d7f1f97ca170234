"""What pilots say of themselves, and what becomes of a request that nobody waits for any more."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from livesystem import await_that

from panda.dispatcher import notes
from panda.dispatcher.words import PilotEnd, PilotEnvironment
from panda.errors import NotFound

HERE = PilotEnvironment(queue="NORTH-Q", version="1", facts={"cores": 4, "user\0": "x\0y"}, warnings=["slow"])
GONE = PilotEnd(queue="NORTH-Q", exit_code=6, why="ended by SIGTERM", log="last \0words")


def test_a_pilots_node_and_its_last_words_can_be_read(world):
    with world.begin() as connection:
        now_s = notes.began(connection, "pilot-9", HERE)
        notes.ended(connection, "pilot-9", GONE)
        found = notes.of(connection, "pilot-9")

    assert now_s > 1.7e9
    assert (found.facts, found.warnings, found.problems) == ({"cores": 4, "user": "xy"}, ["slow"], [])
    assert (found.exit_code, found.why, found.log) == (6, "ended by SIGTERM", "last words")
    assert found.began_at <= found.ended_at


def test_a_pilot_that_begins_again_has_not_ended(world):
    with world.begin() as connection:
        notes.began(connection, "pilot-9", HERE)
        notes.ended(connection, "pilot-9", GONE)
        notes.began(connection, "pilot-9", HERE)
        found = notes.of(connection, "pilot-9")

    assert (found.ended_at, found.exit_code, found.log) == (None, None, None)


def test_a_pilot_that_said_nothing_is_not_found(world):
    with world.begin() as connection, pytest.raises(NotFound):
        notes.of(connection, "pilot-0")


def test_notes_go_after_two_weeks(world):
    with world.begin() as connection:
        notes.began(connection, "pilot-9", HERE)
    world.pass_time(15 * 86_400)
    with world.begin() as connection:
        notes.forget_old(connection)
        with pytest.raises(NotFound):
            notes.of(connection, "pilot-9")


def test_a_request_of_a_pilot_that_said_goodbye_takes_no_job(world):
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(world.acquire, queue="NORTH-Q", pilot_id="pilot-9", wait_s=4)
        await_that(lambda: world.query("SELECT 1 FROM pilots WHERE pilot_id = 'pilot-9'"), 5)
        with world.begin() as connection:
            notes.ended(connection, "pilot-9", GONE)
        [panda_id] = world.jobs(1, brokerage={"sites": ["NORTH"]})
        world.settle()
        given = asked.result()

    assert given == []
    assert world.status(panda_id) == "activated"
