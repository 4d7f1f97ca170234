"""A small installation in a real database, made with plain SQL, and the pages over it."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from falcon.testing import Result, TestClient

from monitoring.app import make_app
from monitoring.celery_side import Chain, WorkerSeen
from monitoring.gate import COOKIE, Sessions
from monitoring.health import Health
from monitoring.pages.page import Parts
from monitoring.reads.blocks import Memory, Reader
from monitoring.show.render import Renderer, load_static
from panda.auth import tokens
from panda.db.session import Begin, rows, run
from panda.jobs.spool import Spool
from panda.settings import Settings
from panda.states import ENTRY_STATUS, FINAL, LEASED, JobStatus

NASTY = """<script>alert('x')</script>"><img src=x onerror=alert(1)>&amp;{{7*7}}"""
#: What people and payloads may write wherever they may write something.
CORPUS = (
    NASTY + "' onmouseover='alert(2)",
    "javascript:alert(1)//' onfocus='alert(2)' x=\"</script><script>alert(3)</script>",
    '\x1b[31m<b onclick=alert(1)>\x1b[0m {"x": [1], "series": [{"label": "</div><script>alert(4)</script>"}]}',
)
CHAIN = "3c04f63e-1111-4222-8333-9f2c00000000"

#: Addresses of pages, of a world that is furnished.
PAGES = (
    "/",
    "/jobs",
    "/jobs?status=failed",
    "/jobs?owner=alice",
    "/jobsets",
    "/jobsets/{jobset}",
    "/queues",
    "/jobs/7",
    "/jobs?q=status:failed+owner:alice",
    "/jobs/actions",
    "/sites",
    "/sites/NORTH",
    "/queues/north",
    "/queues/north/status",
    "/pilots",
    "/pilots/pilot-1",
    "/nodes/north/wn-1",
    "/transfers",
    "/datasets",
    "/datasets?owner=alice&sort=name",
    "/files",
    "/files?q=lfn:*.txt",
    "/files?lfn=nothing",
    "/datasets/user.alice:out",
    "/datasets/user.alice:all",
    "/files/user.alice:out/a.txt",
    "/me",
    "/me/views/new?q=status:failed",
    "/me/views/mine/forget",
    "/me/notices/new",
    "/me/notices/1/drop",
    "/tokens",
    "/tokens?all",
    "/tokens?q=label:nothing",
    "/transfers?q=",
    "/transfers?status=done",
    "/pilots?queue=nowhere",
    "/queues?status=offline",
    "/errors?q=queue:north",
    "/errors?q=queue:south&hours=3",
    "/audit?who=nobody&at=24h",
    "/incidents?state=open&edit=1",
    "/tokens/1/revoke",
    "/users",
    "/users/alice",
    "/usage",
    "/usage?by=site&measure=n_failed&days=7",
    "/usage?by=kind&measure=out_bytes&days=365&bin=month&as=table&top=3&owner=alice&group=%3Cb%3E",
    "/errors",
    "/errors?hours=168",
    "/errors/pilot:1137",
    "/incidents",
    "/incidents/1",
    "/incidents/1/answer",
    "/celery",
    "/admin",
    "/admin/switches/pause?what=dispatch",
    "/admin/switches/resume?what=dispatch&queue=north",
    "/nodes/north/wn-1/pause",
    "/troubles",
    "/jobs/bulk/rebroker?q=status:activated",
    "/jobs/bulk/priority?q=status:activated&priority=-5",
    "/audit",
    "/help",
    "/jobs/11/retry",
    "/jobs/7/cancel",
    "/jobs/4/hold",
    "/jobs/4/release",
    "/jobs/4/priority",
    "/jobs/4/rebroker?exclude=north",
    "/jobs/7/debug",
    "/jobsets/{jobset}/retry",
    "/jobsets/{jobset}/cancel",
    "/jobs/bulk/retry?q=status:failed",
    "/jobs/bulk/cancel?job=7&job=1",
)

