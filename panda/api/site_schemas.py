"""What places look like on the wire: /v1/sites, /v1/queues, /v1/storages, and the versions of what is known of them."""

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import Meta

from panda.words import Name, Reply, Request, Text

#: An instant with its time zone.
When = Annotated[datetime, Meta(tz=True)]


class Site(Reply, kw_only=True):
    name: str
    cloud: str
    description: str
    max_running: int
    """Jobs that may run at once at all its queues; 0: any number."""


class Storage(Reply, kw_only=True):
    name: str
    site: str
    kind: str
    stager: str
    """What brings files online, if it is a tape; empty: they always are."""
    root: str
    status: str
    max_transfers: int
    """That may read from it or write to it at once; 0: any number."""
    limit_mb: int
    """What we may keep there; 0: as much as fits."""
    keep_free_mb: int
    """Of what the storage says is free, so much stays free."""
    used_bytes: int
    """What lies there, copies for jobs included."""
    free_bytes: int | None
    """What the storage says is free; null: it does not tell."""
    total_bytes: int | None
    room_bytes: int | None
    """What may still come; null: nobody knows of a limit."""
    full_because: str | None
    """Why nothing more comes; null: it has room."""
    ask_error: str | None
    """Why it could not be asked how much is free."""


class Queue(Reply, kw_only=True):
    name: str
    site: str
    cloud: str
    status: str
    status_reason: str
    status_by: str
    """Who set it; empty: nobody did since it was made."""
    status_rule: str
    """The rule that set it; empty: no rule did."""
    status_at: datetime
    status_until: datetime | None
    """When it goes over to `status_then` by itself; null: never."""
    status_then: str | None
    removed_at: datetime | None
    """When its end was asked for; it goes once no job speaks of it."""
    storage: str
    """Inputs are brought here."""
    read_storages: list[str]
    """Further ones that its nodes can read."""
    write_storage: str
    """Outputs are written here."""
    second_storage: str
    """Outputs go here if the one before does not take them; empty: nowhere else."""
    direct_read: bool
    """Jobs that ask for it get the addresses of their inputs instead of copies."""
    cores: int
    memory_mb: int
    disk_mb: int
    walltime_s: int
    min_cores: int
    """Jobs that need less are not for it; 0: none is too small."""
    min_memory_mb: int
    min_walltime_s: int
    corepower: float
    """How fast a core is, in HS23."""
    architecture: str
    gpus: int
    gpu_model: str
    software: list[str]
    containers: list[str]
    tags: list[str]
    offers: list[str]
    """`tags`, and what it is as tags: everything that a job may ask for."""
    vos: list[str]
    """Empty: all. The same for `working_groups`."""
    working_groups: list[str]
    requirements: str
    """What it asks of jobs."""
    submitter: str
    max_pilots: int
    pilot_cores: int
    pilot_options: list[str]
    parameters: dict[str, str]
    """For upstream's pilots."""
    max_ready: int
    """Jobs that may be assigned or activated here at once; 0: any number."""
    max_running: int


class Asks(Reply, kw_only=True):
    """Asks of pilots that ended in one way."""

    outcome: str
    """`got`, `offline`, `paused`, `quicker`, `nothing_ready`, `nothing_fits`, `over_quota`."""
    n: int
    last_at: datetime


class Mismatch(Reply, kw_only=True):
    """What pilots had too little of for jobs of one shape."""

    what: str
    """`cores`, `memory_mb`, `disk_mb`, `walltime_s`, `gpus` or `tags`."""
    n: int
    """Asks."""
    needed: int | None
    """So much of it; null for tags."""
    most: int
    """The most that any of these pilots had."""
    last_at: datetime
    cores: int
    """What such jobs need, as the following."""
    memory_mb: int
    disk_mb: int
    walltime_s: int
    gpus: int
    tags: list[str]


class QueueMismatches(Reply, kw_only=True):
    """GET /v1/queues/{name}/mismatches; of the last 24 hours"""

    queue: str
    asks: list[Asks]
    mismatches: list[Mismatch]


class QueueStatusRequest(Request, kw_only=True):
    """POST /v1/queues/{name}/status"""

    status: Name
    reason: Text
    until: When | None = None
    """When it goes over to `then` by itself; none: it stays."""
    then: Name | None = None
    """Without it: the status that it had before, or `online` if that is the same."""
    tried: bool = False
    """Only with `test`: test jobs are sent, and when enough succeed it goes online."""


