"""The fleet file: which pilots there are, how they behave, what is submitted and what operators do meanwhile.

Pure: a TOML file becomes a `Fleet`, or a sentence that says what is wrong with it.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from panda.errors import ConfigError, UnknownName
from panda.words import Count, Name, Positive

Seconds = Annotated[float, Meta(ge=0, le=1e7)]
Part = Annotated[float, Meta(ge=0, le=1)]
Span = tuple[Seconds, Seconds]
ErrorCode = Annotated[int, Meta(ge=0, le=100_000)]
ExitCode = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]


class Section(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Base of what stands in a fleet file."""


class Profile(Section):
    """How a pilot behaves. Times in seconds since the pilot began what they are about."""

    wall_s: Span = (1.0, 5.0)
    """A payload lasts between these; a job that says it in `SIM_WALL_S` (`6-12`, `3`) is believed."""
    speed: Annotated[float, Meta(gt=0, le=1000)] = 1.0
    """Payloads last that many times shorter."""
    fails: Part = 0.0
    """The part of its jobs that fail at their end."""
    error_code: ErrorCode = 1305
    exit_code: ExitCode = 1
    message: str = "a simulated failure"
    silent: Part = 0.0
    """The part of its jobs that it says nothing of any more after `running`."""
    returns_s: Seconds = 0.0
    """A silent pilot reports after all, that long after its payload ended; 0: it is gone for ever."""
    token_s: Seconds = 0.0
    """Its token is good for that long; then it is refused, and gets a new one after as long. 0: always good."""
    down_s: Span = (0.0, 0.0)
    """Between these, since the fleet began, nothing is heard of it; what it ran is lost."""
    idle_s: Seconds = 2.0
    """Between two asks, when it got nothing."""
    log_bytes: Count = 0
    """Log that it sends for each job."""


#: Profiles that every fleet file may name; its own win.
PROFILES: Mapping[str, Profile] = {
    "ok": Profile(),
    "slow": Profile(speed=0.2),
    "black-hole": Profile(
        wall_s=(0.0, 0.1), fails=1.0, error_code=1099, exit_code=1, message="a black hole: stage-in failed at once",
        idle_s=0.5,
    ),
    "silent": Profile(silent=1.0),
    "late": Profile(silent=1.0, returns_s=180.0),
    "expired-token": Profile(token_s=20.0),
    "failing-stage-out": Profile(fails=1.0, error_code=1137, exit_code=0, message="no output could be stored"),
    "down": Profile(down_s=(20.0, 80.0)),
}  # fmt: skip


class Group(Section):
    """Equal pilots at each queue whose name fits."""

    queues: Annotated[list[Name], Meta(min_length=1)]
    """Patterns (`SIM-*`) over the names of the server's queues."""
    pilots: Annotated[int, Meta(ge=1, le=10_000)]
    """At each of these queues."""
    slots: Annotated[int, Meta(ge=1, le=1_000)] = 1
    """Jobs that one pilot runs at a time; it asks for as many as it has slots free."""
    cores: Positive | None = None
    """Of each slot; what the queue has, if it is left out; as the three that follow."""
    memory_mb: Positive | None = None
    disk_mb: Positive | None = None
    walltime_s: Positive | None = None
    profile: Name = "ok"
    starts_s: Span = (0.0, 2.0)
    """Each begins between these."""


class Load(Section):
    """Job sets of one share, submitted so that enough jobs always wait."""

    share: Name = "default"
    owner: Name | None = None
    """In whose name; without one, in that of who runs the simulation. Needs an admin's token."""
    waiting: Positive = 1_000
    """Jobs that wait for a pilot, or for less, at any time."""
    per_set: Annotated[int, Meta(ge=1, le=100_000)] = 500
    jobs: Count = 0
    """Jobs in all; 0: without end."""
    cores: Positive = 1
    memory_mb: Positive = 1_000
    disk_mb: Positive = 100
    walltime_s: Positive = 3_600
    tags: list[Name] = []
    priority: Annotated[int, Meta(ge=-10_000, le=10_000)] = 0
    max_attempts: Annotated[int, Meta(ge=1, le=50)] = 3
    wall_s: Span | None = None
    """What the payloads last, as their jobs say it; without it the pilot's profile decides."""