SITE = """
INSERT INTO sites VALUES ('NORTH', 'EU', '');
INSERT INTO storages VALUES ('NORTH-DISK', 'NORTH', 'local', '/disk', 'online');
INSERT INTO queues (name, site, storage, status, cores, memory_mb, disk_mb, walltime_s, submitter)
    VALUES ('north', 'NORTH', 'NORTH-DISK', 'online', 8, 16000, 100000, 86400, 'local');
INSERT INTO pilots (pilot_id, queue, node, version, cores, memory_mb, started_at, last_seen_at)
    VALUES ('pilot-1', 'north', 'wn-1', '0.1', 8, 16000, panda_now(), panda_now());
INSERT INTO shapes (cores, memory_mb, disk_mb, walltime_s) VALUES (4, 8000, 1000, 3600);
"""
JOBSET = """
INSERT INTO jobsets (name, owner, share, idempotency_key, document_hash, document, bindings, first_panda_id, n_jobs,
    n_expanded, n_open, n_finished, n_failed, n_cancelled, created_at, released_at)
VALUES (%(name)s, %(owner)s, 'default', 'key-' || %(name)s, '', %(document)s, '{}', 1, 1000, 900, 997, 1, 1, 1,
    panda_now() - interval '1 h', panda_now())
RETURNING jobset_id
"""
JOB = """
INSERT INTO {table} (panda_id, jobset_id, seq, name, owner, share, priority, status, attempt_nr, max_attempts, from_stage,
    shape_id, n_inputs, n_outputs, computing_site, pilot_id, node, failed_stage, error_code, error_message, created_at,
    changed_at, started_at, ended_at, spec {archived_at})
SELECT %(panda_id)s, %(jobset_id)s, %(panda_id)s, %(name)s, %(owner)s, 'default', 0, %(status)s, 1, 3, 'define',
    shape_id, 1, 1, %(queue)s, NULL, %(node)s, %(failed_stage)s, %(error_code)s, %(error_message)s,
    panda_now() - interval '30 min', panda_now() - interval '1 min', %(started)s, %(ended)s, %(spec)s {now}
FROM shapes LIMIT 1
"""
EVENT = """
INSERT INTO job_events (panda_id, at, was, now, attempt_nr, stage, by, reason, chain_id)
VALUES (%(panda_id)s, panda_now() - make_interval(mins => %(ago)s), %(was)s, %(now)s, 1, %(stage)s, %(by)s, %(reason)s,
    %(chain_id)s)
"""
FURNITURE = """
INSERT INTO users (name, roles, created_at) VALUES ('alice', '{user}', panda_now()) ON CONFLICT DO NOTHING;
INSERT INTO tokens (token_hash, owner, label, roles, created_at) VALUES ('\\x01', 'alice', %(text)s, '{user}', panda_now());
INSERT INTO datasets (scope, name, owner, jobset_id, n_files, size_bytes, created_at)
    VALUES ('user.alice', 'out', 'alice', %(jobset)s, 1, 12, panda_now());
INSERT INTO files (dataset_id, lfn, guid, size_bytes, adler32, panda_id, created_at)
    VALUES (1, 'a.txt', 'g', 12, '00000001', 10, panda_now());
INSERT INTO replicas (file_id, storage, path, created_at) VALUES (1, 'NORTH-DISK', %(text)s, panda_now());
INSERT INTO datasets (scope, name, owner, kind, created_at) VALUES ('user.alice', 'all', 'alice', 'container', panda_now());
INSERT INTO dataset_members VALUES (2, 1);
INSERT INTO dataset_rules (dataset_id, storage, made_by, created_at, due_at, error)
    VALUES (1, 'NORTH-DISK', %(text)s, panda_now(), panda_now(), %(text)s);
INSERT INTO transfers (file_id, source, destination, due_at, error, created_at)
    VALUES (1, 'NORTH-DISK', 'NORTH-DISK', panda_now(), %(text)s, panda_now());
INSERT INTO incidents (component, level, key, message, context, first_at, last_at)
    VALUES (%(text)s, 'error', %(text)s, %(text)s, jsonb_build_object('fact', %(text)s::text), panda_now(), panda_now());
INSERT INTO audit_log (at, who, action, target, reason, facts)
    VALUES (panda_now(), 'olga', 'set_queue_status', 'queue north', %(text)s, jsonb_build_object('now', %(text)s::text));
INSERT INTO usage VALUES (panda_now()::date, 'alice', 'default', 'north', 5, 1, 0, 3600, 3000, 7200);
INSERT INTO usage_days VALUES (panda_now()::date, 'alice', 'default', 'north', %(text)s, %(text)s, 5, 1, 0, 3600, 3000,
    7200, 10, 20);
INSERT INTO error_hours VALUES (date_trunc('hour', panda_now()), 'pilot:1137', 'stage_out', 'north', 7, 3600);
INSERT INTO error_hours VALUES (date_trunc('hour', panda_now()) - interval '2 h', %(text)s, 'dispatch', 'north', 3, 60);
INSERT INTO job_usage (panda_id, attempt_nr, seen, every, points)
    VALUES (11, 1, 2, 1, '[[1000, 1, 1, 100, 0, 0, 0, 1], [1060, 60, 50, 900, 0, 0, 0, 1]]');
UPDATE pilots SET nothing_because = %(text)s, version = %(text)s
"""


