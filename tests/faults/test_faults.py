"""`kill -9` of any one process, or Redis erased, in the middle of a job set: a delay, and nothing else.

Real processes, real signals. After each fault every job has finished, once; every invariant holds; and the
delay is far below `resend_s`, which is what it would be if nobody noticed.
"""

import os
import shutil
import signal
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
from livesystem import await_that

#: Every line of the Procfile, and the two stores.
EVERY_PROCESS = ("api", "stages", "data", "beat", "relay", "pilots", "monitor", "postgres", "redis")


@pytest.mark.parametrize("name", EVERY_PROCESS)
def test_a_process_that_is_killed_is_only_a_delay(system, load, name):
    accepted = load.in_the_middle()
    killed = system.pid(name)

    os.kill(killed, signal.SIGKILL)

    load.finishes(accepted)
    await_that(lambda: system.pid(name) not in (killed, 0), 15)


def test_a_pool_child_that_is_killed_under_a_stage_is_only_a_delay(system, load, stopped):
    children = system.children("stages")
    stopped(children)
    accepted = load.submit()
    await_that(lambda: _sent(system, accepted), 15)

    with psycopg.connect(system.database_url) as holder:  # what it is about to lock is locked already
        holder.execute(
            "SELECT FROM job_due WHERE panda_id BETWEEN %s AND %s FOR UPDATE",
            (accepted.first_panda_id, accepted.last_panda_id),
        )
        for child in children:
            os.kill(child, signal.SIGCONT)
        await_that(lambda: _is_blocked(system), 4)
        for child in children:
            os.kill(child, signal.SIGKILL)

    load.finishes(accepted)


def test_a_worker_that_is_killed_with_work_in_its_hands_is_only_a_delay(system, load, stopped):
    worker, children = system.pid("stages"), system.children("stages")
    stopped(children)
    accepted = load.submit()
    await_that(lambda: _sent(system, accepted), 15)

    for pid in (worker, *children):
        with suppress(ProcessLookupError):  # the kernel may have told the children already
            os.kill(pid, signal.SIGKILL)

    load.finishes(accepted)


def test_a_worker_that_stood_still_goes_on(system, load, stopped):
    everyone = [system.pid("stages"), *system.children("stages")]
    stopped(everyone)
    accepted = load.submit()
    await_that(lambda: _sent(system, accepted), 15)

    for pid in everyone:
        os.kill(pid, signal.SIGCONT)

    load.finishes(accepted)


def test_pilots_that_are_killed_or_stand_still_for_too_long_cost_their_jobs_an_attempt(system, load, stopped):
    accepted = load.in_the_middle()
    (killed, killed_pid), (stunned, stunned_pid) = await_that(lambda: _busy_pilots(system, 2), 15)

    os.kill(killed_pid, signal.SIGKILL)
    stopped([stunned_pid])

    load.finishes(accepted)  # without them
    os.kill(stunned_pid, signal.SIGCONT)  # it comes back, and reports what is not its own any more
    await_that(lambda: not _has_payloads(stunned_pid), 15)
    load.finishes(accepted)
    lost = system.query(
        "SELECT outcome, error_code FROM attempts WHERE pilot_id = ANY(%(pilots)s) AND outcome <> 'finished'",
        pilots=[killed, stunned],
    )
    assert {(row.outcome, row.error_code) for row in lost} == {("failed", "dispatch:lost_heartbeat")}


def test_redis_erased_in_the_middle_is_only_a_delay(system, load, erase_redis):
    accepted = load.in_the_middle()

    erase_redis()

    load.finishes(accepted)


def test_redis_erased_with_everything_in_it_is_only_a_delay(system, load, stopped, erase_redis):
    everyone = [system.pid("stages"), *system.children("stages")]
    stopped(everyone)  # so that messages wait in Redis
    accepted = load.submit()
    await_that(lambda: _sent(system, accepted), 15)

    erase_redis()
    for pid in everyone:
        os.kill(pid, signal.SIGCONT)

    load.finishes(accepted)


def test_redis_killed_and_its_files_gone_is_only_a_delay(system, load):
    accepted = load.in_the_middle()

    shutil.rmtree(system.folder / "redis" / "data")
    os.kill(system.pid("redis"), signal.SIGKILL)

    load.finishes(accepted)


def test_a_job_set_is_accepted_while_redis_is_away(system, load, stopped):
    stopped([system.pid("redis")])

    accepted = load.submit()
    os.kill(system.pid("redis"), signal.SIGCONT)

    load.finishes(accepted)


def test_a_mover_that_is_killed_in_the_middle_of_a_file_is_only_a_delay(system, load, tmp_path):
    """The replica becomes a pipe that nobody writes to, so the mover is surely in the middle of it."""
    source = tmp_path / "big.bin"
    source.write_bytes(os.urandom(100_000))
    system.client.datasets.create("faults:moved")
    system.client.datasets.put("faults:moved", source, storage="NORTH-DISK")
    [replica] = (system.folder / "storage" / "north").rglob("big.bin")
    replica.unlink()
    os.mkfifo(replica)
    accepted = system.client.submit(
        {
            "name": "moved",
            "brokerage": {"sites": ["SOUTH"]},
            "jobs": [{"command": ["cp", "big.bin", "copy.bin"], "inputs": ["faults:moved/big.bin"], "outputs": ["copy.bin"]}],
        }
    )  # fmt: skip
    await_that(
        lambda: system.query("SELECT 1 FROM transfers WHERE status = 'moving' AND source = 'NORTH-DISK'"),
        15,
        lambda: system.client.why(accepted.first_panda_id),
    )

    os.kill(system.pid("data"), signal.SIGKILL)
    replica.unlink()
    replica.write_bytes(source.read_bytes())

    load.finishes(accepted)


def _sent(system, accepted):
    """Rows of the set that the relay has sent and no stage has finished with."""
    return system.query(
        "SELECT 1 FROM job_due WHERE panda_id BETWEEN %(first)s AND %(last)s AND stage = 'define' AND deliveries > 0",
        first=accepted.first_panda_id,
        last=accepted.last_panda_id,
    )


def _is_blocked(system):
    """A stage waits for the rows of its jobs."""
    return system.query(
        "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%%UPDATE job_due SET stage = %%'"
    )


def _busy_pilots(system, n):
    """(id, pid) of `n` pilots that have jobs now."""
    busy = {row.pilot_id for row in system.query("SELECT DISTINCT pilot_id FROM leases")}
    found = [(pilot_id, pid) for pilot_id, pid in system.pilots().items() if pilot_id in busy]
    return found[:n] if len(found) >= n else None


def _has_payloads(pid):
    """Whether anything runs below this pilot, but for its guard."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return any(b"pilot.guard" not in Path(f"/proc/{child}/cmdline").read_bytes() for child in children)
    except OSError:
        return False
