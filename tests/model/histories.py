"""Steps by name, who plays them, and the histories that failed once.

A step takes a small number, which chooses among what is there: a message, a job, a held lease. The same
names are played to the model and to the real engine.
"""

from collections.abc import Callable, Sequence
from typing import Any

from engine_model import EngineModel, Message, road_end

#: Seconds that pass in one step.
LITTLE_S, LEASE_S, MUCH_S, WINDOW_S = 5.0, 121.0, 7 * 3600.0, 73 * 3600.0
APART_S = 3.0
MOST_JOBS = 6


class Player:
    """Plays steps to a model. `bag` is what waits in the broker, `held` what pilots believe to hold."""

    def __init__(self, model: EngineModel) -> None:
        self.model = model
        self.bag: list[Message] = []
        self.held: list[tuple[int, int, int]] = []
        self.history: list[tuple[str, int]] = []

    def play(self, name: str, n: int) -> Any:
        """One step."""
        self.history.append((name, n))
        return STEPS[name](self, n)

    def told(self) -> str:
        """The history so far, to be kept in HISTORIES."""
        return repr(self.history)


def _chosen(things: Sequence[Any], n: int) -> Any:
    return things[n % len(things)] if things else None


def _taken(bag: list[Message], n: int) -> Message | None:
    """By its place: a message may be there twice."""
    return bag.pop(n % len(bag)) if bag else None


def submit(player: Player, n: int) -> None:
    if len(player.model.jobs) < MOST_JOBS:
        player.model.submit(max_attempts=1 + n % 3)


def relay(player: Player, n: int) -> None:
    player.bag += player.model.claim(final=False)


def relay_final(player: Player, n: int) -> None:
    player.bag += player.model.claim(final=True)


def relay_dies(player: Player, n: int) -> None:
    """Committed, and nothing was sent."""
    player.model.claim(final=bool(n % 2))


def deliver(player: Player, n: int) -> None:
    """A message comes, from anywhere in the bag; its chain goes on."""
    message = _taken(player.bag, n)
    if message:
        following = player.model.run_stage(message)
        if following and not road_end(message):
            player.bag.append(following)


def deliver_and_die(player: Player, n: int) -> None:
    """The stage commits, and the chain breaks."""
    message = _taken(player.bag, n)
    if message:
        player.model.begin_run(message)
        player.model.run_stage(message)


def begin_and_die(player: Player, n: int) -> None:
    """The worker dies before the stage commits."""
    message = _taken(player.bag, n)
    if message:
        player.model.begin_run(message)


def drop(player: Player, n: int) -> None:
    _taken(player.bag, n)


def double(player: Player, n: int) -> None:
    message = _chosen(player.bag, n)
    if message and len(player.bag) < 40:
        player.bag.append(message)


def erase_redis(player: Player, n: int) -> None:
    player.bag.clear()
    player.model.resend_waiting()


def restart_worker(player: Player, n: int) -> None:
    player.model.resend_begun(APART_S)
    player.model.resend_waiting()


def acquire(player: Player, n: int) -> Any:
    given = player.model.acquire()
    if given:
        player.held.append(given)
    return given


def acquire_unheard(player: Player, n: int) -> None:
    """The answer is lost: nobody knows the token."""
    player.model.acquire()


def _reporting(report: Callable[[EngineModel, tuple[int, int, int]], str]) -> Callable[[Player, int], str | None]:
    def step(player: Player, n: int) -> str | None:
        held = _chosen(player.held, n)  # also leases that went long ago
        return report(player.model, held) if held else None

    return step


def kill(player: Player, n: int) -> None:
    if player.model.jobs:
        player.model.kill(1 + n % len(player.model.jobs))


def retry(player: Player, n: int) -> None:
    if player.model.jobs:
        player.model.retry(1 + n % len(player.model.jobs))


def sweep(player: Player, n: int) -> None:
    player.model.sweep()


def _passing(seconds: float) -> Callable[[Player, int], None]:
    def step(player: Player, n: int) -> None:
        player.model.now += seconds

    return step


