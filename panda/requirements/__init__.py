"""Requirements: what a job asks of a queue, and a queue of a job, in a small language of their own.

    queue.memory_mb >= 2 * job.memory_mb and "avx2" in queue.tags

`read` turns a text into a typed tree, or says at which column it cannot be meant; `Requirement.unmet` asks it
about one job and one queue. There are no loops, no calls and no names but those of `names`, and an answer looks
at each node of the tree once: it always ends, after at most `MAX_NODES` steps. Pure; nothing is ever evaluated
as code.
"""

from panda.requirements.names import NAMES, Name, Type
from panda.requirements.problems import BadRequirement
from panda.requirements.reading import MAX_DEPTH, MAX_LENGTH, MAX_NODES, read
from panda.requirements.requirement import Requirement

__all__ = [
    "MAX_DEPTH",
    "MAX_LENGTH",
    "MAX_NODES",
    "NAMES",
    "BadRequirement",
    "Name",
    "Requirement",
    "Type",
    "read",
]
