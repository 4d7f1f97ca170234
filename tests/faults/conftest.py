"""One installation for every fault, and the load that runs on it while something breaks."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from integration.engine.conftest import world
from livesystem import System, await_that

from panda.client import Accepted
from panda.settings import client_url

__all__ = ["world"]

N_JOBS = 60
#: "Only a delay, well below two minutes"; without the guards the wait is `resend_s`, 155 s.
LONGEST_DELAY_S = 60.0


class Load:
    """Short jobs on a system whose parts die."""

    def __init__(self, system: System) -> None:
        self.system = system

    def submit(self, n: int = N_JOBS) -> Accepted:
        """`n` jobs of 0.3 s, each with an output of its own."""
        script = "sleep 0.3; echo $PANDA_ID > out.$0.txt"
        return self.system.client.submit(
            {
                "name": "load",
                "defaults": {"memory_mb": 100, "disk_mb": 100, "walltime_s": 60, "max_attempts": 5},
                "template": {"command": ["sh", "-c", script, "${seq}"], "count": n, "outputs": ["out.${seq}.txt"]},
            }
        )

    def in_the_middle(self) -> Accepted:
        """A set of which some jobs have finished and others have not."""
        accepted = self.submit()
        await_that(lambda: self.system.client.jobset(accepted.jobset_id).ledger.finished >= 5, 60)
        return accepted

    def finishes(self, accepted: Accepted, within_s: float = LONGEST_DELAY_S) -> float:
        """Asserts that every job finishes, once, with its output; and every invariant. Returns the seconds."""
        began = time.monotonic()
        waited = self.system.client.wait(jobsets=[accepted.jobset_id], timeout_s=within_s)
        delay_s = time.monotonic() - began
        assert waited.by_status == {"finished": accepted.n_jobs}
        assert self.system.client.datasets.show(accepted.output_dataset).n_files == accepted.n_jobs
        assert self._finished_more_than_once(accepted) == []
        assert self.system.findings() == []
        return delay_s

    def _finished_more_than_once(self, accepted: Accepted) -> list[int]:
        sql = """
            SELECT panda_id FROM job_events WHERE panda_id BETWEEN %(first)s AND %(last)s AND now = 'finished'
            GROUP BY panda_id HAVING count(*) > 1
        """
        found = self.system.query(sql, first=accepted.first_panda_id, last=accepted.last_panda_id)
        return [row.panda_id for row in found]


@pytest.fixture(scope="package")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Two sites; pilots that are missed soon. Everything else as it comes."""
    system = System.started(
        tmp_path_factory.mktemp("faults"), dispatcher_lease_s=6, dispatcher_heartbeat_s=2, data_transfer_lease_s=4
    )
    try:
        load = Load(system)
        load.finishes(load.submit(1))  # every part has come up
        yield system
    finally:
        system.stop()


@pytest.fixture
def load(system: System) -> Load:
    return Load(system)


@pytest.fixture
def erase_redis(system: System) -> Callable[[], None]:
    """FLUSHALL."""

    def erase() -> None:
        with redis.Redis.from_url(client_url(system.redis_url)) as client:
            client.flushall()

    return erase


@pytest.fixture
def stopped() -> Iterator[Callable[[list[int]], None]]:
    """Processes stand still until the test ends, or until they are woken."""
    pids: list[int] = []

    def stop(them: list[int]) -> None:
        pids.extend(them)
        for pid in them:
            os.kill(pid, signal.SIGSTOP)

    yield stop
    for pid in pids:
        if Path(f"/proc/{pid}").exists():
            os.kill(pid, signal.SIGCONT)
