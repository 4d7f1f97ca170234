"""The Python client: PanDA over HTTP, and nothing else of PanDA.

    from panda.client import Client

    client = Client.from_env()
    accepted = client.submit({"name": "skim", "template": {"command": ["python", "skim.py"], "count": 10}})
    waited = client.wait(jobsets=[accepted.jobset_id], timeout_s=3600)

`AsyncClient` has the same verbs for asyncio.

It imports no other part of PanDA, and httpx, rich or a database driver not at all: a notebook or a
batch node loads it in a few hundredths of a second.
"""

from typing import TYPE_CHECKING, Any

from panda.client.actions import Action, Preview
from panda.client.client import Client
from panda.client.errors import (
    ChecksumMismatch,
    ClientError,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    ServerError,
    TooLarge,
    Unauthenticated,
    Unavailable,
    WaitTimeout,
)
from panda.client.events import JobMoved
from panda.client.pages import Pages
from panda.client.replies import (
    Accepted,
    Affected,
    Ahead,
    Attempt,
    Change,
    Dataset,
    DatasetFile,
    Estimate,
    Job,
    JobEvent,
    JobFile,
    JobLog,
    JobSet,
    JobSetWhy,
    Ledger,
    PilotWhy,
    Verdict,
    Why,
)
from panda.client.sandbox import Sandbox
from panda.client.waiting import Waited

if TYPE_CHECKING:
    from panda.client.aio import AsyncClient

__all__ = [
    "Accepted",
    "Action",
    "Affected",
    "Ahead",
    "AsyncClient",
    "Attempt",
    "Change",
    "ChecksumMismatch",
    "Client",
    "ClientError",
    "Conflict",
    "Dataset",
    "DatasetFile",
    "Estimate",
    "Forbidden",
    "Invalid",
    "Job",
    "JobEvent",
    "JobFile",
    "JobLog",
    "JobMoved",
    "JobSet",
    "JobSetWhy",
    "Ledger",
    "NotFound",
    "Pages",
    "PilotWhy",
    "Preview",
    "Sandbox",
    "ServerError",
    "TooLarge",
    "Unauthenticated",
    "Unavailable",
    "Verdict",
    "WaitTimeout",
    "Waited",
    "Why",
]


def __getattr__(name: str) -> Any:
    """AsyncClient is loaded when it is asked for: asyncio costs more than all the rest."""
    if name == "AsyncClient":
        from panda.client.aio import AsyncClient

        return AsyncClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
