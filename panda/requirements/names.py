"""What a requirement may speak of: properties of the job and of the queue, each of a type.

Brokerage gives the values (`panda.brokerage.subjects`). A name that is added here must get its value there.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple


class Type(StrEnum):
    """What a value is. The types of a requirement are known before it is ever asked."""

    NUMBER = "a number"
    TEXT = "a text"
    FLAG = "true or false"
    TEXTS = "a list of texts"


class Name(NamedTuple):
    """A property, its type and what it means."""

    type: Type
    about: str


NAMES: Mapping[str, Name] = MappingProxyType(
    {
        "job.cores": Name(Type.NUMBER, "cores that it needs"),
        "job.memory_mb": Name(Type.NUMBER, "memory of all its cores together, in MB"),
        "job.memory_mb_per_core": Name(Type.NUMBER, "the same for one core"),
        "job.disk_mb": Name(Type.NUMBER, "scratch disk, in MB"),
        "job.walltime_s": Name(Type.NUMBER, "wall time on a core of power 10, in seconds"),
        "job.gpus": Name(Type.NUMBER, "GPUs"),
        "job.tags": Name(Type.TEXTS, "tags that a queue must offer"),
        "job.input_mb": Name(Type.NUMBER, "its input files together, rounded up to a power of two, in MB; 0 below 64"),
        "job.share": Name(Type.TEXT, "the share that pays"),
        "job.kind": Name(Type.TEXT, "`analysis`, `production` or another word of the job set"),
        "job.vo": Name(Type.TEXT, "virtual organisation; empty: none was named"),
        "job.working_group": Name(Type.TEXT, "working group; empty: none was named"),
        "job.owner": Name(Type.TEXT, "who submitted it"),
        "queue.name": Name(Type.TEXT, "its name"),
        "queue.site": Name(Type.TEXT, "its site"),
        "queue.cloud": Name(Type.TEXT, "the cloud of its site"),
        "queue.storage": Name(Type.TEXT, "where its files are"),
        "queue.cores": Name(Type.NUMBER, "cores of a node"),
        "queue.memory_mb": Name(Type.NUMBER, "memory of a node, in MB"),
        "queue.memory_mb_per_core": Name(Type.NUMBER, "the same for one core"),
        "queue.disk_mb": Name(Type.NUMBER, "scratch disk of a node, in MB"),
        "queue.walltime_s": Name(Type.NUMBER, "the longest job, in seconds"),
        "queue.gpus": Name(Type.NUMBER, "GPUs of a node"),
        "queue.corepower": Name(Type.NUMBER, "power of a core; 10 is the one that wall times are meant for"),
        "queue.tags": Name(Type.TEXTS, "tags that it offers"),
        "queue.waiting": Name(Type.NUMBER, "jobs that wait there"),
        "queue.running": Name(Type.NUMBER, "jobs that run there"),
        "queue.pilots": Name(Type.NUMBER, "pilots that asked there in the last ten minutes"),
    }
)
