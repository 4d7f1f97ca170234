"""One simulation: who takes part, what happens meanwhile, when it is over."""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import quote

from panda.errors import Forbidden, NotFound, Unavailable
from panda.simulation.books import UNKNOWN, Books
from panda.simulation.fleetfile import Fleet, Group, QueueEvent
from panda.simulation.line import Answer, Exchange
from panda.simulation.load import Demand, reason
from panda.simulation.pilots import PER_NODE, Pilot, World
from panda.simulation.report import Report

#: Between two looks at the load, the clock and the books.
TICK_S = 0.5
#: Connections of those who are no pilots.
CONTROL = 4
#: Queues that are asked for at once.
PAGE = 500


@dataclass(frozen=True)
class Plan:
    """What shall be simulated. It ends with whichever of `seconds` and `jobs` comes first."""

    fleet: Fleet
    url: str
    pilot_token: str
    token: str = ""
    """A user's, for loads and for the shares of jobs; an operator's for events, an admin's for owners and for
    tokens that expire. Without one: pilots alone."""
    seed: int = 1
    seconds: float = 60.0
    jobs: int = 0
    """Attempts that are over, one way or another; 0: any number."""
    n_connections: int = 64
    sample_s: float = 1.0
    drain_s: float = 60.0
    """Pilots may come to an end within this; what they still run is left to its lease."""


def play(plan: Plan, say: Callable[[str], None]) -> Report:
    """Run a simulation to its end.

    Args:
        say: takes a line for people every ten seconds.
    Raises:
        Unavailable: the server does not answer, or refuses what the simulation cannot do without.
        NotFound: a group's patterns fit no queue.
        Forbidden: the pilots' token is none.
    """
    return asyncio.run(_Run(plan, say).carry_out())


def places(groups: Sequence[Group], queues: Sequence[Mapping[str, Any]]) -> list[tuple[int, Mapping[str, Any]]]:
    """Which group (by number) has pilots at which queue. Raises NotFound: a group has none anywhere."""
    found: list[tuple[int, Mapping[str, Any]]] = []
    for number, group in enumerate(groups):
        here = [queue for queue in queues if any(fnmatchcase(queue["name"], pattern) for pattern in group.queues)]
        if not here:
            raise NotFound("queue like", " or ".join(group.queues))
        found += [(number, queue) for queue in here]
    return found


