"""F12. The connection breaks just after COMMIT was sent: it is done, and nobody here knows. Whoever asked asks again."""

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from sqlalchemy.exc import DBAPIError

from panda.chaos.proxy import Proxy, Weather
from panda.db.session import begin_of, make_engine
from panda.dispatcher import matching


@pytest.fixture
def cut(world, database_url):
    """`cut(world, b"COMMIT")`: the world's database is behind a proxy that cuts after this was sent, once."""
    parts = urlsplit(database_url)
    folder = parse_qs(parts.query)["host"][0]
    proxy = Proxy(str(Path(folder) / ".s.PGSQL.5432"), 0, seed=1)
    proxy.start()
    engine = make_engine(f"postgresql://panda@127.0.0.1:{proxy.port}{parts.path}", pool_size=2)
    direct = world.begin
    world.begin = begin_of(engine)
    world.query("SELECT 1")  # SQLAlchemy gets to know the server, and commits meanwhile

    def after(words):
        proxy.weather = Weather(cut_after=words)

    yield after
    world.begin = direct
    engine.dispose()
    proxy.stop()


def test_a_submission_that_is_sent_again_with_its_key_is_the_same_set(world, cut):
    cut(b"COMMIT")
    with pytest.raises(DBAPIError) as unknown:
        world.submit(key="once", jobs=[{"command": ["true"]}] * 2)

    again = world.submit(key="once", jobs=[{"command": ["true"]}] * 2)

    assert unknown.value.connection_invalidated  # the API answers 503 with Retry-After
    assert (again.replayed, again.n_jobs) == (True, 2)
    assert len(world.query("SELECT 1 FROM jobsets")) == 1


@pytest.mark.parametrize("n_before", [0, 1])
def test_a_pilot_that_asks_again_gets_the_same_job(world, cut, n_before):
    """The first claim of a pilot is a transaction, the later ones are one statement."""
    ids = world.jobs(3, brokerage={"sites": ["NORTH"]})
    world.settle()
    for nr in range(n_before):
        [job] = world.acquire(queue="NORTH-Q", request_id=f"before-{nr}")
        world.report(job, "finished")
    matching.forget()

    cut(b"DELETE FROM ready" if n_before else b"COMMIT")
    with pytest.raises(DBAPIError):
        world.acquire(queue="NORTH-Q", request_id="the-same")
    [job] = world.acquire(queue="NORTH-Q", request_id="the-same")

    assert job.panda_id == ids[n_before]
    assert len(world.query("SELECT 1 FROM leases")) == 1
    assert world.report(job, "finished").outcome == "ok"
    world.settle()


def test_a_final_report_that_is_sent_again_was_taken(world, cut):
    [panda_id] = world.jobs()
    world.settle()
    [job] = world.acquire()

    cut(b"WITH said")
    with pytest.raises(DBAPIError):
        world.report(job, "finished")
    again = world.report(job, "finished")
    world.settle()

    assert again.outcome == "already_done"
    assert world.moves(panda_id)[-2:] == ["holding", "finished"]
