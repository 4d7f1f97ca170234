"""Upstream's words spoken to the whole API in this process, with an engine behind it that tests drive."""

import json
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

from falcon.testing import Result, TestClient

from panda.api.app import create_app
from panda.auth import tokens
from panda.db.session import run
from panda.dispatcher import matching
from panda.settings import Upstream

QUEUE = """
INSERT INTO queues (name, site, storage, cores, memory_mb, disk_mb, walltime_s)
VALUES (%(name)s, 'NORTH', 'NORTH-DISK', 1, 4000, 20000, 86400) ON CONFLICT DO NOTHING
"""


class Upstreamer:
    """A world, and callers from upstream. Without a token they are `anonymous`, if `anonymous` lets them in."""

    def __init__(self, world: Any, *, anonymous: bool = True, **settings: Any) -> None:
        self.world = world
        upstream = Upstream(enabled=True, anonymous=anonymous, **settings)
        self.app = TestClient(create_app(world.begin, replace(world.settings, upstream=upstream)))

    def token(self, owner: str, *roles: str, queue: str = "") -> str:
        with self.world.begin() as connection:
            return tokens.create(connection, owner, roles, "test", 3600, queue=queue)

    def queue(self, name: str) -> None:
        with self.world.begin() as connection:
            run(connection, QUEUE, {"name": name})

    def next_panda_id(self, panda_id: int) -> None:
        """The PandaID that the next job gets."""
        self.world.query("SELECT setval('panda_id_seq', %(id)s, false)", id=panda_id)

    def send(self, method: str, path: str, *, token: str = "", **options: Any) -> Result:
        headers = {"Accept": "application/json", **options.pop("headers", {})}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        options.setdefault("remote_addr", "127.0.0.1")
        return self.app.simulate_request(method, path, headers=headers, **options)

    def legacy(self, method: str, **words: Any) -> Any:
        """`/server/panda/<method>` as a form; what it answers."""
        token = words.pop("token", "")
        body, headers = urlencode(words), {"Content-Type": "application/x-www-form-urlencoded"}
        result = self.send("POST", f"/server/panda/{method}", body=body, headers=headers, token=token)
        assert result.status_code == 200, result.text
        return result.json if result.headers["content-type"].startswith("application/json") else result.text

    def v1(self, name: str, verb: str = "POST", *, token: str = "", **words: Any) -> Any:
        """`/api/v1/<name>` as JSON or as a query; the envelope."""
        if verb == "GET":
            result = self.send("GET", f"/api/v1/{name}", params=words, token=token)
        else:
            headers = {"Content-Type": "application/json"}
            result = self.send("POST", f"/api/v1/{name}", body=json.dumps(words), headers=headers, token=token)
        assert result.status_code == 200, result.text
        assert set(result.json) == {"success", "message", "data"}
        return result.json

    def ready_job(self, queue: str = "NORTH-Q", *, panda_id: int = 0, owner: str = "alice", **job: Any) -> int:
        """A job that waits for a pilot at `queue`."""
        self.queue(queue)
        if panda_id:
            self.next_panda_id(panda_id)
        job = {"command": ["true"], "max_attempts": 1, **job}
        accepted = self.world.submit(owner=owner, jobs=[job], brokerage={"sites": [queue]})
        self.world.settle()
        assert self.world.status(accepted.first_panda_id) == "activated"
        return int(accepted.first_panda_id)

    def get_job(self, queue: str = "NORTH-Q", **words: Any) -> dict[str, Any]:
        """getJob as upstream's pilot asks."""
        matching.forget()
        asked = {"siteName": queue, "computingElement": queue, "prodSourceLabel": "user", "diskSpace": "10000",
                 "workingGroup": "", "cpu": "2445.424", "mem": "24105.55859375", "node": "vm",
                 "allowOtherCountry": "False"}  # fmt: skip
        found: dict[str, Any] = self.legacy("getJob", **(asked | words))
        return found


def plain(attributes: list[str], said: dict[str, Any]) -> list[Any]:
    """A list of attributes as panda-client writes it."""
    return [said.get(name, "NULL") for name in attributes]