class _Run:
    def __init__(self, plan: Plan, say: Callable[[str], None]) -> None:
        self._plan, self._say = plan, say
        self._books = Books()
        self._exchange = Exchange(plan.url, plan.n_connections)
        self._control = Exchange(plan.url, CONTROL)  # submitters and operators do not queue up behind pilots
        self._world = World(
            self._exchange, self._books, plan.seed, plan.pilot_token, plan.fleet.starting, self._short_token
        )
        self._demand = Demand(self._control, self._books, plan.token)
        self._todo = sorted(plan.fleet.events, key=lambda event: event.at_s)
        self._queues: list[Mapping[str, Any]] = []

    async def carry_out(self) -> Report:
        plan, world = self._plan, self._world
        self._queues = await self._ask_for_queues()
        pilots = self._pilots()
        n_queues = len({queue["name"] for _, queue in places(plan.fleet.groups, self._queues)})
        await self._demand.keep_up(plan.fleet.load)
        await self._demand.settle(plan.fleet.load, plan.fleet.settle_s)
        world.began_at = asyncio.get_running_loop().time()
        self._say(f"{len(pilots)} pilots at {n_queues} queues")
        tasks = [asyncio.ensure_future(pilot.run()) for pilot in pilots]
        tasks.append(asyncio.ensure_future(self._tend()))
        try:
            await self._meanwhile()
            lasted_s = world.now_s
        finally:
            await self._end(tasks)
        self._enter()
        return Report.of(
            self._books, seed=plan.seed, lasted_s=lasted_s, n_pilots=len(pilots), n_queues=n_queues,
            n_left=len(self._books.running),
        )  # fmt: skip

    async def _end(self, pilots: Sequence["asyncio.Task[None]"]) -> None:
        """Let the pilots come to an end, then end them. Raises what went wrong in one."""
        self._world.stop.set()
        await asyncio.wait(pilots, timeout=self._plan.drain_s)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await self._exchange.close()
        await self._control.close()
        problems = [*self._world.problems, *(each.exception() for each in pilots if not each.cancelled())]
        for problem in filter(None, problems):
            raise problem

    async def _meanwhile(self) -> None:
        """Everything but the pilots, until it is over."""
        plan, world, books = self._plan, self._world, self._books
        next_sample_s, next_word_s = 0.0, 10.0
        while (
            world.now_s < plan.seconds
            and not world.stop.is_set()
            and not (plan.jobs and books.ends.total() >= plan.jobs)
        ):
            if world.now_s >= next_sample_s:
                next_sample_s = world.now_s + plan.sample_s
                self._enter()
                sample = books.sample(world.now_s)
                if world.now_s >= next_word_s:
                    next_word_s = world.now_s + 10.0
                    cores = ", ".join(f"{share} {n}" for share, n in sample.cores.items()) or "none"
                    self._say(f"{sample.at_s:.0f} s: {sample.n_ended} ended; running cores: {cores}")
            left_s = plan.seconds - world.now_s
            await world.pause(max(0.01, min(TICK_S, plan.sample_s, left_s)))

    async def _tend(self) -> None:
        """Submitters and operators, until it is over; what they cannot do ends it."""
        try:
            while not self._world.stop.is_set():
                await self._demand.keep_up(self._plan.fleet.load)
                await self._operate()
                samples = self._books.samples
                if samples and UNKNOWN in samples[-1].cores:
                    await self._demand.learn_of_others(self._world.now_s)
                await self._world.pause(TICK_S)
        finally:
            self._world.stop.set()

    def _enter(self) -> None:
        for exchange in (self._exchange, self._control):
            calls, exchange.calls = exchange.calls, []
            self._books.enter(calls)

    def _pilots(self) -> list[Pilot]:
        fleet = self._plan.fleet
        made = []
        for number, queue in places(fleet.groups, self._queues):
            group = fleet.groups[number]
            profile = fleet.profile(group.profile)
            for nr in range(group.pilots):
                name = f"sim-{self._plan.seed}-{queue['name']}-{number}-{nr}"
                node = f"{queue['site']}-{number}-{nr // PER_NODE:03}".lower()
                made.append(Pilot(name, node, queue, group, profile, self._world))
        return made

    async def _ask_for_queues(self) -> list[Mapping[str, Any]]:
        found: list[Mapping[str, Any]] = []
        after = ""
        while True:
            path = f"/v1/queues?limit={PAGE}" + (f"&after={quote(after)}" if after else "")
            answer = await self._control.call("queues", "GET", path, self._plan.pilot_token)
            if answer.status in (401, 403):
                raise Forbidden("this pilots' token", "see queues; name a good one")
            if not answer.is_ok:
                raise Unavailable(f"{self._plan.url} does not tell its queues: {reason(answer)}")
            queues, after = _page(answer.body, self._plan.url)
            found += queues
            if not after:
                return found

    async def _short_token(self, for_s: float) -> str | None:
        wanted = {"owner": "simulated-pilots", "roles": ["pilot"], "label": "simulation",
                  "ttl_s": math.ceil(for_s)}  # fmt: skip
        answer = await self._control.call("tokens", "POST", "/v1/tokens", self._plan.token, wanted)
        return str(answer.body["token"]) if answer.is_ok else None

    async def _operate(self) -> None:
        """What operators do at this moment."""
        while self._todo and self._todo[0].at_s <= self._world.now_s:
            event = self._todo.pop(0)
            for queue in self._queues:
                if any(fnmatchcase(queue["name"], pattern) for pattern in event.queues):
                    answer = await self._set_status(str(queue["name"]), event)
                    if not answer.is_ok:
                        raise Unavailable(f"{queue['name']} cannot be set {event.status}: {reason(answer)}")

    async def _set_status(self, queue: str, event: QueueEvent) -> Answer:
        wanted = {"status": event.status, "reason": event.reason}
        path = f"/v1/queues/{queue}/status"
        return await self._control.call("queue status", "POST", path, self._plan.token, wanted)


def _page(body: Any, url: str) -> tuple[list[Mapping[str, Any]], str]:
    """Queues, and where the next page begins; empty: there is none. Raises Unavailable: it is no list of ours."""
    if isinstance(body, Mapping) and isinstance(body.get("data"), list) and isinstance(body.get("page"), Mapping):
        queues = body["data"]
        if all(isinstance(each, Mapping) and {"name", "site"} <= each.keys() for each in queues):
            return queues, str(body["page"].get("next") or "")
    raise Unavailable(f"{url} is no API of PanDA: what it tells of its queues is no list of them")
