"""Wrong clocks: with every second seed, each kind of process believes in a time of its own.

No time of a process may decide anything (law 16). What cannot be done on one machine without another's clock is done
inside of Python: `skew/sitecustomize.py`, which is on the path of the lab's processes alone, moves `time.time()`.
Kombu gives messages out again by it, so with such a seed live messages come twice and more.
"""

import os
from collections.abc import Mapping
from pathlib import Path

#: Hours by which the clock of a process whose command line holds this word is ahead.
HOURS: Mapping[str, float] = {"granian": 1.0, "stages@": -1.0, "data@": 1.0, "workflows.relay": -0.5, "beat": 1.0}
VARIABLE = "CHAOS_CLOCKS"


def are_wrong(seed: int) -> bool:
    """Whether this run has wrong clocks."""
    return seed % 2 == 0


def environ(seed: int) -> dict[str, str]:
    """What the lab's processes need in their environment for it."""
    if not are_wrong(seed):
        return {}
    folders = [str(Path(__file__).parent / "skew"), os.environ.get("PYTHONPATH", "")]
    return {
        "PYTHONPATH": os.pathsep.join(filter(None, folders)),
        VARIABLE: ";".join(f"{word}={hours}" for word, hours in HOURS.items()),
    }


def told(seed: int) -> str:
    """A sentence for the report."""
    return "of each kind of process off by up to an hour" if are_wrong(seed) else "right"
