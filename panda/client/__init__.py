"""The Python client: PanDA over HTTP, and nothing else of PanDA.

    from panda.client import Client

    client = Client.from_env()
    accepted = client.submit({"name": "skim", "template": {"command": ["python", "skim.py"], "count": 10}})
    waited = client.wait(jobsets=[accepted.jobset_id], timeout_s=3600)

It imports no other part of PanDA, and httpx, rich or a database driver not at all: a notebook or a
batch node loads it in a few hundredths of a second.
"""

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
from panda.client.replies import (
    Accepted,
    Affected,
    Attempt,
    Dataset,
    DatasetFile,
    Job,
    JobEvent,
    JobFile,
    JobLog,
    JobSet,
    Ledger,
    Verdict,
    Why,
)
from panda.client.sandbox import Sandbox
from panda.client.waiting import Waited

__all__ = [
    "Accepted",
    "Affected",
    "Attempt",
    "ChecksumMismatch",
    "Client",
    "ClientError",
    "Conflict",
    "Dataset",
    "DatasetFile",
    "Forbidden",
    "Invalid",
    "Job",
    "JobEvent",
    "JobFile",
    "JobLog",
    "JobSet",
    "Ledger",
    "NotFound",
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
