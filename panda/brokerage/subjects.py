"""What brokerage decides about: queues with their load, and kinds of jobs. Pure; `snapshot` fills them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import fnmatchcase
from typing import NamedTuple

from panda.requirements.tree import Value

#: Inputs that are smaller together are brought in no time that matters, in MB.
SMALL_MB = 64
#: A queue that starts nothing for so long is taken to be out of order, in seconds.
STALLED_S = 900
#: Distances that no link says (as transfers reckon, `dataservice.admission`): within a cloud, and to anywhere else.
NEAR, FARTHEST = 10, 20


@dataclass
class Load:
    """Jobs at a queue by status, and pilots that asked there lately. Grows while a pass deals jobs out."""

    assigned: int = 0
    activated: int = 0
    starting: int = 0
    running: int = 0
    n_pilots: int = 0
    starts: int | None = None
    """Jobs that started in the last hour; None: nothing is known of the last two."""
    stalled_s: float = 0.0
    """Seconds for which jobs have been ready here, or had been when somebody looked, and none started; 0: pilots come,
    or nothing waited in vain."""

    @property
    def waiting(self) -> int:
        """Jobs that have the queue and do not run yet."""
        return self.assigned + self.activated + self.starting


@dataclass(frozen=True)
class Planned:
    """The downtime that a queue is in, else the next one."""

    what: str
    """`site NORTH`, `queue NORTH-Q` or `storage NORTH-DISK`."""
    starts_in_s: float
    """Seconds until it begins; it has, if that is not above 0."""
    ends_at: datetime
    reason: str = ""


@dataclass(frozen=True)
class Away:
    """Storages that cannot be read now, with the number of a job's inputs that they have and nobody who can be."""

    offline: Mapping[str, int] = field(default_factory=dict)
    down: Mapping[str, tuple[int, Planned]] = field(default_factory=dict)
    """In downtime, or their site is."""


@dataclass(frozen=True)
class Geography:
    """How far it is from storages to sites. A site is 0 from itself, `NEAR` to others of its cloud, else `FARTHEST`, if
    no link says otherwise."""

    places: Mapping[str, tuple[str, str]]
    """Site and cloud of each storage."""
    links: Mapping[tuple[str, str], int]
    """Distance by site and site."""
    tapes: frozenset[str] = frozenset()
    """Storages whose files have to be brought online before they can be moved."""

    def distance(self, storage: str, site: str, cloud: str) -> int:
        """From a storage to a site of a cloud."""
        source, source_cloud = self.places.get(storage, ("", ""))
        known = self.links.get((source, site))
        if known is not None:
            return known
        if source == site:
            return 0
        return NEAR if source_cloud == cloud else FARTHEST