@dataclass
class World:
    """What stands in the database: PandaIDs by status (`archived` is a finished one that left), and the set."""

    begin: Begin
    jobset_id: int = 0
    jobs: dict[str, int] = field(default_factory=dict)

    def sql(self, statement: str, **values: Any) -> None:
        with self.begin() as connection:
            run(connection, statement, values)

    def count(self, statement: str, **values: Any) -> int:
        with self.begin() as connection:
            return int(rows(connection, statement, values)[0][0])

    def job(self, panda_id: int, status: str, *, owner: str = "alice", archived: bool = False, name: str = "") -> int:
        has_failed = status == JobStatus.FAILED
        values = {
            "panda_id": panda_id, "jobset_id": self.jobset_id, "name": name or f"job-{status}", "owner": owner,
            "status": status, "queue": None if status in ("pending", "defined") else "north",
            "node": name or "wn-1", "failed_stage": "stage_out" if has_failed else None,
            "error_code": "pilot:1137" if has_failed else None,
            "error_message": name or "no room" if has_failed else None, "started": None, "ended": None,
            "spec": json.dumps({"command": ["echo", name or "hello"], "env": {"GREETING": name or "hi"}}),
        }  # fmt: skip
        table, extra, now = ("jobs_archive", ", archived_at", ", panda_now()") if archived else ("jobs", "", "")
        self.sql(JOB.format(table=table, archived_at=extra, now=now), **values)
        self.sql(f"UPDATE {table} SET started_at = created_at + interval '5 min' WHERE panda_id = %(id)s", id=panda_id)
        if status in FINAL:
            self.sql(f"UPDATE {table} SET ended_at = panda_now() WHERE panda_id = %(id)s", id=panda_id)
        self.event(panda_id, None, "pending", 30, stage=None, by="api")
        if status != "pending":
            self.event(panda_id, "pending", status, 5, stage="define", by=name or "define@w1", chain_id=CHAIN)
        if not archived:
            self._due(panda_id, status)
        return panda_id

    def event(self, panda_id: int, was: str | None, now: str, ago: int, **more: Any) -> None:
        values = {"stage": None, "by": "somebody", "reason": None, "chain_id": None, **more}
        self.sql(EVENT, panda_id=panda_id, was=was, now=now, ago=ago, **values)

    def furnish(self, text: str = "plain") -> None:
        """What the other pages show: data, incidents, deeds, usage, failures by hour; `text` wherever people write."""
        for statement in FURNITURE.split(";\n"):
            self.sql(statement, text=text, jobset=self.jobset_id)

    def _due(self, panda_id: int, status: str) -> None:
        stage = next(stage for stage, statuses in ENTRY_STATUS.items() if status in statuses)
        waits_for = {"failed": "operator", "activated": "pilot", "assigned": "data", "running": "lease"}.get(status)
        self.sql(
            "INSERT INTO job_due (panda_id, stage, waits_for, due_at) "
            "VALUES (%(id)s, %(stage)s, %(waits_for)s, panda_now() + interval '71 h')",
            id=panda_id, stage=stage, waits_for=waits_for,
        )  # fmt: skip
        if status in LEASED:
            self.sql(
                "INSERT INTO leases (panda_id, attempt_nr, token_hash, pilot_id, lease_until, reported_at) "
                "VALUES (%(id)s, 1, '', 'pilot-1', panda_now() + interval '2 min', panda_now())",
                id=panda_id,
            )
        if status == JobStatus.ACTIVATED:
            self.sql("INSERT INTO ready VALUES (%(id)s, 'north', 'default', 1, 1)", id=panda_id)


