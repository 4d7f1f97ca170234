"""A pilot that is played: it asks, says that its jobs run, and how they ended; it runs nothing.

What becomes of a job depends on the seed, the job and the pilot's profile alone, never on the moment: two runs in
which the same pilots get the same jobs end alike.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import uuid4

from panda.simulation.books import Books
from panda.simulation.fleetfile import Group, Profile
from panda.simulation.line import Answer, Exchange

#: Environment variable of a job in which it says how long its payload lasts, in seconds: `3`, `6-12`.
WALL = "SIM_WALL_S"
#: Between two tries of a request that was not answered, or refused for the moment.
TRY_AGAIN_S = 2.0
#: A report that is not taken for so long is given up, as real pilots do.
PATIENCE_S = 600.0
#: Pilots of one node.
PER_NODE = 8
#: Shown where a token has expired and nobody may make one that really does.
NO_TOKEN = "panda_this-token-has-expired"


class Fate(NamedTuple):
    """What becomes of an attempt."""

    wall_s: float
    fails: bool
    is_silent: bool


def fate_of(seed: int, profile: Profile, panda_id: int, attempt_nr: int, says: str = "") -> Fate:
    """`says`: what the job itself says of its length; what is no span of seconds is passed over."""
    chance = random.Random(f"{seed}/{panda_id}/{attempt_nr}")
    low, high = span_of(says) or profile.wall_s
    wall_s = chance.uniform(low, high) / profile.speed
    return Fate(wall_s, chance.random() < profile.fails, chance.random() < profile.silent)


def span_of(text: str) -> tuple[float, float] | None:
    """`6-12` or `3`, in seconds; None: it is neither."""
    low, dash, high = text.partition("-")
    try:
        span = float(low), float(high if dash else low)
    except ValueError:
        return None
    return span if 0 <= span[0] <= span[1] < 1e7 else None


@dataclass
class World:
    """What all pilots of a fleet share."""

    exchange: Exchange
    books: Books
    seed: int
    token: str
    says_starting: bool
    short_token: Callable[[float], Awaitable[str | None]]
    """A pilot's token that is good for so many seconds; None: nobody here may make one."""
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    began_at: float = 0.0
    """The loop's clock."""
    problems: list[BaseException] = field(default_factory=list)
    """Bugs of ours; the first one ends the simulation."""

    @property
    def now_s(self) -> float:
        """Seconds since the fleet began."""
        return asyncio.get_running_loop().time() - self.began_at

    async def pause(self, seconds: float) -> None:
        """Sleep, but not beyond the end of the simulation."""
        try:
            async with asyncio.timeout(seconds):
                await self.stop.wait()
        except TimeoutError:
            return


@dataclass
class Running:
    """A job in a slot."""

    job: Mapping[str, Any]
    fate: Fate
    over: asyncio.Event = field(default_factory=asyncio.Event)
    """Its pilot was told to end it, or that it is not its own."""
    told: str = ""
    is_mute: bool = False

    @property
    def panda_id(self) -> int:
        return int(self.job["panda_id"])

    @property
    def badge(self) -> dict[str, Any]:
        """What each report must show."""
        return {name: self.job[name] for name in ("panda_id", "attempt_nr", "token")}


