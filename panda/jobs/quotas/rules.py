"""Quotas, and what follows from them for an owner. Pure.

A quota is set for everybody (`default`), for those who are limited (`limited`), for a user or for a group. What a
user's own quota leaves open, the default says; of a limited user the smaller of the two counts. Every group that
somebody is a member of binds them as well, all members together.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

from panda.errors import Invalid

DEFAULT, LIMITED, USER, GROUP = "default", "limited", "user", "group"
REFUSE, HOLD = "refuse", "hold"
#: What keeps everything of an owner waiting, beside limits.
BAN = "ban"


class Limits(NamedTuple):
    """At most so many at a time. None: nothing is said; 0: any number."""

    queued_jobs: int | None = None
    """Jobs that are accepted and that no pilot has."""
    running_jobs: int | None = None
    running_cores: int | None = None
    core_hours: float | None = None
    """Used within the period of `[quotas] period_days`."""


class Quota(NamedTuple):
    """What was set for somebody."""

    kind: str
    name: str
    """Of the user or the group; "" of the two others."""
    limits: Limits
    beyond: str | None = None
    """What becomes of a job set with too many jobs: `refuse` or `hold`; None: as the default says."""
    members: tuple[str, ...] = ()
    """Of a group."""

    @property
    def subject(self) -> str:
        """`default`, `limited`, `user:ann`, `group:higgs`."""
        return f"{self.kind}:{self.name}" if self.name else self.kind


class Bound(NamedTuple):
    """A quota that binds an owner, worked out. None: any number."""

    subject: str
    owners: tuple[str, ...]
    """Who pays into it together."""
    queued_jobs: int | None
    running_jobs: int | None
    running_cores: int | None
    core_hours: float | None
    beyond: str

    @property
    def restricts_running(self) -> bool:
        """Whether dispatch has to look at it."""
        return (self.running_jobs, self.running_cores, self.core_hours) != (None, None, None)


class Held(NamedTuple):
    """What an admin decided about a user; a reason each, None: not so."""

    banned: str | None = None
    limited: str | None = None


class Used(NamedTuple):
    """What an owner used."""

    part: float = 0.0
    """Of all that was used, 0 to 1, what is long ago counting less."""
    late_ms: int = 0
    """By that much the jobs of this owner stand further back, in the order in which jobs are taken."""
    core_hours: float = 0.0
    """Within the period."""


def subject_parts(subject: str) -> tuple[str, str]:
    """`user:ann` as its kind and name. Raises Invalid: `unknown_subject`."""
    kind, colon, name = subject.partition(":")
    if (kind in (DEFAULT, LIMITED) and not colon) or (kind in (USER, GROUP) and name):
        return kind, name
    raise Invalid(
        f"{subject!r} is nobody's quota: write default, limited, user:NAME or group:NAME", where="subject",
        code="unknown_subject",
    )  # fmt: skip


class Picture:
    """All quotas, with whom they bind."""

    def __init__(
        self, quotas: Iterable[Quota] = (), held: Mapping[str, Held] | None = None,
        used: Mapping[str, Used] | None = None,
    ) -> None:  # fmt: skip
        self.quotas = {quota.subject: quota for quota in quotas}
        self.held = dict(held or {})
        self.used = dict(used or {})
        self._bounds: dict[str, tuple[Bound, ...]] = {}
        self._groups_of: dict[str, list[Quota]] = {}
        for subject in sorted(self.quotas):
            for member in self.quotas[subject].members:
                self._groups_of.setdefault(member, []).append(self.quotas[subject])

    def bounds(self, owner: str) -> Sequence[Bound]:
        """What binds an owner: their own quota first, then those of their groups. Empty: nothing does."""
        found = self._bounds.get(owner)
        if found is None:
            every = (self.own(owner), *map(self._of_group, self._groups_of.get(owner, ())))
            found = self._bounds[owner] = tuple(each for each in every if each[2:6] != (None,) * 4)
        return found

    @cached_property
    def restricts_queued(self) -> bool:
        """Whether anybody's submissions have to be counted."""
        return any(quota.limits.queued_jobs for quota in self.quotas.values())

    @cached_property
    def watches_everybody(self) -> bool:
        """Whether dispatch has to know the owner of every job."""
        default = self.quotas.get(DEFAULT)
        return default is not None and _restricts(default.limits)

    @cached_property
    def watched(self) -> list[str]:
        """Owners whose running jobs dispatch has to know of, when it does not look at everybody's."""
        named = {name for name, held in self.held.items() if held.banned is not None or held.limited is not None}
        for quota in self.quotas.values():
            named.update(quota.members if quota.kind == GROUP else [quota.name] if quota.kind == USER else [])
        return sorted(name for name in named if self.is_watched(name))

    def is_watched(self, owner: str) -> bool:
        """Whether dispatch has to know what this owner runs."""
        held = self.held.get(owner)
        return (held is not None and held.banned is not None) or any(
            bound.restricts_running for bound in self.bounds(owner)
        )

    @property
    def watches(self) -> bool:
        """Whether dispatch has to know what anybody runs."""
        return self.watches_everybody or bool(self.watched)

    def own(self, owner: str) -> Bound:
        """What binds an owner alone."""
        default = self.quotas.get(DEFAULT, Quota(DEFAULT, "", Limits()))
        own = self.quotas.get(f"{USER}:{owner}", Quota(USER, owner, Limits()))
        limited = self.quotas.get(LIMITED, Quota(LIMITED, "", Limits()))
        is_limited = owner in self.held and self.held[owner].limited is not None
        merged = [common if mine is None else mine for mine, common in zip(own.limits, default.limits, strict=True)]
        beyond = own.beyond or default.beyond or REFUSE
        if is_limited:
            merged = [_smaller(value, few) for value, few in zip(merged, limited.limits, strict=True)]
            beyond = limited.beyond or beyond
        return _bound(own.subject, (owner,), Limits(*merged), beyond)  # type: ignore[arg-type]

    def is_of_the_limited(self, bound: Bound, limit: str) -> bool:
        """Whether one of the limits of a bound is as it is because an operator limited its owner."""
        few = self.quotas.get(LIMITED)
        [owner, *others] = bound.owners
        held = None if others or bound != self.own(owner) else self.held.get(owner)
        return (
            few is not None
            and held is not None
            and held.limited is not None
            and getattr(bound, limit) == getattr(few.limits, limit)
        )

    def _of_group(self, group: Quota) -> Bound:
        default = self.quotas.get(DEFAULT)
        beyond = group.beyond or (default.beyond if default else None) or REFUSE
        return _bound(group.subject, group.members, group.limits, beyond)


