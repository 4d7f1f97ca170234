"""What the server sends, as the pilot reads it; the contract is `panda/api/schemas.py`.

Readers take the fields they know and ignore others, so an older pilot understands a newer
server. What the pilot sends is plain dicts, built where they are sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Tuple


@dataclass(frozen=True)
class Input:
    """A file that must be in the work folder, as `lfn`, before the payload starts."""

    lfn: str
    size_bytes: int
    adler32: str
    url: str
    direct: bool = False
    """The payload reads it at `url`; nothing is copied."""


@dataclass(frozen=True)
class Place:
    """A storage by its name, and the URL of one file there."""

    storage: str
    url: str


@dataclass(frozen=True)
class Output:
    """A file that the payload writes as `lfn` and the pilot copies to `url`, or else to one of `alternatives`."""

    lfn: str
    url: str
    alternatives: Tuple[Place, ...] = ()


@dataclass(frozen=True)
class PilotJob:
    """One attempt of a job, as the server describes it. MB are 10^6 bytes."""

    panda_id: int
    attempt_nr: int
    token: str
    command: List[str]
    env: Dict[str, str]
    sandbox: Optional[str]
    cores: int
    memory_mb: int
    disk_mb: int
    walltime_s: int
    inputs: List[Input]
    outputs: List[Output]
    gpus: int = 0  #: an older server does not say

    @classmethod
    def read(cls, message: Dict[str, Any]) -> PilotJob:
        """Raises KeyError, TypeError or ValueError if the message is not a job."""
        return cls(
            panda_id=int(message["panda_id"]),
            attempt_nr=int(message["attempt_nr"]),
            token=str(message["token"]),
            command=[str(word) for word in message["command"]],
            env={str(name): str(value) for name, value in message["env"].items()},
            sandbox=message["sandbox"],
            cores=int(message["cores"]),
            memory_mb=int(message["memory_mb"]),
            disk_mb=int(message["disk_mb"]),
            walltime_s=int(message["walltime_s"]),
            inputs=[
                Input(i["lfn"], i["size_bytes"], i["adler32"], i["url"], bool(i.get("direct")))
                for i in message["inputs"]
            ],
            outputs=[
                Output(o["lfn"], o["url"], tuple(Place(p["storage"], p["url"]) for p in o.get("alternatives", ())))
                for o in message["outputs"]
            ],
            gpus=int(message.get("gpus", 0)),
        )


@dataclass(frozen=True)
class AcquireReply:
    """Jobs (perhaps none), and how often and how long the server wants to hear of them."""

    jobs: List[PilotJob]
    heartbeat_s: float
    lease_s: float

    @classmethod
    def read(cls, message: Dict[str, Any]) -> AcquireReply:
        """Raises as `PilotJob.read` does."""
        return cls(
            jobs=[PilotJob.read(job) for job in message["jobs"]],
            heartbeat_s=float(message["heartbeat_s"]),
            lease_s=float(message["lease_s"]),
        )


@dataclass(frozen=True)
class Result:
    """The server's answer about one job of an update or a heartbeat."""

    panda_id: int
    attempt_nr: int
    outcome: str
    command: Optional[str]

    @classmethod
    def read_all(cls, message: Dict[str, Any]) -> List[Result]:
        """The results of an UpdateReply or a HeartbeatReply."""
        return [cls(r["panda_id"], r["attempt_nr"], r["outcome"], r.get("command")) for r in message["results"]]