@pytest.fixture
def world(begin: Begin) -> World:
    """One queue, one job set of alice's, one job in each status."""
    made = World(begin)
    for statement in SITE.split(";\n"):
        made.sql(statement)
    document = json.dumps({"name": "analysis", "jobs": [{"command": ["echo", "hello"]}]})
    with begin() as connection:
        made.jobset_id = rows(connection, JOBSET, {"name": "analysis", "owner": "alice", "document": document})[0][0]
    made.sql("SELECT setval('panda_id_seq', 2000)")
    for panda_id, status in enumerate(JobStatus, start=1):
        made.jobs[status] = made.job(panda_id, status, archived=status in ("finished", "cancelled", "closed"))
        made.sql("INSERT INTO job_count_deltas VALUES (%(s)s, 'north', 1)", s=status)
    return made


class CeleryStub:
    """What Flower would have heard."""

    def __init__(self) -> None:
        self.seen: list[WorkerSeen] = []
        self.tasks: set[str] = set()
        self.chains: dict[str, Chain] = {}

    def workers(self) -> list[WorkerSeen]:
        return self.seen

    def chain_of(self, task_id: str) -> Chain:
        return self.chains.get(task_id, Chain(task_id, []))

    def remembers(self, task_id: str) -> bool:
        return task_id in self.tasks


@pytest.fixture
def celery() -> CeleryStub:
    return CeleryStub()


@pytest.fixture
def parts(begin: Begin, settings: Settings, celery: CeleryStub) -> Parts:
    """Everything that the pages are made from; no Redis, no API beside them."""

    def verify(token: str) -> tokens.Identity:
        with begin() as connection:
            return tokens.verify(connection, token)

    reader, static = Reader(begin), load_static()
    here = replace(settings, api=replace(settings.api, port=1))
    return Parts(
        settings=here, begin=begin, reader=reader, sessions=Sessions(verify), celery=celery, health=Health(here, reader, celery),
        spool=Spool(settings.data_dir), renderer=Renderer(static), static=static, memory=Memory(keep_s=0),
    )  # fmt: skip


Token = Callable[..., str]


@pytest.fixture
def token(begin: Begin) -> Token:
    """token(name, *roles): a new one."""

    def make(owner: str, *roles: str) -> str:
        with begin() as connection:
            return tokens.create(connection, owner, roles, "test", None)

    return make


class Browser:
    """Somebody who looks at pages, logged in or not."""

    def __init__(self, parts: Parts, token: str | None = None) -> None:
        self._client = TestClient(make_app(parts))
        self.cookies: dict[str, str] = {}
        if token is not None:
            assert self.log_in(token).status_code == 303

    def log_in(self, token: str, **fields: str) -> Result:
        answer = self.post("/login", token=token, **fields)
        if COOKIE in answer.cookies:
            self.cookies[COOKIE] = answer.cookies[COOKIE].value
        return answer

    def get(self, path: str, accept: str = "text/html", **more: Any) -> Result:
        return self._client.simulate_get(path, headers={"Accept": accept}, cookies=self.cookies, **more)

    def post(self, path: str, headers: dict[str, str] | None = None, **fields: str) -> Result:
        return (
            self._client.simulate_post(path, params=fields, params_csv=False, cookies=self.cookies, headers=headers)
            if (not fields)
            else self._client.simulate_post(
                path,
                body="&".join(f"{name}={value}" for name, value in fields.items()),
                headers={"Content-Type": "application/x-www-form-urlencoded", **(headers or {})},
                cookies=self.cookies,
            )
        )

    def json(self, path: str) -> Any:
        answer = self.get(path, accept="application/json")
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "application/json"
        return answer.json


@pytest.fixture
def operator(parts: Parts, token: Token) -> Browser:
    """Logged in as an operator, who may see everybody's jobs."""
    return Browser(parts, token("olga", "operator"))