class Room(NamedTuple):
    """What an owner may have more of at this moment."""

    jobs: float
    cores: float
    because: str = ""
    """What it is that leaves no more; "": nothing does."""
    subject: str = ""
    """Whose quota that is."""
    limit: str = ""
    """Which of `Limits`; or `BAN`."""


class Rooms:
    """What is left of the running quotas, from what owners run."""

    def __init__(self, picture: Picture, running: Mapping[str, tuple[int, int]]) -> None:
        """`running`: jobs and cores by owner."""
        self._picture, self._running = picture, dict(running)
        self._totals: dict[str, tuple[int, int]] = {}

    def add(self, owner: str, jobs: int, cores: int) -> None:
        """An owner runs so many more."""
        was = self._running.get(owner, (0, 0))
        self._running[owner] = (was[0] + jobs, was[1] + cores)
        for bound in self._picture.bounds(owner):
            if (total := self._totals.get(bound.subject)) is not None:
                self._totals[bound.subject] = (total[0] + jobs, total[1] + cores)

    def left(self, owner: str, cores: int = 1, aside: Mapping[str, tuple[int, int]] | None = None) -> Room:
        """What an owner may still start; the tightest bound counts.

        Args:
            cores: of one more job; `because` says why it may not be started.
            aside: jobs and cores that are spoken for already, by subject.
        """
        held = self._picture.held.get(owner)
        if held is not None and held.banned is not None:
            return Room(0, 0, f"{owner} is banned: {held.banned}", f"{USER}:{owner}", BAN)
        room = Room(float("inf"), float("inf"))
        for bound in self._picture.bounds(owner):
            if bound.restricts_running:
                mine = self._left_of(bound, cores, (aside or {}).get(bound.subject, (0, 0)))
                told = mine if mine.because else room
                room = told._replace(jobs=min(room.jobs, mine.jobs), cores=min(room.cores, mine.cores))
        return room

    def running_of(self, bound: Bound) -> tuple[int, int]:
        """Jobs and cores that run within a bound."""
        total = self._totals.get(bound.subject)
        if total is None:
            mine = [self._running[owner] for owner in bound.owners if owner in self._running]
            total = self._totals[bound.subject] = (sum(jobs for jobs, _ in mine), sum(cores for _, cores in mine))
        return total

    def used_of(self, bound: Bound) -> float:
        """Core hours used within a bound, in the period."""
        return sum(self._picture.used[owner].core_hours for owner in bound.owners if owner in self._picture.used)

    def allot(self, wanted: Sequence[tuple[str, int]], n: int) -> list[int]:
        """How many of `n` jobs each candidate may give, the first one first; nobody's quota is passed if all do.

        Args:
            wanted: owner ("": nobody's quota) and cores of a job.
        """
        aside: dict[str, tuple[int, int]] = {}
        allotted = []
        for owner, cores in wanted:
            if not owner:
                allotted.append(n)
                continue
            room = self.left(owner, aside=aside)
            most = int(max(0, min(n, room.jobs, room.cores // cores)))
            if most < n:  # of one with room for all of them nothing has to be set aside: more than n are never taken
                for bound in self._picture.bounds(owner):
                    jobs, taken = aside.get(bound.subject, (0, 0))
                    aside[bound.subject] = (jobs + most, taken + most * cores)
            allotted.append(most)
        return allotted

    def _left_of(self, bound: Bound, wanted: int, aside: tuple[int, int]) -> Room:
        jobs, cores = self.running_of(bound)
        if bound.core_hours is not None and (used := self.used_of(bound)) >= bound.core_hours:
            told = f"used {used:,.0f} of {bound.core_hours:,.0f} core hours of this period"
            return Room(0, 0, f"{bound.subject} {told}", bound.subject, "core_hours")
        left_jobs = float("inf") if bound.running_jobs is None else max(0, bound.running_jobs - jobs - aside[0])
        left_cores = float("inf") if bound.running_cores is None else max(0, bound.running_cores - cores - aside[1])
        if left_cores < wanted:
            because = f"{bound.subject} runs {cores:,} of {bound.running_cores:,} cores"
            because += f", and {wanted:,} more are too many" if left_cores else ""
            return Room(left_jobs, left_cores, because, bound.subject, "running_cores")
        if left_jobs < 1:
            because = f"{bound.subject} runs {jobs:,} of {bound.running_jobs:,} jobs"
            return Room(left_jobs, left_cores, because, bound.subject, "running_jobs")
        return Room(left_jobs, left_cores)


def _restricts(limits: Limits) -> bool:
    return bool(limits.running_jobs or limits.running_cores or limits.core_hours)


def _smaller(value: float | None, few: float | None) -> float | None:
    """The smaller of two limits, of which neither None nor 0 is one."""
    return min((each for each in (value, few) if each), default=value)


def _bound(subject: str, owners: tuple[str, ...], limits: Limits, beyond: str) -> Bound:
    queued, jobs, cores, hours = (value or None for value in limits)
    return Bound(subject, owners, queued, jobs, cores, hours, beyond)  # type: ignore[arg-type]
