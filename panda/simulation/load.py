"""What the fleet eats: job sets, submitted so that enough jobs of each share always wait."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

from panda.errors import Unavailable
from panda.simulation.books import Books
from panda.simulation.fleetfile import Load
from panda.simulation.line import Answer, Exchange
from panda.simulation.pilots import WALL

#: Job sets that nobody told us of are looked for this often, at most.
LOOK_S = 5.0
#: Job sets of one load that are submitted at one look.
MOST_SETS = 20
#: Ready jobs of a share that the server counts at most.
MAX_READY = 10_000
LOOK_READY_S = 0.5


class Demand:
    """Keeps job sets coming."""

    def __init__(self, exchange: Exchange, books: Books, token: str) -> None:
        self._exchange, self._books, self._token = exchange, books, token
        self._token_of: dict[str, str] = {}
        self._looked_s = float("-inf")

    async def keep_up(self, loads: Sequence[Load]) -> None:
        """Submit what is missing, at most `MOST_SETS` of each load.

        Raises:
            Unavailable: a first job set was refused, with the server's reason; later refusals are only counted.
        """
        for number, load in enumerate(loads):
            for _ in range(MOST_SETS):
                n_made = self._books.n_submitted[number]
                n_left = load.jobs - n_made if load.jobs else load.per_set
                if n_left <= 0 or n_made - self._books.taken_of[number] >= load.waiting:
                    break
                if not await self._submit(number, load, min(load.per_set, n_left)):
                    break

    async def settle(self, loads: Sequence[Load], within_s: float) -> None:
        """Wait until what was submitted may be taken."""
        wanted: Counter[str] = Counter()
        for load in loads:
            wanted[load.share] += min(load.waiting, load.jobs or load.waiting, MAX_READY)
        until = time.monotonic() + within_s
        while time.monotonic() < until:
            answer = await self._exchange.call("shares", "GET", "/v1/shares", self._token)
            shares = answer.body["data"] if answer.is_ok else []
            ready = {share["name"]: share["n_ready"] for share in shares}
            if all(ready.get(share, 0) >= n for share, n in wanted.items()):
                return
            await asyncio.sleep(LOOK_READY_S)

    async def learn_of_others(self, now_s: float) -> None:
        """Ask for job sets that others submitted, so that their shares are known."""
        if not self._token or now_s - self._looked_s < LOOK_S:
            return
        self._looked_s = now_s
        answer = await self._exchange.call("jobsets", "GET", "/v1/jobsets?limit=100", self._token)
        if answer.is_ok:
            for jobset in answer.body["data"]:
                self._books.jobsets.learn(jobset, jobset["share"])

    async def _submit(self, number: int, load: Load, n: int) -> bool:
        key = uuid4().hex
        token = await self._token_for(load.owner)
        answer = await self._exchange.call(
            "submit", "POST", "/v1/jobsets", token, _document(load, n), headers={"Idempotency-Key": key}
        )
        if answer.is_ok:
            self._books.jobsets.learn(answer.body, load.share, number)
            self._books.n_submitted[number] += n
        elif not self._books.n_submitted[number] and 400 <= answer.status < 500 and answer.status != 429:
            raise Unavailable(f"the jobs of share {load.share} are refused: {reason(answer)}")
        return answer.is_ok

    async def _token_for(self, owner: str | None) -> str:
        if owner is None:
            return self._token
        if owner not in self._token_of:
            wanted = {"owner": owner, "roles": ["user"], "label": "simulation"}
            answer = await self._exchange.call("tokens", "POST", "/v1/tokens", self._token, wanted)
            if not answer.is_ok:
                raise Unavailable(f"no token can be made for {owner}: {reason(answer)}")
            self._token_of[owner] = str(answer.body["token"])
        return self._token_of[owner]


def _document(load: Load, n: int) -> Mapping[str, Any]:
    env = {} if load.wall_s is None else {WALL: f"{load.wall_s[0]:g}-{load.wall_s[1]:g}"}
    return {
        "name": f"simulated-{load.share}",
        "share": load.share,
        "defaults": {
            "cores": load.cores, "memory_mb": load.memory_mb, "disk_mb": load.disk_mb, "walltime_s": load.walltime_s,
            "tags": load.tags, "priority": load.priority, "max_attempts": load.max_attempts, "env": env,
        },
        "template": {"command": ["true"], "count": n},
    }  # fmt: skip


def reason(answer: Answer) -> str:
    """What a refusal says."""
    if not answer.status:
        return "the server does not answer"
    detail = answer.body.get("detail", "") if isinstance(answer.body, dict) else ""
    return f"{answer.status} {answer.code}: {detail}".rstrip(": ")