class QueueEvent(Section):
    """An operator opens or closes queues. Needs an operator's token."""

    at_s: Seconds
    queues: Annotated[list[Name], Meta(min_length=1)]
    status: Literal["online", "offline", "test", "brokeroff"]
    reason: str = "simulated"


class Fleet(Section):
    """A whole fleet file."""

    groups: Annotated[list[Group], Meta(min_length=1)]
    profiles: dict[Name, dict[str, Any]] = {}
    """Own profiles: their fields, and `like`, the one that they begin with (`ok` if nothing is said)."""
    load: list[Load] = []
    events: list[QueueEvent] = []
    settle_s: Seconds = 0.0
    """Pilots begin once pilots may take as many jobs of each share as its loads keep waiting, or after so long."""
    starting: bool = True
    """Pilots say `starting` before `running`, as real ones do; without, a request less per job."""

    def profile(self, name: str) -> Profile:
        """The profile of this name; `read` has seen that there is one."""
        return _profile(self.profiles, name, ())


def load_file(path: Path) -> Fleet:
    """What `path` (TOML) says.

    Raises:
        ConfigError: no TOML, a key that does not exist, a wrong type, a value out of range; names file and place.
        UnknownName: a profile that does not exist.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as problem:
        raise ConfigError(f"{path}: {problem}") from problem
    return read(document, str(path))


def read(document: Mapping[str, Any], where: str) -> Fleet:
    """A parsed fleet file, checked. Raises as `load_file`."""
    try:
        fleet = msgspec.convert(document, Fleet)
        for name in fleet.profiles:
            fleet.profile(name)
    except msgspec.ValidationError as problem:
        raise ConfigError(f"{where}: {problem}") from problem
    except (UnknownName, ConfigError) as problem:
        raise _placed(problem, where) from problem
    for number, group in enumerate(fleet.groups):
        if group.profile not in {**PROFILES, **fleet.profiles}:
            known = sorted({**PROFILES, **fleet.profiles})
            raise UnknownName("profile", group.profile, known, where=f"{where} groups[{number}]")
    for low, high in _spans(fleet):
        if low > high:
            raise ConfigError(f"{where}: a span must not end before it begins: [{low:g}, {high:g}]")
    return fleet


def _placed(problem: UnknownName | ConfigError, where: str) -> ConfigError | UnknownName:
    return problem if isinstance(problem, UnknownName) else ConfigError(f"{where}: {problem}")


def _profile(own: Mapping[str, dict[str, Any]], name: str, above: tuple[str, ...]) -> Profile:
    if name in above:
        raise ConfigError(f"profile {name} is like itself, by way of {', '.join(above)}")
    if name not in own:
        if name not in PROFILES:
            raise UnknownName("profile", name, sorted({**PROFILES, **own}))
        return PROFILES[name]
    fields = dict(own[name])
    like = fields.pop("like", "ok")
    if not isinstance(like, str):
        raise ConfigError(f"profile {name}: like wants the name of a profile, got {like!r}")
    # A profile may take over, and change, the built-in one of its own name.
    begun = PROFILES[name] if like == name and name in PROFILES else _profile(own, like, (*above, name))
    try:
        return msgspec.convert(msgspec.structs.asdict(begun) | fields, Profile)
    except msgspec.ValidationError as problem:
        raise ConfigError(f"profile {name}: {problem}") from problem


def _spans(fleet: Fleet) -> list[Span]:
    profiles = [fleet.profile(name) for name in fleet.profiles]
    spans = [span for profile in profiles for span in (profile.wall_s, profile.down_s)]
    return spans + [group.starts_s for group in fleet.groups] + [each.wall_s for each in fleet.load if each.wall_s]
