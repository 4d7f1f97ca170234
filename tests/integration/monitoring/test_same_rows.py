"""The same text finds the same rows on a page, in the API, with the client and on the command line."""

import json
import shlex
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple
from urllib.parse import urlencode
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest

from panda.api.app import create_app
from panda.cli.main import run
from panda.client import Client
from panda.db.session import Begin
from panda.settings import Settings
from tests.integration.monitoring.conftest import Browser, Token, World


class Asked(NamedTuple):
    """A noun in four places, and texts that tell its rows apart."""

    noun: str
    page: str
    key: str
    command: str
    identity: str
    sort: str
    texts: tuple[str, ...]


ASKED = (
    Asked("jobs", "/jobs", "jobs", "panda jobs --filter", "panda_id", "panda_id", (
        "status:failed,running", "state!=failed name:job-* priority>=0", "changed:24h (error:pilot:* or attempt<1)",
        "user:nobody", "created:/2020-01-01", "not status:closed created:7d")),
    Asked("jobsets", "/jobsets", "jobsets", "panda sets --filter", "jobset_id", "jobset_id", (
        "owner:alice failed>0", "name:ana*", "status:running created:24h", "owner!=alice")),
    Asked("actions", "/jobs/actions", "actions", "panda actions --filter", "action_id", "action_id", (
        "status:done", "by:olga action!=cancel", "created:1h")),
    Asked("datasets", "/datasets", "datasets", "panda datasets --filter", "name", "name", (
        "owner:alice", "name:o*", "kind:container", "size>5 created:24h", "dataset:user.alice:out", "status!=open")),
    Asked("files", "/files", "files", "panda files --filter", "file_id", "created", (
        "lfn:*.txt", "size>5", "job:10", "storage:NORTH-DISK", "lfn!=a.txt")),
    Asked("transfers", "/transfers", "transfers", "panda transfers --filter", "transfer_id", "created", (
        "status:queued", "status!=queued", "destination:NORTH*", "tries>0", "created:24h")),
    Asked("queues", "/queues", "queues", "panda queues --filter", "name", "-name", (
        "site:NORTH", "name:n*", "cores>=9", "status!=online", "memory>=1000 status:online")),
    Asked("pilots", "/pilots", "pilots", "panda pilots --filter", "pilot_id", "-pilot_id", (
        "queue:north", "seen:1h node:wn*", "cores>8", "nothing_because:none", "seen!=1h")),
    Asked("users", "/users", "users", "panda users --filter", "name", "-name", (
        "role:operator", "name:a*", "banned:none created:24h", "role!=user")),
    Asked("tokens", "/tokens", "tokens", "panda token list --filter", "token_id", "token_id", (
        "owner:ada", "label:te*", "revoked:none", "role:user", "created:/2020-01-01")),
    Asked("incidents", "/incidents", "incidents", "panda incidents --filter", "incident_id", "incident_id", (
        "level:error", "state:open", "closed!=none", "component:pl* last:24h", "message:nothing")),
    Asked("audit", "/audit", "deeds", "panda audit-log --filter", "audit_id", "audit_id", (
        "who:olga", "action:set_*", "target:queue* at:24h", "role:admin", "role:operator outcome:done", "outcome:nothing",
        "request:r-1", "request:none", "when:7d what!=retry")),
)  # fmt: skip
MORE = """
INSERT INTO bulk_actions (action_id, action, filter, asked_by, reason, status, created_at, said, after_panda_id)
    OVERRIDING SYSTEM VALUE VALUES (1, 'retry', 'status:failed', 'olga', '', 'done', panda_now(), 'status:failed', 0),
        (2, 'cancel', 'status:pending', 'alice', '', 'running', panda_now(), 'status:pending', 0);
INSERT INTO audit_log (at, who, action, target, reason, facts, request_id) VALUES
    (panda_now(), 'ada', 'cancel', 'jobset 1', 'x', '{"n": 0}', 'r-1'),
    (panda_now() - interval '3 days', 'olga', 'retry', 'job 7', '', '{"n": 1}', 'r-2');
INSERT INTO incidents (component, level, key, message, first_at, last_at, closed_at)
    VALUES ('relay', 'warning', 'k', 'late', panda_now(), panda_now(), panda_now());
INSERT INTO pilots (pilot_id, queue, node, version, cores, memory_mb, started_at, last_seen_at)
    VALUES ('pilot-2', 'north', 'other', '0.2', 16, 16000, panda_now(), panda_now() - interval '2 h');
INSERT INTO queues (name, site, storage, status, cores, memory_mb, disk_mb, walltime_s, submitter)
    VALUES ('south', 'NORTH', 'NORTH-DISK', 'offline', 16, 900, 100000, 86400, 'local')
"""


class Silent(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""


@pytest.fixture
def api(begin: Begin, settings: Settings) -> Iterator[str]:
    """The address of the API on the same database."""
    server = make_server("127.0.0.1", 0, create_app(begin, settings), handler_class=Silent)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


Everywhere = Callable[[Asked, str, str], dict[str, list[object]]]


@pytest.fixture
def everywhere(
    world: World,
    parts: object,
    token: Token,
    api: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Everywhere:
    """everywhere(asked, text, sort): identities of the rows by place."""
    world.furnish()
    for statement in MORE.split(";\n"):
        world.sql(statement)
    plain = token("ada", "admin")
    token("olga", "operator")
    browser = Browser(parts, plain)  # type: ignore[arg-type]
    client = Client(api, token=plain)
    monkeypatch.setenv("PANDA_URL", api)
    monkeypatch.setenv("PANDA_TOKEN", plain)

    def ask(asked: Asked, text: str, sort: str) -> dict[str, list[object]]:
        def names(rows: list[dict[str, object]]) -> list[object]:
            return [row.get(asked.identity) or str(row["dataset"]).split(":")[1] for row in rows]

        page = browser.get(asked.page, params={"q": text, "sort": sort, "json": ""}, accept="application/json")
        path = f"/v1/{asked.noun}"
        told = client.request("GET", f"{path}?{urlencode({'filter': text, 'sort': sort})}")
        capfd.readouterr()
        assert run([*shlex.split(asked.command)[1:], text, "--sort", sort, "-o", "jsonl"]) == 0
        printed = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
        return {
            "page": names(page.json["data"][asked.key]),
            "api": names(told["data"]),
            "client": names(client.find(asked.noun, text, sort=sort).to_dicts()),
            "command": names(printed),
        }

    return ask


@pytest.mark.parametrize("asked", ASKED, ids=lambda asked: asked.noun)
def test_the_same_text_finds_the_same_rows_everywhere(asked: Asked, everywhere: Everywhere) -> None:
    n_found = []
    for text in asked.texts:
        for sort in (asked.sort, "-" + asked.sort.removeprefix("-"), asked.sort.removeprefix("-")):
            found = everywhere(asked, text, sort)
            assert found["page"] == found["api"] == found["client"] == found["command"], (text, sort)
        n_found.append(len(found["page"]))

    assert max(n_found) > 0
    assert min(n_found) < max(n_found)
