"""F38. A job set of a million, as far as a test may go: it is accepted at once, and no step of it grows with it."""

import pytest

from panda.db.session import rows
from panda.jobs import expansion, kill, queries

N_JOBS = 1_000_000


def test_a_million_jobs_are_promised_at_once_and_cancelled_chunk_by_chunk(world):
    accepted = world.submit(template={"command": ["true", "${seq}"], "count": N_JOBS})
    for _ in range(3):
        world.turn_expansion()

    with world.begin() as connection:
        facts = queries.jobset(connection, accepted.jobset_id)
        n_asked = kill.request_jobset(connection, accepted.jobset_id, by="alice", reason="")
        n_first = kill.cancel_chunk(connection)
    between = world.findings()

    chunk = world.engine.chunk_jobs
    assert (accepted.n_jobs, accepted.last_panda_id - accepted.first_panda_id + 1) == (N_JOBS, N_JOBS)
    assert (facts.ledger["accepted"], facts.ledger["unexpanded"]) == (N_JOBS, N_JOBS - 3 * chunk)
    assert (n_asked, n_first, between) == (N_JOBS, 1000, [])


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_million_jobs_are_made_and_every_one_of_them_is_cancelled(world):
    accepted = world.submit(template={"command": ["true", "${seq}"], "count": N_JOBS})
    with world.begin() as connection:
        kill.request_jobset(connection, accepted.jobset_id, by="alice", reason="")
    while True:
        n = expansion.expand(world.begin, world.engine)
        with world.begin() as connection:
            n += kill.cancel_chunk(connection, limit=5000)
        for group in world.claim(final=True):
            n += 1
            world.run_chain(group.stage, group.panda_ids)
        if not n:
            break

    with world.begin() as connection:
        [ledger] = rows(connection, "SELECT n_open, n_cancelled FROM jobsets")
    assert (ledger.n_open, ledger.n_cancelled) == (0, N_JOBS)
