"""Which single change would let a job run, and where. Pure.

A change is tried, not guessed: the job or the queue is taken to be different in one thing, and the criteria of the
job set's policy are asked again. So plug-ins count as well, and what is suggested would really do.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from panda.brokerage.criteria.resources import REFERENCE_COREPOWER
from panda.brokerage.deciding import Fault, sift
from panda.brokerage.pairs import pairs
from panda.brokerage.policies import Policy
from panda.brokerage.subjects import Away, Kind, Load, Locality, Planned, Queue
from panda.names import ASKED, amount, amount_of, counted
from panda.requirements import read

#: Queues that a change names; of more it tells the number.
NAMED = 3
#: Pairs of changes that are told where no single one helps.
PAIRS = 3
#: Changes of one answer, those of the job's owner first.
MOST = 8

OWNER, OPERATOR, TIME = "owner", "operator", "time"
_ORDER = (OWNER, OPERATOR, TIME)


@dataclass(frozen=True)
class Change:
    """Something that would let the job run, if it were the only thing that is different."""

    who: str
    """Who could do it: `owner`, `operator`, or nobody: it takes `time`."""
    say: str
    """In words, e.g. "ask for 12 GB of memory instead of 16 GB"."""
    queues: tuple[str, ...]
    """Where it could run then, by name."""
    command: str = ""
    """What to type, if it is one command."""

    @property
    def sentence(self) -> str:
        """`say`, and what is gained by it."""
        if not self.queues:
            return self.say
        named = ", ".join(self.queues[:NAMED]) + (", …" if len(self.queues) > NAMED else "")
        return f"{self.say}: {counted(len(self.queues), 'more queue')} ({named})"


def changes(kind: Kind, queues: Sequence[Queue], policy: Policy, *, storages_away: Away | None = None) -> list[Change]:
    """What would open queues to such a job that do not take it now.

    Args:
        storages_away: storages that cannot be read now and hold inputs that are nowhere else.
    Returns: at most `MOST`, those first that its owner could make, then those that open most queues.
    """
    return _Search(kind, queues, policy).all(storages_away or Away())


class _Search:
    def __init__(self, kind: Kind, queues: Sequence[Queue], policy: Policy) -> None:
        self._kind, self._queues, self._policy = kind, queues, policy
        self._open = {queue.name for queue in queues if self._takes(kind, queue)}

    def all(self, storages_away: Away) -> list[Change]:
        found = [
            change
            for change in (
                *self._numbers(), *self._tags(), *self._wishes(), *self._requirements(), *self._groups(),
                *self._places(), *self._data(storages_away), *self._downtimes(), *self._caps(),
                *self._room(),
            )
            if change.queues
        ]  # fmt: skip
        found = found or self._pairs()
        return sorted(found, key=lambda each: (_ORDER.index(each.who), -len(each.queues)))[:MOST]

    def _pairs(self) -> list[Change]:
        """No single one: the nearest two that do it together."""
        if self._open:
            return []
        made = pairs(self._kind, self._queues, self._takes)[:PAIRS]
        return [Change(OWNER if each.is_owners else OPERATOR, each.say, each.queues) for each in made]

    def _takes(self, kind: Kind, queue: Queue) -> bool:
        faults: list[Fault] = []
        return bool(sift(kind, [queue], self._policy.criteria, faults)[1])

    def _gains(
        self, kind: Kind | None = None, change: Callable[[Queue], Queue] = lambda queue: queue
    ) -> tuple[str, ...]:
        """Queues that are not open now and would be."""
        kind = kind or self._kind
        return tuple(q.name for q in self._queues if q.name not in self._open and self._takes(kind, change(q)))

    def _numbers(self) -> Iterator[Change]:
        for name, limit in (
            ("memory_mb", lambda q: q.memory_mb),
            ("cores", lambda q: q.cores),
            ("walltime_s", _longest_s),
            ("disk_mb", lambda q: q.disk_mb),
            ("gpus", lambda q: q.gpus),
        ):
            yield from self._less(name, limit)
        for name, least in (
            ("cores", lambda q: q.min_cores),
            ("memory_mb", lambda q: q.min_memory_mb),
            ("walltime_s", _shortest_s),
        ):
            yield from self._more(name, least)

    def _less(self, name: str, limit: Callable[[Queue], int]) -> Iterator[Change]:
        """The smallest step down that opens a queue; and the one that opens most, if that is twice as many."""
        asked: int = getattr(self._kind, name)
        fitting = self._at_their_limits(name, [q for q in self._queues if limit(q) < asked], limit)
        steps = sorted({value for value, _ in fitting}, reverse=True)
        opened = {step: tuple(sorted(queue for value, queue in fitting if value >= step)) for step in steps}
        for step in steps[:1] + [s for s in steps[-1:] if len(opened[s]) >= 2 * len(opened[steps[0]])]:
            say = self._instead(name, step) if step else f"ask for no {ASKED[name]}"
            yield Change(OWNER, say, opened[step])

    def _more(self, name: str, least: Callable[[Queue], int]) -> Iterator[Change]:
        asked: int = getattr(self._kind, name)
        fitting = self._at_their_limits(name, [q for q in self._queues if least(q) > asked], least)
        if fitting:
            step = min(value for value, _ in fitting)
            opened = tuple(sorted(queue for value, queue in fitting if value == step))
            yield Change(OWNER, self._instead(name, step), opened)

    def _instead(self, name: str, step: int) -> str:
        return f"ask for {amount_of(name, step)} instead of {amount(name, getattr(self._kind, name))}"

    def _at_their_limits(
        self, name: str, queues: Sequence[Queue], limit: Callable[[Queue], int]
    ) -> list[tuple[int, str]]:
        """(limit, queue) for each queue that would take the job if it asked for just so much."""
        least = 0 if name == "gpus" else 1
        found = []
        for queue in queues:
            changed: dict[str, Any] = {name: limit(queue)}
            if limit(queue) >= least and self._takes(replace(self._kind, **changed), queue):
                found.append((limit(queue), queue.name))
        return found

    def _tags(self) -> Iterator[Change]:
        for tag in sorted(self._kind.tags):
            yield Change(
                OWNER, f"do without the tag {tag}", self._gains(replace(self._kind, tags=self._kind.tags - {tag}))
            )

    def _wishes(self) -> Iterator[Change]:
        wishes = self._kind.wishes
        if wishes.wanted:
            free = replace(wishes, sites=tuple(each for each in wishes.sites if each.startswith("!")))
            say = f"let it go elsewhere than to {', '.join(wishes.wanted)}"
            yield Change(OWNER, say, self._gains(replace(self._kind, wishes=free)))
        for place in wishes.unwanted:
            kept = replace(
                wishes,
                sites=tuple(each for each in wishes.sites if each != f"!{place}"),
                exclude=tuple(each for each in wishes.exclude if each != place),
            )
            yield Change(OWNER, f"do not exclude {place}", self._gains(replace(self._kind, wishes=kept)))
        if self._kind.avoid:
            say = f"submit it again: this job was brokered away from {', '.join(self._kind.avoid)} for good"
            yield Change(OWNER, say, self._gains(replace(self._kind, avoid=())))

    def _requirements(self) -> Iterator[Change]:
        text = self._kind.wishes.requirements
        if text:
            wanted = read(text)
            for part in wanted.parts():
                wishes = replace(self._kind.wishes, requirements=wanted.without(part))
                say = f"do not require `{wanted.words(part)}`"
                yield Change(OWNER, say, self._gains(replace(self._kind, wishes=wishes)))
        yield Change(
            OPERATOR,
            "if the queue required nothing of its jobs",
            self._gains(change=lambda q: replace(q, requirements="")),
        )

    def _groups(self) -> Iterator[Change]:
        if self._kind.barred:
            free = replace(self._kind, barred="")
            yield Change(
                OPERATOR, f"let jobs of {self._kind.owner} start again: {self._kind.barred}", self._gains(free)
            )
        wishes = self._kind.wishes
        for vo in sorted({vo for queue in self._queues for vo in queue.vos} - {wishes.vo}):
            say = f"submit it for the virtual organisation {vo}"
            yield Change(OWNER, say, self._gains(replace(self._kind, wishes=replace(wishes, vo=vo))))
        for group in sorted({group for queue in self._queues for group in queue.working_groups}):
            if "*" not in group and group != wishes.working_group:
                say = f"submit it for the working group {group}"
                changed = replace(wishes, working_group=group)
                yield Change(OWNER, say, self._gains(replace(self._kind, wishes=changed)))

    def _places(self) -> Iterator[Change]:
        """Queues and storages that operators closed."""
        in_test = tuple(
            queue.name
            for queue in self._queues
            if queue.status == "test" and self._takes(self._naming(queue.name), queue) and queue.name not in self._open
        )
        if in_test:
            yield Change(OWNER, "name a queue that is in test", in_test)
        closed = {queue.status for queue in self._queues if queue.status != "online" and not queue.is_paused}
        for status in sorted(closed):
            opened = self._gains(
                change=lambda q, status=status: _opened(q, status)  # type: ignore[misc]
            )
            yield Change(OPERATOR, f"if queues that are {status} were online", opened)
        opened = self._gains(change=lambda q: replace(q, storage_status="online", write_status="online"))
        away = [(q.storage_status != "online", q.write_status != "online") for q in self._queues]
        yield Change(OPERATOR, f"if {self._storages(opened, away)} were online", opened)
        opened = self._gains(change=lambda q: replace(q, storage_full=None, write_full=None))
        full = [(q.storage_full is not None, q.write_full is not None) for q in self._queues]
        yield Change(OPERATOR, f"if {self._storages(opened, full)} had room", opened)
        opened = self._gains(change=lambda q: replace(q, overdrawn={}))
        kept = self._storages(opened, [(False, True)] * len(self._queues))
        yield Change(OWNER, f"delete datasets that are kept on {kept}", opened)

    def _storages(self, names: Sequence[str], which: Sequence[tuple[bool, bool]]) -> str:
        """The storages of the queues with these names, in words; of each queue those that `which` tells: the one it
        reads from, the one it writes to."""
        found = set[str]()
        for queue, (reads, writes) in zip(self._queues, which, strict=True):
            if queue.name in names:
                found |= {queue.storage} if reads else set()
                found |= {queue.write_storage or queue.storage} if writes else set()
        return _named("storage", sorted(found))

    def _naming(self, queue: str) -> Kind:
        return replace(self._kind, wishes=replace(self._kind.wishes, sites=(*self._kind.wishes.sites, queue)))

    def _data(self, storages_away: Away) -> Iterator[Change]:
        locality = self._kind.locality
        if locality is None:
            return
        if not locality.n_nowhere:
            yield self._brought(locality)
            return
        for storage, n_files in storages_away.offline.items():
            there = replace(locality, n_nowhere=max(0, locality.n_nowhere - n_files))
            say = f"if storage {storage}, which has {files(n_files)}, were online"
            opened = tuple(
                q.name
                for q in self._queues
                if q.name not in self._open
                and self._takes(
                    replace(self._kind, locality=there),
                    replace(q, storage_status="online") if q.storage == storage else q,
                )
            )
            yield Change(OPERATOR, say, opened)
        for storage, (n_files, planned) in storages_away.down.items():
            there = replace(locality, n_nowhere=max(0, locality.n_nowhere - n_files))
            opened = self._gains(replace(self._kind, locality=there), lambda q, d=planned: _without(q, d))  # type: ignore[misc]
            say = f"{wait_until(planned.what, planned.ends_at)}: storage {storage} has {files(n_files)}"
            yield Change(TIME, say, opened)
        if not storages_away.offline and not storages_away.down:
            without = replace(self._kind, locality=replace(locality, n_nowhere=0))
            yield Change(OWNER, f"bring back the {files(locality.n_nowhere)} that no storage has", self._gains(without))

    def _brought(self, locality: Locality) -> Change:
        """Queues that are refused for what would have to be brought."""
        opened = [
            queue
            for queue in self._queues
            if queue.name not in self._open
            and self._takes(replace(self._kind, locality=replace(locality, tenths=((queue.storage, 10),))), queue)
        ]
        storages = sorted({queue.storage for queue in opened})
        where = _named("storage", storages) if len(storages) == 1 else f"one of {_named('storage', storages)}"
        return Change(OWNER, f"have all of its input brought to {where} first", tuple(q.name for q in opened))

    def _downtimes(self) -> Iterator[Change]:
        found = {queue.downtime for queue in self._queues if queue.downtime is not None}
        for planned in sorted(found, key=lambda each: (each.ends_at, each.what)):
            opened = self._gains(change=lambda q, planned=planned: _without(q, planned))  # type: ignore[misc]
            yield Change(TIME, wait_until(planned.what, planned.ends_at), opened)

    def _caps(self) -> Iterator[Change]:
        """Limits of jobs that may run at a queue, or at a site."""
        opened = self._gains(change=lambda q: replace(q, max_running=0))
        yield Change(OPERATOR, f"raise the cap of {_named('queue', opened)}", opened)
        for site, cap in sorted({(q.site, q.site_max_running) for q in self._queues if q.site_max_running}):
            opened = self._gains(
                change=lambda q, site=site: replace(q, site_max_running=0) if q.site == site else q  # type: ignore[misc]
            )
            yield Change(OPERATOR, f"raise the cap of site {site}, {cap} at once", opened)

    def _room(self) -> Iterator[Change]:
        opened = self._gains(change=lambda q: replace(q, load=Load(n_pilots=q.load.n_pilots), site_loads=()))
        yield Change(TIME, "wait until there is room", opened)


def _opened(queue: Queue, status: str) -> Queue:
    """The queue, online if it has this status; a pause is another thing."""
    return replace(queue, status="online") if queue.status == status and not queue.is_paused else queue


def _without(queue: Queue, planned: Planned) -> Queue:
    """The queue after a downtime."""
    is_it = queue.downtime is not None and queue.downtime.what == planned.what
    return replace(queue, downtime=None) if is_it else queue


def wait_until(what: str, ends_at: datetime) -> str:
    """Advice for who waits for the end of the downtime of `what`, e.g. `site NORTH`."""
    return f"wait until the downtime of {what} ends, {ends_at:%Y-%m-%d %H:%M} UTC"


def _longest_s(queue: Queue) -> int:
    """The wall time of the longest job that a queue takes, and that ends before it goes into downtime."""
    wall_s = float(queue.walltime_s)
    if queue.downtime is not None and queue.downtime.starts_in_s > 0:
        wall_s = min(wall_s, queue.downtime.starts_in_s)
    return int(wall_s * queue.corepower / REFERENCE_COREPOWER)


def _shortest_s(queue: Queue) -> int:
    """The wall time of the shortest job that a queue takes."""
    return math.ceil(queue.min_walltime_s * queue.corepower / REFERENCE_COREPOWER)


def files(n: int) -> str:
    """So many input files, in words."""
    return counted(n, "input file")


def _named(kind: str, names: Sequence[str]) -> str:
    shown = ", ".join(names[:NAMED]) + (", …" if len(names) > NAMED else "")
    return f"{kind} {shown}" if len(names) == 1 else f"the {kind}s {shown}"