@dataclass(frozen=True, kw_only=True)
class Queue:
    """A queue as brokerage sees it."""

    name: str
    site: str
    cloud: str = ""
    status: str
    status_reason: str
    status_rule: str = ""
    """The rule that set the status; empty: no rule did."""
    is_paused: bool = False
    """An operator paused brokerage here, so `status` is not what the queue's is."""
    storage: str
    storage_status: str
    cores: int
    memory_mb: int
    disk_mb: int
    walltime_s: int
    tags: frozenset[str]
    submitter: str
    max_ready: int
    """Jobs that may be assigned or activated here at once; 0: any number."""
    requirements: str = ""
    """What it asks of jobs (`panda.requirements`)."""
    min_cores: int = 0
    """Jobs that need less belong elsewhere. The same for the two below; 0: none is too small."""
    min_memory_mb: int = 0
    min_walltime_s: int = 0
    corepower: float = 10.0
    """How fast a core is, in HS23; wall times are meant for a core of 10."""
    gpus: int = 0
    vos: frozenset[str] = frozenset()
    """Virtual organisations that may use it; empty: all. The same for working groups, as patterns."""
    working_groups: tuple[str, ...] = ()
    max_running: int = 0
    """Jobs that may run here at once; 0: any number."""
    site_max_running: int = 0
    """The same of all queues of its site together."""
    site_loads: tuple[Load, ...] = field(default=(), compare=False)
    """Of all queues of its site, its own among them, where the site has such a limit."""
    storage_full: str | None = None
    """Why the storage takes nothing more; None: it does. `write_full`: the same of the one that outputs go to."""
    write_storage: str = ""
    write_status: str = "online"
    write_full: str | None = None
    overdrawn: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Owners that may keep nothing more on the storage for outputs, and why."""
    downtime: Planned | None = None
    read_storages: tuple[str, ...] = ()
    """Storages that its nodes read beside its own."""
    geography: Geography | None = field(default=None, compare=False)
    """None: nobody needs it, since no job of the pass has inputs."""
    load: Load = field(compare=False)

    @property
    def reads(self) -> tuple[str, ...]:
        """Storages whose files need not be brought."""
        return (self.storage, *self.read_storages)

    @property
    def is_stalled(self) -> bool:
        """Jobs wait here for pilots in vain."""
        return self.load.stalled_s >= STALLED_S

    @property
    def site_waiting(self) -> int:
        """Jobs that have a queue of the site and do not run yet."""
        return sum(load.waiting for load in self.site_loads)

    def is_named(self, patterns: tuple[str, ...]) -> bool:
        """Whether one of `patterns` means this queue, its site or its cloud; `*` stands for any letters."""
        return any(fnmatchcase(name, each) for each in patterns for name in (self.name, self.site, self.cloud))


@dataclass(frozen=True)
class Wishes:
    """What a job set says of all its jobs; `sites`, `exclude` and `prefer` are patterns over names of sites,
    queues and clouds, and a `!` before one in `sites` excludes."""

    sites: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    prefer: tuple[str, ...] = ()
    requirements: str = ""
    is_test: bool = False
    """These jobs try queues, and go to those in test too."""
    kind: str = "analysis"
    vo: str = ""
    working_group: str = ""

    @property
    def wanted(self) -> tuple[str, ...]:
        """Patterns of which one must fit; empty: anything does."""
        return tuple(each for each in self.sites if not each.startswith("!"))

    @property
    def unwanted(self) -> tuple[str, ...]:
        """Patterns of which none may fit."""
        return self.exclude + tuple(each[1:] for each in self.sites if each.startswith("!"))


class Way(NamedTuple):
    """A part of the inputs that would have to be brought."""

    distance: int
    tenths: int
    is_tape: bool = False


@dataclass(frozen=True)
class Locality:
    """Where the inputs of a job are, coarse enough that jobs of one dataset look alike."""

    n_nowhere: int = 0
    """Input files without a replica on a storage that is online and not in downtime."""
    tenths: tuple[tuple[str, int], ...] = ()
    """Storage and the tenths of the input bytes there, by name; storages with less than one left out."""
    size_mb: int = 0
    """All input bytes, in MB, rounded up to a power of two; 0: less than `SMALL_MB`."""

    def tenths_at(self, storages: Collection[str]) -> int:
        """Tenths of the input bytes that are at one of `storages`, 0 to 10. What two of them have counts twice."""
        return min(10, sum(n for storage, n in self.tenths if storage in storages))

    def fraction_at(self, storages: Collection[str]) -> float:
        """The same from 0 to 1."""
        return self.tenths_at(storages) / 10

    def missing_mb(self, storages: Collection[str]) -> float:
        """MB that would have to be brought where these storages can be read."""
        return self.size_mb * (1 - self.fraction_at(storages))

    def ways(self, queue: Queue) -> list[Way]:
        """What would have to be brought to a queue, as transfers choose: from disks first, the nearest one first, then
        from tapes; what is at none of the others is taken to come from the farthest of them."""
        missing = 10 - self.tenths_at(queue.reads)
        if not missing or queue.geography is None:
            return [Way(FARTHEST, missing)] if missing else []
        map_ = queue.geography
        found: list[Way] = []
        others = sorted(
            (storage in map_.tapes, map_.distance(storage, queue.site, queue.cloud), storage, n)
            for storage, n in self.tenths
            if storage not in queue.reads
        )
        for is_tape, distance, _, n in others:
            taken = min(missing, n)
            if taken:
                found.append(Way(distance, taken, is_tape))
            missing -= taken
        if not missing:
            return found
        is_tape, distance = others[-1][:2] if others else (False, FARTHEST)
        return [*found, Way(distance, missing, is_tape)]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What makes jobs equal to brokerage: every one of them may go where any other may."""

    shape_id: int
    share: str
    owner: str = ""
    cores: int
    memory_mb: int
    disk_mb: int
    walltime_s: int
    gpus: int = 0
    tags: frozenset[str]
    wishes: Wishes
    locality: Locality | None
    """None: a job without inputs."""
    writes: bool = False
    """It has outputs."""
    avoid: tuple[str, ...] = ()
    """Patterns of sites and queues that it was brokered away from for good."""
    barred: str = ""
    """Why nothing of its owner is started, whatever is free: a ban, or core hours that are used up; empty: it is."""
    came_from: str = ""
    """The queue that it had before; empty: none."""


@dataclass
class JobGroup:
    """Equal jobs, PandaIDs ascending."""

    kind: Kind
    panda_ids: list[int] = field(default_factory=list)
    waited_s: list[float] = field(default_factory=list)
    jobset_ids: set[int] = field(default_factory=set)


def values_of(kind: Kind, queue: Queue) -> dict[str, Value]:
    """What a requirement may ask about, by the names of `panda.requirements.NAMES`."""
    wishes = kind.wishes
    return {
        "job.cores": kind.cores,
        "job.memory_mb": kind.memory_mb,
        "job.memory_mb_per_core": kind.memory_mb / kind.cores,
        "job.disk_mb": kind.disk_mb,
        "job.walltime_s": kind.walltime_s,
        "job.gpus": kind.gpus,
        "job.tags": kind.tags,
        "job.input_mb": kind.locality.size_mb if kind.locality is not None else 0,
        "job.share": kind.share,
        "job.kind": wishes.kind,
        "job.vo": wishes.vo,
        "job.working_group": wishes.working_group,
        "job.owner": kind.owner,
        "queue.name": queue.name,
        "queue.site": queue.site,
        "queue.cloud": queue.cloud,
        "queue.storage": queue.storage,
        "queue.cores": queue.cores,
        "queue.memory_mb": queue.memory_mb,
        "queue.memory_mb_per_core": queue.memory_mb / queue.cores,
        "queue.disk_mb": queue.disk_mb,
        "queue.walltime_s": queue.walltime_s,
        "queue.gpus": queue.gpus,
        "queue.corepower": queue.corepower,
        "queue.tags": queue.tags,
        "queue.waiting": queue.load.waiting,
        "queue.running": queue.load.running,
        "queue.pilots": queue.load.n_pilots,
    }
