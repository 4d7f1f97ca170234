"""One installation for every acceptance test, and a user who works with it over HTTP."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from livesystem import System, await_that

from panda.client import Accepted, Client, Job, Why

#: What the tests' jobs need when they say nothing else; one attempt, so that a failure is there at once.
SMALL = {"memory_mb": 100, "disk_mb": 100, "walltime_s": 60, "max_attempts": 1}


@pytest.fixture(scope="package")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Three sites; heartbeats that carry a kill soon. At the end every invariant holds and nothing runs on."""
    system = System.started(
        tmp_path_factory.mktemp("acceptance"), dispatcher_lease_s=15, dispatcher_heartbeat_s=1, data_transfer_tries=2
    )
    try:
        yield system
        assert system.findings() == []
    finally:
        system.stop()


class User:
    """Somebody with a client."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def submit(self, *commands: list[str], **document: Any) -> Accepted:
        """A set of one job per command, or of what `document` says."""
        if commands:
            document["jobs"] = [{"command": command} for command in commands]
        document["defaults"] = SMALL | document.get("defaults", {})
        return self.client.submit({"name": "accepted", **document})

    def ended(self, accepted: Accepted, within_s: float = 60) -> list[Job]:
        """The set's jobs in order, once all have ended."""
        self.client.wait(jobsets=[accepted.jobset_id], timeout_s=within_s)
        return sorted(self.client.jobset_jobs(accepted.jobset_id), key=lambda job: job.panda_id)

    def run(self, *commands: list[str], **document: Any) -> list[Job]:
        """Submit and wait."""
        return self.ended(self.submit(*commands, **document))

    def reaches(self, panda_id: int, *statuses: str, within_s: float = 30) -> Job:
        """The job, once it stands there."""
        return await_that(
            lambda: job if (job := self._look(panda_id)) and job.status in statuses else None,
            within_s,
            lambda: self.client.why(panda_id).summary,
        )

    def waits(self, panda_id: int, what: str, within_s: float = 20) -> Why:
        """Why the job waits, once it waits for `what`."""
        return await_that(
            lambda: why if (why := self.client.why(panda_id)).waits_for == what else None,
            within_s,
            lambda: self.client.why(panda_id).summary,
        )

    def moves(self, panda_id: int) -> list[str]:
        """The statuses that a job went through."""
        return [event.now for event in self.client.events(panda_id)]

    def log(self, panda_id: int, name: str, attempt_nr: int = 1) -> str:
        """All of a log."""
        return self.client.logs(panda_id).piece(name, attempt_nr).decode()

    def put(self, dataset: str, file: Path, storage: str) -> None:
        """A file into a dataset, which is made if need be."""
        self.client.datasets.create(dataset)
        self.client.datasets.put(dataset, file, storage=storage)

    def _look(self, panda_id: int) -> Job | None:
        waited = self.client.wait(jobs=[panda_id], until=lambda _: True)
        return waited.jobs[0]


@pytest.fixture
def user(system: System) -> User:
    return User(system.client)
