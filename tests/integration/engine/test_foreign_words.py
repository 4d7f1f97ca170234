"""What upstream's clients said is forgotten when its time is over, and not before."""

import pytest
from upstreamcalls import Upstreamer

from panda.jobs import foreign

MONTH_S = 31 * 86_400


@pytest.fixture
def upstream(world):
    return Upstreamer(world, anonymous=False)


def tidied(world):
    with world.begin() as connection:
        return foreign.tidy(connection, 30)


def said(world, table):
    return sorted(tuple(row) for row in world.query(f"SELECT * FROM {table}"))


def kept(world, table, column):
    return sorted(row[0] for row in world.query(f"SELECT {column} FROM {table}"))


def told_of(world, *panda_ids):
    world.query(
        "INSERT INTO upstream_jobs (panda_id, attributes) SELECT i, '{\"a\": 1}' FROM unnest(%(ids)s::bigint[]) i RETURNING 1",
        ids=list(panda_ids),
    )
    world.query(
        "INSERT INTO upstream_reports SELECT i, n, '{}', panda_now() FROM unnest(%(ids)s::bigint[]) i,"
        " generate_series(1, 2) n RETURNING 1",
        ids=list(panda_ids),
    )


def test_words_of_a_job_go_a_month_after_its_end(world):
    ended, live = world.jobs(2)
    world.settle()
    [job] = world.acquire()
    told_of(world, ended, live)
    world.report(job, "finished")
    world.settle()

    assert tidied(world) == 0
    world.pass_time(MONTH_S)
    tidied(world)

    assert kept(world, "upstream_jobs", "panda_id") == [live]
    assert set(kept(world, "upstream_reports", "panda_id")) == {live}
    world.sweep()
    world.settle()


def test_an_upload_goes_a_month_after_it_was_sent_or_asked_about(world, upstream):
    world.query(
        "INSERT INTO upstream_files SELECT name, 'abc', 10, 7, 'maria', panda_now() FROM unnest(ARRAY['a', 'b']) name RETURNING 1"
    )
    world.query("UPDATE upstream_files SET checksum = 8 WHERE name = 'b' RETURNING 1")
    world.pass_time(MONTH_S / 2)
    maria = upstream.token("maria", "user")
    upstream.v1("file_server/validate_cache_file", file_size=10, checksum=7, token=maria)
    world.pass_time(MONTH_S / 2 + 86_400)

    assert tidied(world) == 1
    assert kept(world, "upstream_files", "name") == ["a"]


def test_notes_and_commands_of_harvesters_go_but_for_what_the_next_worker_is_counted_by(world, upstream):
    world.query(
        "INSERT INTO upstream_notes SELECT 'h', k.kind, k.key, '{}', panda_now() FROM (VALUES ('instance', 'h'),"
        " ('worker', '9'), ('worker', '10'), ('worker', 'x'), ('dialog', '1'), ('metric', 'm')) AS k(kind, key) RETURNING 1"
    )
    world.query(
        "INSERT INTO upstream_commands (harvester_id, command, params, ack_requested, created_at)"
        " VALUES ('h', 'KILL', '{}', false, panda_now()) RETURNING 1"
    )
    assert tidied(world) == 0
    world.pass_time(MONTH_S)
    world.query("INSERT INTO upstream_notes VALUES ('h', 'worker', '3', '{}', panda_now()) RETURNING 1")

    assert tidied(world) == 5

    assert kept(world, "upstream_notes", "kind || ' ' || key") == ["instance h", "worker 10", "worker 3"]
    pilot = upstream.token("p", "pilot")
    assert upstream.v1("harvester/get_current_worker_id", "GET", harvester_id="h", token=pilot)["data"] == 10