class Pilot:
    """One pilot at one queue."""

    def __init__(self, name: str, node: str, queue: Mapping[str, Any], group: Group, profile: Profile, world: World):
        self._name, self._node, self._queue, self._group, self._world = name, node, queue, group, world
        self._profile = profile
        self._chance = random.Random(f"{world.seed}/{name}")
        self._jobs: dict[int, Running] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._freed = asyncio.Event()
        self._beating: asyncio.Task[None] | None = None
        self._token, self._renew_at_s = "", 0.0

    async def run(self) -> None:
        """Ask and work until the simulation stops; then come to an end with what it has."""
        world = self._world
        await world.pause(self._chance.uniform(*self._group.starts_s))
        down = asyncio.ensure_future(self._go_down()) if self._profile.down_s[1] else None
        while not world.stop.is_set():
            if self._is_down:
                await world.pause(self._profile.down_s[1] - world.now_s)
                continue
            free = self._group.slots - len(self._jobs)
            if not free:
                self._freed.clear()
                await self._freed.wait()
                continue
            jobs = await self._ask(free)
            self._begin(jobs)
            if len(jobs) < free:
                await world.pause(self._chance.uniform(0.5, 1.5) * self._profile.idle_s)
        while self._tasks:
            await asyncio.wait(self._tasks)
        for task in filter(None, (self._beating, down)):
            task.cancel()

    @property
    def _is_down(self) -> bool:
        low, high = self._profile.down_s
        return low <= self._world.now_s < high

    async def _go_down(self) -> None:
        """The whole place is without power for a while: nothing is heard of its jobs any more."""
        await asyncio.sleep(self._profile.down_s[0] - self._world.now_s)
        self._vanish()

    def _vanish(self) -> None:
        for running in list(self._jobs.values()):
            self._end(running, "down")
            running.over.set()

    async def _ask(self, n: int) -> Sequence[Mapping[str, Any]]:
        """Jobs, or none. Asked again with the same id as long as nothing comes back."""
        group, queue = self._group, self._queue
        request = {
            "pilot_id": self._name, "queue": queue["name"], "request_id": uuid4().hex, "n": n, "node": self._node,
            "version": "simulated", "tags": queue["tags"], "cores": group.cores or queue["cores"],
            "memory_mb": group.memory_mb or queue["memory_mb"], "disk_mb": group.disk_mb or queue["disk_mb"],
            "walltime_s": group.walltime_s or queue["walltime_s"],
        }  # fmt: skip
        while not self._world.stop.is_set():
            answer = await self._say("acquire", request)
            if answer.is_ok:
                self._beat_every(float(answer.body["heartbeat_s"]))
                jobs: Sequence[Mapping[str, Any]] = answer.body["jobs"]
                return jobs
            await self._world.pause(self._patience(answer))
            if answer.status and answer.status < 500:
                break
        return []

    def _begin(self, jobs: Sequence[Mapping[str, Any]]) -> None:
        if not jobs:
            return
        seed, books = self._world.seed, self._world.books
        begun = []
        for job in jobs:
            says = str(job["env"].get(WALL, ""))
            fate = fate_of(seed, self._profile, int(job["panda_id"]), int(job["attempt_nr"]), says)
            begun.append(Running(job, fate))
            books.begin(int(job["panda_id"]), int(job["attempt_nr"]), int(job["cores"]))
        self._jobs.update({running.panda_id: running for running in begun})
        if self._is_down:  # the answer came into a dark room
            self._vanish()
            return
        self._spawn(self._work(begun))

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (problem := task.exception()):
            self._world.problems.append(problem)
            self._world.stop.set()

    async def _work(self, begun: Sequence[Running]) -> None:
        """The jobs of one answer: they start together, and end each by itself."""
        if self._world.says_starting:
            await self._report(begun, "starting", once=True)
        await self._report(begun, "running", once=True)
        for running in begun[1:]:
            self._spawn(self._payload(running))
        await self._payload(begun[0])

    async def _payload(self, running: Running) -> None:
        if self._profile.log_bytes:
            await self._send_log(running)
        running.is_mute = running.fate.is_silent
        try:
            async with asyncio.timeout(running.fate.wall_s):
                await running.over.wait()
        except TimeoutError:
            pass
        if running.panda_id not in self._jobs:
            return  # everything here went down
        if running.told == "kill":
            self._end(running, await self._report([running], "cancelled"))
        elif running.told:
            self._end(running, running.told)
        elif running.is_mute:
            await self._come_back(running)
        else:
            self._end(running, await self._last_word(running))

    async def _last_word(self, running: Running) -> str:
        """Report the end. Returns the word for the books."""
        fate, profile = running.fate, self._profile
        used = {"wall_s": fate.wall_s, "cpu_s": 0.9 * fate.wall_s * running.job["cores"], "max_rss_mb": 100}
        if running.job["outputs"]:  # nothing here can write them
            return await self._report(
                [running], "failed", error_code=1137, error_message="a simulated pilot writes no output", **used
            )
        if not fate.fails:
            return await self._report([running], "finished", exit_code=0, **used)
        return await self._report(
            [running], "failed", error_code=profile.error_code, error_message=profile.message,
            exit_code=profile.exit_code, **used,
        )  # fmt: skip

    async def _come_back(self, running: Running) -> None:
        """It was silent all the time; perhaps it reports after all, when its lease is long gone."""
        if not self._profile.returns_s:
            self._end(running, "silent")
            return
        await self._world.pause(self._profile.returns_s)
        word = await self._last_word(running)
        self._end(running, word if word in ("stale_lease", "already_done", "given_up") else f"{word}:late")

    async def _report(self, some: Sequence[Running], status: str, *, once: bool = False, **facts: Any) -> str:
        """Report on jobs. Returns the word for the books: the status if the server took it, else its answer.

        Args:
            once: news that need not arrive; they are not said again.
        """
        reports = [running.badge | {"status": status} | facts for running in some]
        give_up_s = self._world.now_s + PATIENCE_S
        while True:
            answer = await self._say("update", {"pilot_id": self._name, "reports": reports})
            if answer.is_ok:
                self._hear(answer.body["results"], is_last=status not in ("starting", "running"))
                outcome = str(answer.body["results"][0]["outcome"])
                word = f"failed:{facts['error_code']}" if status == "failed" else status
                return word if outcome == "ok" else outcome
            is_hopeless = 400 <= answer.status < 500 and answer.status not in (401, 429)
            if once or is_hopeless or self._world.now_s > give_up_s:
                return "given_up"
            await asyncio.sleep(self._patience(answer))

    def _patience(self, answer: Answer) -> float:
        """Seconds until it tries again; not in step with the others."""
        return self._chance.uniform(0.5, 1.5) * max(TRY_AGAIN_S, answer.retry_after_s)

    def _hear(self, results: Sequence[Mapping[str, Any]], *, is_last: bool) -> None:
        for result in results:
            running = self._jobs.get(int(result["panda_id"]))
            if running is None or is_last:
                continue
            if result["command"] == "kill":
                running.told = "kill"
            elif result["outcome"] != "ok":
                running.told = str(result["outcome"])
            if running.told:
                running.over.set()

    def _beat_every(self, seconds: float) -> None:
        if self._beating is None:
            self._beating = asyncio.get_running_loop().create_task(self._beat(seconds))

    async def _beat(self, every_s: float) -> None:
        await asyncio.sleep(self._chance.uniform(0, every_s))
        while True:
            beats = [running.badge for running in self._jobs.values() if not running.is_mute]
            if beats:
                answer = await self._say("heartbeat", {"pilot_id": self._name, "beats": beats})
                if answer.is_ok:
                    self._hear(answer.body["results"], is_last=False)
            await asyncio.sleep(every_s)

    async def _send_log(self, running: Running) -> None:
        path = f"/v1/pilots/logs/{running.panda_id}/{running.job['attempt_nr']}/payload.stdout?offset=0"
        line = f"simulated payload of job {running.panda_id}\n".encode()
        text = (line * (self._profile.log_bytes // len(line) + 1))[: self._profile.log_bytes]
        await self._world.exchange.call(
            "log", "PUT", path, await self._good_token(), body=text, headers={"X-Lease-Token": running.job["token"]}
        )

    async def _say(self, what: str, document: Mapping[str, Any]) -> Answer:
        return await self._world.exchange.call(what, "POST", f"/v1/pilots/{what}", await self._good_token(), document)

    async def _good_token(self) -> str:
        """The token that it shows now; every second time span of `token_s` it is one that has expired."""
        token_s, now_s = self._profile.token_s, self._world.now_s
        if not token_s:
            return self._world.token
        if now_s >= self._renew_at_s:
            self._renew_at_s = now_s + 2 * token_s
            self._token = await self._world.short_token(token_s) or ""
        if self._token:
            return self._token
        return self._world.token if self._renew_at_s - now_s > token_s else NO_TOKEN

    def _end(self, running: Running, word: str) -> None:
        if self._jobs.pop(running.panda_id, None) is not None:
            self._world.books.end(running.panda_id, word, self._group.profile, str(self._queue["name"]))
        self._freed.set()
