"""The pilot's arguments; most have a default that fits a whole node."""

from __future__ import annotations

import argparse
import os
from typing import Any, Callable, Dict, List, Mapping, NoReturn, Optional, Sequence

from pilot import __version__


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError("must be 0 or more")
    return number


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 <= number < 1e9:
        raise argparse.ArgumentTypeError("must be a number of seconds, 0 or more")
    return number


def words(text: str) -> List[str]:
    """`a,b` as a list."""
    return [word for word in text.split(",") if word]


Add = Callable[..., Any]


class _Queues(argparse.ArgumentParser):
    """Reads what a queue says; does not end the program."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def of_queue(said: Sequence[str]) -> Dict[str, Any]:
    """What a queue's `pilot_options` set for all its pilots. Words about one slot alone are passed over.

    Raises: ValueError.
    """
    parser = _Queues(add_help=False, allow_abbrev=False)

    def add(name: str, default: Any = None, **more: Any) -> None:
        parser.add_argument(name, default=argparse.SUPPRESS, **more)

    _shared(lambda _title: add)
    known, _others = parser.parse_known_args(list(said))
    return vars(known)


def parse(argv: Sequence[str], queues: Optional[Mapping[str, Any]] = None) -> argparse.Namespace:
    """Read the command line. Ends the program with code 2 if it cannot be read.

    `queues`: what the queue set (`of_queue`); the command line's own words come before it.
    """
    parser = argparse.ArgumentParser(prog="pilot", description="PanDA's pilot: runs jobs on this node.")
    env = os.environ
    add = parser.add_argument
    add("--url", default=env.get("PANDA_URL", ""), help="the PanDA server (or PANDA_URL)")
    add("--queue", required=True, help="PanDA queue to take jobs of; what it says to all its pilots holds here too")
    add("--token-file", default=env.get("PANDA_TOKEN_FILE", ""), help="file with the pilot token")
    add("--work", required=True, help="folder for work folders; made if it does not exist; pilots may share it")
    add("--ca-file", default=env.get("PANDA_CA", ""), help="certificates (PEM) that https trusts, or PANDA_CA")
    add("--pilot-id", default="", help="default: node name and a random part")

    add = parser.add_argument_group("the slot").add_argument
    add("--cores", type=_positive, help="cores of the slot; default: all we may use")
    add("--memory-mb", type=_positive, help="memory of the slot, 10^6 bytes; default: the machine's")
    add("--disk-mb", type=_positive, help="disk for work folders, 10^6 bytes; default: what is free")
    add("--gpus", type=_count, default=0, help="GPUs of the slot")
    add("--walltime-s", type=_positive, default=7 * 86_400, help="time left in the slot")

    _shared(lambda title: parser.add_argument_group(title).add_argument)
    parser.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"])
    parser.add_argument("--version", action="version", version=f"pilot {__version__}")
    parser.set_defaults(**dict(queues or {}))
    return parser.parse_args(argv)


def _shared(group: Callable[[str], Add]) -> None:
    """Options that a queue may set for all its pilots."""
    add = group("the node")
    add("--tags", default="", help="comma-separated tags that jobs may ask for")
    add("--need", default="", help="comma-separated programs without which this node takes no work")
    add("--pass-env", default="", help="comma-separated variables of the pilot that payloads may see")

    add = group("when to leave")
    add("--idle-s", type=_seconds, default=20.0, help="leave after so long without a job; 0: at once")
    add("--pause-s", type=_seconds, default=0.0, help="then pause so long and ask again instead of leaving; 0: leave")
    add("--max-jobs", type=_count, default=0, help="leave after so many jobs; 0: no limit")
    add("--outage-s", type=_seconds, default=3600.0, help="wait so long for a server that is away")
    add("--drain-s", type=_seconds, default=0.0, help="after SIGTERM payloads may run on so long")
    add("--grace-s", type=_seconds, default=10.0, help="time between a payload's SIGTERM and SIGKILL")

    add = group("how to ask")
    add("--bulk", type=_positive, default=1, help="hold up to N jobs ahead (for tiny jobs)")
    add("--wait-s", type=_seconds, default=20.0, help="long poll: the server may hold a request so long")

    add = group("limits of payloads")
    add("--margin-percent", type=_count, default=0, help="more memory, disk and wall time than a job asked for")
    add("--silence-s", type=_seconds, default=0.0, help="end a payload without output and CPU for so long; 0: never")
    add("--max-processes", type=_count, default=0, help="processes of one payload; 0: no limit")
    add("--log-cap-mb", type=_positive, default=50, help="cap of each log of a job, 10^6 bytes")
