"""Queues and kinds of jobs to decide about."""

from typing import Any

from panda.brokerage.subjects import Kind, Load, Locality, Queue, Wishes


def a_queue(name: str = "Q", **facts: Any) -> Queue:
    """An open queue of one node's size; `load` is its own."""
    known = {
        "site": "S", "status": "online", "status_reason": "", "storage": "DISK", "storage_status": "online",
        "cores": 8, "memory_mb": 16_000, "disk_mb": 10_000, "walltime_s": 86_400, "tags": frozenset({"linux"}),
        "submitter": "local", "max_ready": 0,
    }  # fmt: skip
    return Queue(name=name, **({"load": Load()} | known | facts))


def a_kind(**facts: Any) -> Kind:
    """A small job without inputs."""
    known = {
        "shape_id": 1, "share": "default", "owner": "alice", "cores": 1, "memory_mb": 2_000, "disk_mb": 1_000,
        "walltime_s": 3_600, "tags": frozenset(), "wishes": Wishes(), "locality": None,
    }  # fmt: skip
    return Kind(**(known | facts))


def wishes(**said: Any) -> Wishes:
    """What a job set says; lists become tuples."""
    return Wishes(**{name: tuple(value) if isinstance(value, list) else value for name, value in said.items()})


def at(storage: str, tenths: int, size_mb: int = 0) -> Locality:
    """Inputs of so many MB of which so many tenths are at a storage."""
    return Locality(0, ((storage, tenths),), size_mb)
