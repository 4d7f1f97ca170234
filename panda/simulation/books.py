"""What a simulation saw: jobs by their ends, requests, refusals, and the running cores of each share over time."""

import bisect
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from panda.simulation.line import Call

#: Jobs of job sets that nobody told us of.
UNKNOWN = "unknown"
#: Times of answers that are kept for each kind of request.
MAX_TIMES = 20_000


class JobSets:
    """Which share the jobs of a PandaID pay with, as the server told."""

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._ranges: dict[int, tuple[int, str, int | None]] = {}

    def learn(self, jobset: Mapping[str, Any], share: str, load: int | None = None) -> None:
        """A job set, as it was accepted or listed. `load`: the number of the load that it is of, if it is ours."""
        first, last = int(jobset["first_panda_id"]), int(jobset["last_panda_id"])
        if first not in self._ranges:
            bisect.insort(self._firsts, first)
            self._ranges[first] = (last, share, load)

    def share_of(self, panda_id: int) -> str:
        """The share of a job; `unknown`: nobody told us of its set."""
        return self._found(panda_id)[1]

    def load_of(self, panda_id: int) -> int | None:
        """The load that a job is of; None: it is not ours."""
        return self._found(panda_id)[2]

    def _found(self, panda_id: int) -> tuple[int, str, int | None]:
        place = bisect.bisect_right(self._firsts, panda_id)
        found = self._ranges[self._firsts[place - 1]] if place else (0, UNKNOWN, None)
        return found if panda_id <= found[0] else (0, UNKNOWN, None)


class Sample(NamedTuple):
    """The fleet at one moment, as its pilots see it. `at_s`: seconds since the fleet began."""

    at_s: float
    n_ended: int
    n_requests: int
    cores: dict[str, int]
    """Running cores by share."""


@dataclass
class Books:
    """One simulation's. Everything runs in one thread."""

    jobsets: JobSets = field(default_factory=JobSets)
    running: dict[int, int] = field(default_factory=dict)
    """Cores by PandaID."""
    n_taken: int = 0
    """Attempts that pilots got."""
    taken_of: Counter[int] = field(default_factory=Counter)
    """Jobs that pilots got for the first time, by the number of their load."""
    ends: Counter[str] = field(default_factory=Counter)
    """Ends of attempts: `finished`, `failed:1099`, `cancelled`, `silent`, `down`, `stale_lease`, ..."""
    by_profile: Counter[tuple[str, str]] = field(default_factory=Counter)
    by_queue: Counter[str] = field(default_factory=Counter)
    n_submitted: Counter[int] = field(default_factory=Counter)
    """Jobs by the number of their load."""
    samples: list[Sample] = field(default_factory=list)
    n_requests: Counter[str] = field(default_factory=Counter)
    refusals: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By request and by `401 unauthenticated`, `no answer`, ..."""
    times: dict[str, list[float]] = field(default_factory=dict)

    @property
    def n_ended(self) -> int:
        """Attempts whose end the server took."""
        return sum(n for word, n in self.ends.items() if word.partition(":")[0] in ("finished", "failed", "cancelled"))

    def begin(self, panda_id: int, attempt_nr: int, cores: int) -> None:
        """A pilot got a job."""
        self.running[panda_id] = cores
        self.n_taken += 1
        load = self.jobsets.load_of(panda_id)
        if load is not None and attempt_nr == 1:
            self.taken_of[load] += 1

    def end(self, panda_id: int, word: str, profile: str, queue: str) -> None:
        """A pilot is done with a job, one way or another."""
        self.running.pop(panda_id, None)
        self.ends[word] += 1
        self.by_profile[profile, word] += 1
        self.by_queue[queue] += 1

    def sample(self, at_s: float) -> Sample:
        """Look at the fleet."""
        cores: Counter[str] = Counter()
        for panda_id, n in self.running.items():
            cores[self.jobsets.share_of(panda_id)] += n
        made = Sample(round(at_s, 2), self.n_ended, sum(self.n_requests.values()), dict(sorted(cores.items())))
        self.samples.append(made)
        return made

    def enter(self, calls: Iterable[Call]) -> None:
        """Requests that were made."""
        for call in calls:
            self.n_requests[call.what] += 1
            times = self.times.setdefault(call.what, [])
            if len(times) < MAX_TIMES:
                times.append(call.took_s)
            if not 200 <= call.status < 300:
                told = f"{call.status} {call.code}".strip() if call.status else "no answer"
                self.refusals[call.what, told] += 1