class QueueStatusSet(Reply, kw_only=True):
    queue: str
    status: str
    n_woken: int
    """Waiting jobs that brokerage looks at again at once; the others follow."""


class QueueRemoveRequest(Request, kw_only=True):
    """POST /v1/queues/{name}/remove"""

    reason: Text


class QueueRemoved(Reply, kw_only=True):
    queue: str
    n_live: int
    """Jobs under way there."""


class Downtime(Reply, kw_only=True):
    """A time in which a place is not to be used."""

    name: str
    kind: str
    """site, queue or storage"""
    target: str
    starts_at: datetime
    ends_at: datetime
    reason: str
    made_by: str
    made_at: datetime
    status: str
    """planned, now or over"""


class DowntimeRequest(Request, kw_only=True):
    """POST /v1/downtimes"""

    kind: Literal["site", "queue", "storage"]
    target: Name
    starts_at: When | None = None
    """None: now."""
    ends_at: When
    reason: Text
    name: Annotated[str, Meta(max_length=250)] = ""
    """None: one is made."""


class DowntimeChangeRequest(Request, kw_only=True):
    """POST /v1/downtimes/{name}"""

    starts_at: When | None = None
    """None: as it is. The same for `ends_at`."""
    ends_at: When | None = None
    reason: Text


class DowntimeCancelRequest(Request, kw_only=True):
    """POST /v1/downtimes/{name}/cancel"""

    reason: Text


class SiteRule(Reply, kw_only=True):
    """A rule by which queues and nodes are taken out, or come back."""

    name: str
    of: str
    """queues, nodes or tests"""
    settings: dict[str, Any]
    where: str
    """The file that it stands in."""
    n_acted: int
    """In the last 90 days."""
    acted_at: datetime | None


class SiteRuleAct(Reply, kw_only=True):
    """What a rule did."""

    act_id: int
    at: datetime
    rule: str
    queue: str
    node: str
    """Empty: it was about the queue."""
    did: str
    """The status that the queue got, or `taken out`."""
    is_passive: bool
    """It only told what it would have done."""
    because: str


class SiteVersion(Reply, kw_only=True):
    """A change of what is known of places."""

    version_id: int
    at: datetime
    who: str
    """Empty: it was changed past us, and is written down as it was found."""
    source: str
    """file, http, import, collector, clock, rule, rollback or found."""
    why: str
    n_changed: int
    """Things that are different."""
    names: list[str]
    """Of the first 20 of them."""
    request_id: str | None


class SiteChange(Reply, kw_only=True):
    """One difference."""

    kind: str
    """site, storage, link, queue or downtime"""
    name: str
    change: str
    """added, removed or changed"""
    field: str | None
    """null: the whole thing, whose document stands in `now` or in `was`."""
    was: Any
    now: Any


class SiteChanges(Reply, kw_only=True):
    """Differences. `version_id` is null where nothing is different, or nothing was written down."""

    version_id: int | None
    changes: list[SiteChange]


class SiteImportRequest(Request, kw_only=True):
    """POST /v1/site-imports"""

    documents: Annotated[list[dict[str, Any]], Meta(min_length=1, max_length=20)]
    """Each of the shape of `sites.toml`, or CRIC's: queues, or storages, by name. What they do not say of a thing
    that there is stays as it is."""
    reason: Text
    status: bool = False
    """Set the status of queues that there are, too; a new one has the status that is said in any case."""
    dry_run: bool = False
    """Tell what would be different, and change nothing."""


class SiteImported(SiteChanges, kw_only=True):
    """What an import changed."""

    n_things: int
    """That the documents speak of."""
    inactive: list[str]
    """Names that were left aside, because the documents call them inactive."""


class SiteVersionChanges(Reply, kw_only=True):
    """A version with what it changed."""

    version: SiteVersion
    changes: list[SiteChange]


class SiteRolledBack(SiteChanges, kw_only=True):
    """What a rollback changed."""

    kept: list[str]
    """Sites and storages that were not known then; they stay, since files may lie there."""


class RollbackRequest(Request, kw_only=True):
    """POST /v1/site-versions/{version_id}/rollback"""

    reason: Text
    names: Annotated[list[Name], Meta(max_length=500)] = []
    """Only these things; none: all."""
    status: bool = False
    """Roll back the status of queues and storages too."""
    dry_run: bool = False
    """Tell what would be different, and change nothing."""
