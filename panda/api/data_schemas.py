"""What /v1/transfers, /v1/links, and the life of datasets and files look like on the wire."""

from datetime import datetime
from typing import Annotated

from msgspec import Meta

from panda.words import Name, Reply, Request


class KeepRequest(Request, kw_only=True):
    """PUT /v1/datasets/{did}/lifetime"""

    lifetime_s: Annotated[float, Meta(gt=0, le=3_200_000_000)] | None = None
    """Seconds from now until it is deleted; null: never."""
    pinned: bool = False
    """Whether it is kept whatever else is said."""


class MembersRequest(Request, kw_only=True):
    """POST /v1/datasets/{did}/members"""

    datasets: Annotated[list[Name], Meta(min_length=1, max_length=1_000)]


class DatasetRule(Reply, kw_only=True):
    """A storage that all files of a dataset are wanted on."""

    storage: str
    made_by: str
    created_at: datetime
    n_lacking: int
    """Files that the last look found lacking, or the one under way so far."""
    error: str | None
    done_at: datetime | None
    """When all of it was there, and nothing joined it any more."""


class JobSetPart(Reply, kw_only=True):
    """A part of a job set's data. Numbers are null where they are not kept."""

    role: str
    """`input`; `dispatch`: brought to a site for its jobs; `output`; `destination`: shipped where the set wants it."""
    dataset: str | None
    storage: str | None
    status: str | None
    n_files: int | None
    size_bytes: int | None
    """Of `dispatch` and `destination`: in at most 50,000 transfers, which are remembered for a week after their end."""
    n_there: int | None
    n_moving: int | None
    n_failed: int | None


class LineageFile(Reply, kw_only=True):
    dataset: str
    lfn: str
    file_id: int | None


class LineageJob(Reply, kw_only=True):
    panda_id: int
    status: str | None
    jobset_id: int | None
    owner: str | None


class FileLineage(Reply, kw_only=True):
    """What made a file, and what read it."""

    file_id: int
    panda_id: int | None
    """The job that wrote it; None: a person put it."""
    attempt_nr: int | None
    created_at: datetime
    made_from: list[LineageFile]
    """Inputs of that job."""
    read_by: list[LineageJob]
    """Jobs that have it as an input, the newest 500."""


class StorageQuota(Reply, kw_only=True):
    """How much somebody may keep, and does."""

    quota: str
    owners: list[str]
    """Whom it concerns; names may hold `*`."""
    storages: list[str]
    """Where it counts; names may hold `*`."""
    each: bool
    """Every one of them has as much; otherwise all together."""
    limit_bytes: int
    owner: str | None
    """Whose use this is; None: that of all together, or nobody's yet."""
    used_bytes: int


class Transfer(Reply, kw_only=True):
    """A file on its way to a storage, or one that has ended."""

    transfer_id: int
    status: str
    dataset: str
    lfn: str
    size_bytes: int
    source: str | None
    """The storage that it comes from, once one is chosen."""
    destination: str
    tries: int
    n_waiting: int
    """Jobs that wait for it, counted up to 1,000."""
    error: str | None
    held_because: str | None
    """Why it does not move although it could: no room at its destination, or a quota. None: nothing holds it."""
    owner: str | None
    """Who keeps what arrives; None: it is a copy for jobs."""
    due_at: datetime
    created_at: datetime
    ended_at: datetime | None


class LinkLoad(Reply, kw_only=True):
    """The way from one storage to another, as it is used now."""

    source: str | None
    """None: transfers that no storage was chosen for yet."""
    destination: str
    n_queued: int
    n_moving: int
    n_done: int
    """In the last ten minutes, as are the following."""
    n_failed: int
    bytes_done: int
    bytes_per_s: float
