"""Brokerage's funnel in words: what each criterion asks, who was refused and why, and what would help."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from monitoring.show.looks import count, duration, megabytes

#: criterion -> what those that are left have in common.
WORDS = {
    "status": "open for new jobs",
    "downtime": "no downtime comes in between",
    "storage": "their storage is online",
    "wishes": "where the job set wants to go",
    "access": "open to this user's group",
    "requirements": "both sides' requirements are met",
    "capabilities": "offer what the job asks for",
    "resources": "large enough: cores, memory, disk, time",
    "locality": "the input files are there, or can come",
    "limits": "may run more jobs",
    "occupancy": "not too many wait there already",
    "room": "had room for this job",
}
#: `needs 16 GB of memory, the queue has 8 GB`, `needs 4 cores, the queue has 2`.
_SIZE = re.compile(
    r"needs [\d.]+ (?:(?:[MGT]B|s) of )?(?P<of>.+?)(?: \(.*\))?, the queue has (?P<has>[\d.]+)"
    r"(?: (?P<unit>[MGT]B|s))?\Z"
)
_TIMES = {"MB": 1, "GB": 10**3, "TB": 10**6}
_NUMBER = re.compile(r"\d+(?:\.\d+)?(?: [MGT]B\b)?")
#: Reasons that a step spells out, and queues that a hint names.
SHOWN = 3


class Step(NamedTuple):
    """A criterion. `reasons`: why queues were refused, as (sentence, how many, an example). `passed`: instead, what
    several criteria asked that refused nobody."""

    left: int
    words: str
    reasons: list[tuple[str, int, str]]
    passed: tuple[str, ...] = ()


def steps(funnel: Sequence[Mapping[str, Any]]) -> list[Step]:
    """The funnel criterion by criterion; those that refused nobody, one after another, are one step."""
    found: list[Step] = []
    for each in funnel:
        words = WORDS.get(each["criterion"], each["criterion"])
        if found and not each["refused"] and not found[-1].reasons:
            passed = (*(found[-1].passed or (found[-1].words,)), words)
            found[-1] = found[-1]._replace(words=f"{len(passed)} more criteria refused none", passed=passed)
        else:
            found.append(Step(each["left"], words, _reasons(each["refused"])))
    return found


def known(funnel: Sequence[Mapping[str, Any]]) -> int:
    """Queues that brokerage began with."""
    return funnel[0]["left"] + len(funnel[0]["refused"]) if funnel else 0


def _reasons(refused: Mapping[str, str]) -> list[tuple[str, int, str]]:
    """Reasons that differ in numbers alone, as one; the commonest first."""
    kinds: Counter[str] = Counter()
    example: dict[str, tuple[str, str]] = {}
    for queue, reason in sorted(refused.items()):
        kind = _NUMBER.sub("#", reason)
        kinds[kind] += 1
        example.setdefault(kind, (reason, queue))
    return [(example[kind][0], n, example[kind][1]) for kind, n in kinds.most_common(SHOWN)]


def hints(funnel: Sequence[Mapping[str, Any]]) -> list[str]:
    """What would open more queues: asking for less of something, as the refusals tell. The largest gain first."""
    sizes: dict[str, list[tuple[float, str]]] = {}
    for each in funnel:
        for queue, reason in each["refused"].items():
            found = _SIZE.match(reason)
            if found is not None:
                has = float(found["has"]) * _TIMES.get(found["unit"], 1)
                sizes.setdefault(found["of"], []).append((has, queue))
    told = []
    for what, offers in sizes.items():
        most = max(has for has, _ in offers)
        queues = sorted(queue for has, queue in offers if has == most)
        names = ", ".join(queues[:SHOWN]) + (", …" if len(queues) > SHOWN else "")
        more = "one queue more" if len(queues) == 1 else f"{len(queues)} queues more"
        told.append((len(queues), f"With {_said(most, what)} it would fit {more} ({names})."))
    return [sentence for _, sentence in sorted(told, key=lambda each: (-each[0], each[1]))]


def _said(amount: float, what: str) -> str:
    if what in ("memory", "disk"):
        return f"{megabytes(amount)} of {what}"
    return f"{duration(amount)} of {what}" if what == "wall time" else f"{count(amount)} {what}"