STEPS: dict[str, Callable[[Player, int], Any]] = {
    "submit": submit,
    "relay": relay,
    "relay_final": relay_final,
    "relay_dies": relay_dies,
    "deliver": deliver,
    "deliver_and_die": deliver_and_die,
    "begin_and_die": begin_and_die,
    "drop": drop,
    "double": double,
    "erase_redis": erase_redis,
    "restart_worker": restart_worker,
    "acquire": acquire,
    "acquire_unheard": acquire_unheard,
    "heartbeat": _reporting(lambda model, held: model.heartbeat(*held)),
    "running": _reporting(lambda model, held: model.progress(*held)),
    "finish": _reporting(lambda model, held: model.end(*held, "finished")),
    "fail": _reporting(lambda model, held: model.end(*held, "failed")),
    "fail_by_node": _reporting(lambda model, held: model.end(*held, "failed", again=True)),
    "drop_job": _reporting(lambda model, held: model.end(*held, "cancelled")),
    "kill": kill,
    "retry": retry,
    "sweep": sweep,
    "pass_little_time": _passing(LITTLE_S),
    "pass_lease": _passing(LEASE_S),
    "pass_resend": _passing(156.0),
    "pass_much_time": _passing(MUCH_S),
    "pass_window": _passing(WINDOW_S),
}

#: Histories that broke an invariant once, or that are worth to be played to the real engine each time.
HISTORIES: dict[str, list[tuple[str, int]]] = {
    "a whole life": [
        ("submit", 0), ("relay", 0), ("deliver", 0), ("deliver", 0), ("deliver", 0), ("deliver", 0), ("deliver", 0),
        ("acquire", 0), ("running", 0), ("finish", 0), ("relay_final", 0), ("deliver", 0), ("deliver", 0),
    ],
    "every message twice, the second one late": [
        ("submit", 2), ("submit", 2), ("relay", 0), ("double", 0), ("deliver", 0), ("double", 1), ("deliver", 1),
        ("deliver", 0), ("deliver", 0), ("deliver", 0), ("deliver", 0), ("acquire", 0), ("deliver", 0), ("finish", 0),
        ("deliver", 0), ("relay_final", 0), ("double", 0), ("deliver", 0), ("deliver", 0), ("deliver", 0),
    ],
    "a pilot that comes back after its lease": [
        ("submit", 1), ("relay", 0), ("deliver", 0), ("deliver", 0), ("deliver", 0), ("deliver", 0), ("deliver", 0),
        ("acquire", 0), ("pass_lease", 0), ("sweep", 0), ("finish", 0), ("relay", 0), ("deliver", 0), ("deliver", 0),
        ("deliver", 0), ("deliver", 0), ("acquire", 0), ("finish", 0), ("finish", 1), ("finish", 1),
    ],
    "a kill for one attempt and a retry": [
        ("submit", 1), ("relay", 0), ("deliver", 0), ("deliver", 0), ("deliver", 0), ("deliver", 0), ("deliver", 0),
        ("acquire", 0), ("kill", 0), ("fail_by_node", 0), ("retry", 0), ("relay", 0), ("deliver", 0), ("deliver", 0),
        ("deliver", 0), ("deliver", 0), ("acquire", 0), ("running", 1), ("finish", 1),
    ],
    "a kill before any pilot": [("submit", 1), ("submit", 2), ("relay", 0), ("kill", 0), ("deliver", 0), ("relay_final", 0),
        ("deliver", 0), ("kill", 0), ("retry", 0)],
    "a worker that dies with work in its hands": [
        ("submit", 0), ("submit", 0), ("submit", 0), ("relay", 0), ("begin_and_die", 0), ("restart_worker", 0),
        ("pass_little_time", 0), ("relay", 0), ("begin_and_die", 0), ("deliver_and_die", 0), ("restart_worker", 0),
        ("pass_little_time", 0), ("relay", 0), ("deliver", 0), ("relay", 0), ("restart_worker", 0), ("relay", 0),
    ],
}  # fmt: skip
