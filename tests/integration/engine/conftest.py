"""A small world: two sites, a catalogue, and the engine driven turn by turn in this process."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from panda import settings as settings_module
from panda.dataservice import admission
from panda.db.session import Begin, rows, run
from panda.dispatcher import dispatch, matching, reports
from panda.dispatcher.words import (
    AcquireRequest,
    Beat,
    HeartbeatRequest,
    OutputReport,
    PilotJob,
    Report,
    ReportResult,
    UpdateRequest,
)
from panda.jobs import audit, expansion, kill, relaying, submission, sweeping
from panda.jobs.specs import JobSetRequest
from panda.jobs.submission import Accepted
from panda.settings import Settings
from panda.sites import applying, siteinfo
from panda.states import PIPELINE, Stage
from workflows import app as workers
from workflows.app import LANE_OF
from workflows.chain import TASK_OF
from workflows.transfer import transfer

SITES = """
[sites.NORTH]
cloud = "LOCAL"
[sites.SOUTH]
cloud = "LOCAL"
[storages.NORTH-DISK]
site = "NORTH"
kind = "local"
root = "storage/north"
[storages.SOUTH-DISK]
site = "SOUTH"
kind = "local"
root = "storage/south"
[queues.NORTH-Q]
site = "NORTH"
storage = "NORTH-DISK"
cores = 4
memory_mb = 8000
disk_mb = 20000
walltime_s = 86400
[queues.SOUTH-Q]
site = "SOUTH"
storage = "SOUTH-DISK"
cores = 4
memory_mb = 8000
disk_mb = 20000
walltime_s = 86400
"""


class World:
    """The engine without its processes: `turn()` is one look of a relay and one run of each stage."""

    def __init__(self, begin: Begin, settings: Settings) -> None:
        self.begin = begin
        self.settings = settings
        self.engine = settings.engine

    # -- a client ------------------------------------------------------------------------------

    def submit(self, *, owner: str = "alice", key: str | None = None, **document: Any) -> Accepted:
        """Submit a job set; `submit(jobs=[{"command": ["true"]}])`."""
        raw = json.dumps({"name": "set", **document}).encode()
        request = msgspec.json.decode(raw, type=JobSetRequest)
        with self.begin() as connection:
            return submission.submit(
                connection, request, raw, owner=owner, key=key or uuid4().hex, limits=self.settings.api
            )

    def jobs(self, n: int = 1, **document: Any) -> list[int]:
        """Submit `n` jobs of `true`; their PandaIDs."""
        accepted = self.submit(jobs=[{"command": ["true"]} for _ in range(n)], **document)
        return list(range(accepted.first_panda_id, accepted.last_panda_id + 1))

    # -- the engine ----------------------------------------------------------------------------

    def claim(self, *, final: bool) -> list[relaying.Group]:
        """What a relay would send down one lane now."""
        with self.begin() as connection:
            return relaying.claim_groups(connection, self.engine, final=final, n_groups=16)

    def run_stage(self, stage: Stage, panda_ids: Sequence[int]) -> list[int]:
        """One stage as a worker runs it; returns the survivors."""
        survivors: list[int] = TASK_OF[stage].carry(list(panda_ids))
        return survivors

    def run_chain(self, stage: Stage, panda_ids: Sequence[int]) -> None:
        """A chain from `stage` on, link by link."""
        survivors = list(panda_ids)
        for each in PIPELINE[PIPELINE.index(stage) :]:
            if LANE_OF[each] == LANE_OF[stage] and survivors:
                survivors = self.run_stage(each, survivors)

    def task(self, stage: Stage) -> Any:
        """The Celery task of a stage."""
        return TASK_OF[stage]

    def turn_expansion(self) -> None:
        """Job sets become rows."""
        with self.begin() as connection:
            expansion.expand_chunk(connection, self.engine)

    def turn(self) -> bool:
        """Everything that is due, once. Returns whether anything was done."""
        worked = 0
        worked += expansion.expand(self.begin, self.engine)
        with self.begin() as connection:
            worked += expansion.release_chunk(connection, self.engine)
        with self.begin() as connection:
            worked += kill.cancel_chunk(connection)
        for final in (True, False):
            for group in self.claim(final=final):
                worked += 1
                self.run_chain(group.stage, group.panda_ids)
        with self.begin() as connection:
            moving = admission.due_ids(connection, 100, self.settings.data.transfer_lease_s)
        if moving:
            worked += 1
            transfer.run(moving)
        return worked > 0

    def settle(self) -> None:
        """Turn until nothing is left to do at this moment."""
        for _ in range(200):
            if not self.turn():
                return
        raise AssertionError("the engine does not come to rest")

    def sweep(self) -> int:
        """Handlers of the waits whose deadline passed."""
        return sweeping.sweep(self.begin, self.settings)

    def pass_time(self, seconds: float) -> None:
        """The one clock (law 16) moves on."""
        with self.begin() as connection:
            run(
                connection,
                "CREATE OR REPLACE FUNCTION panda_now() RETURNS timestamptz LANGUAGE sql VOLATILE PARALLEL SAFE AS"
                " 'SELECT clock_timestamp() + coalesce((SELECT value::interval FROM engine_state"
                " WHERE key = ''test.clock''), interval ''0'')'",
            )
            run(
                connection,
                "INSERT INTO engine_state AS e (key, value) VALUES ('test.clock', %(by)s) ON CONFLICT (key)"
                " DO UPDATE SET value = (e.value::interval + excluded.value::interval)::text",
                {"by": f"{seconds} seconds"},
            )

    def stop_the_clock(self, hour: int | None = None) -> None:
        """Time stands still: what follows happens at one moment, however slow the machine is.

        Args:
            hour: of today (UTC), where it matters; None: as late as it is.
        """
        today = "date_trunc('day', panda_now(), 'UTC') + make_interval(hours => %(hour)s::int)"
        with self.begin() as connection:
            [now] = rows(connection, f"SELECT coalesce({today}, panda_now())::text AS text", {"hour": hour})
            run(
                connection,
                "CREATE OR REPLACE FUNCTION panda_now() RETURNS timestamptz LANGUAGE sql VOLATILE PARALLEL SAFE AS"
                f" 'SELECT ''{now.text}''::timestamptz'",
            )

    # -- a pilot -------------------------------------------------------------------------------

    def acquire(self, n: int = 1, *, queue: str = "", pilot_id: str = "pilot-1", **words: Any) -> list[PilotJob]:
        """Jobs for a pilot, from either queue unless one is named."""
        found: list[PilotJob] = []
        for name in [queue] if queue else ["NORTH-Q", "SOUTH-Q"]:
            given: dict[str, Any] = {
                "pilot_id": f"{pilot_id}-{name}" if not queue else pilot_id, "queue": name,
                "request_id": uuid4().hex, "n": max(1, n - len(found)), "cores": 4, "memory_mb": 8000,
                "disk_mb": 20_000, "walltime_s": 86_400, "node": "node-1",
            } | words  # fmt: skip
            if len(found) < n:
                matching.forget()
                found += dispatch.acquire(self.begin, AcquireRequest(**given), self.settings).jobs
        return found

    def report(self, job: PilotJob, status: str, *, outputs: Sequence[OutputReport] = (), **words: Any) -> ReportResult:
        """One report on one job."""
        report = Report(
            panda_id=job.panda_id, attempt_nr=job.attempt_nr, token=job.token, status=status,  # type: ignore[arg-type]
            outputs=list(outputs), **words,
        )  # fmt: skip
        request = UpdateRequest(pilot_id="pilot-1", reports=[report])
        return reports.update(self.begin, request, self.settings).results[0]

    def beat(self, job: PilotJob) -> str:
        """One heartbeat for one job; its outcome."""
        beat = Beat(panda_id=job.panda_id, attempt_nr=job.attempt_nr, token=job.token)
        return (
            reports.heartbeat(self.begin, HeartbeatRequest(pilot_id="pilot-1", beats=[beat]), self.settings)
            .results[0]
            .outcome
        )

    def fail(self, job: PilotJob, exit_code: int = 3) -> ReportResult:
        """The payload ended with an exit code."""
        return self.report(job, "failed", error_code=1305, exit_code=exit_code, error_message="it failed")

    # -- what is so ----------------------------------------------------------------------------

    def status(self, panda_id: int) -> str:
        """Where a job stands, archived or not."""
        return str(self.job(panda_id)["status"])

    def job(self, panda_id: int) -> dict[str, Any]:
        """A job's row, with `archived`."""
        found = self.query(
            "SELECT to_jsonb(j) || '{\"archived\": false}' AS job FROM jobs j WHERE panda_id = %(id)s UNION ALL"
            " SELECT to_jsonb(j) || '{\"archived\": true}' FROM jobs_archive j WHERE panda_id = %(id)s",
            id=panda_id,
        )
        assert len(found) == 1
        return dict(found[0].job)

    def due(self, panda_id: int) -> Any:
        """A job's row of `job_due`, or None."""
        found = self.query("SELECT * FROM job_due WHERE panda_id = %(id)s", id=panda_id)
        return found[0] if found else None

    def moves(self, panda_id: int) -> list[str]:
        """The statuses that a job went through."""
        sql = "SELECT now FROM job_events WHERE panda_id = %(id)s ORDER BY event_id"
        return [row.now for row in self.query(sql, id=panda_id)]

    def query(self, sql: str, **values: Any) -> list[Any]:
        """Rows of any question."""
        with self.begin() as connection:
            return list(rows(connection, sql, values))

    def findings(self) -> list[audit.Finding]:
        """Invariants that do not hold."""
        with self.begin() as connection:
            return audit.audit(connection, everything=True)


@pytest.fixture
def world(begin: Begin, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[World]:
    """Two sites and an engine; after the test every invariant must hold."""
    monkeypatch.setenv("PANDA_DATABASE_URL", settings.store.database_url)
    monkeypatch.setenv("PANDA_DATA_DIR", settings.store.data_dir)
    settings_module.current.cache_clear()
    monkeypatch.setattr(workers, "begin", lambda: begin)
    for module in ("workflows.stage", "workflows.transfer", "workflows.beat"):
        monkeypatch.setattr(f"{module}.begin", lambda: begin)
    sites = tmp_path / "sites.toml"
    sites.write_text(SITES)
    with begin() as connection:
        applying.sync(connection, siteinfo.load_file(sites), settings.data_dir)
    world = World(begin, settings)
    yield world
    assert world.findings() == []
