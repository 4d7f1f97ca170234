"""What a simulation found: for people, and for programs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from panda.simulation.books import Books, Sample

#: Points of time that a report for people shows.
MOST_LINES = 20


@dataclass(frozen=True)
class Report:
    """The figures; times in seconds, sizes in cores."""

    seed: int
    lasted_s: float
    n_pilots: int
    n_queues: int
    n_submitted: int
    n_taken: int
    n_ended: int
    n_left: int
    """Jobs that pilots still had when the simulation was over."""
    ends: dict[str, int]
    """`finished`, `failed:1099`, `cancelled`; `silent` and `down`: nothing was said; `stale_lease`: said too late."""
    by_profile: dict[str, dict[str, int]]
    by_queue: dict[str, int]
    jobs_per_s: float
    requests_per_s: float
    requests: dict[str, dict[str, float]]
    """By request: `n`, and `p50_ms`, `p99_ms` of its answers."""
    refusals: dict[str, int]
    """By request and answer: `acquire: 401 unauthenticated`."""
    samples: list[Sample]

    @classmethod
    def of(cls, books: Books, *, seed: int, lasted_s: float, n_pilots: int, n_queues: int, n_left: int) -> "Report":
        """The report on what these books say."""
        profiles: dict[str, dict[str, int]] = {}
        for (profile, word), n in sorted(books.by_profile.items()):
            profiles.setdefault(profile, {})[word] = n
        n_requests = sum(books.n_requests.values())
        span_s = max(lasted_s, 0.001)
        return cls(
            seed=seed, lasted_s=round(lasted_s, 2), n_pilots=n_pilots, n_queues=n_queues,
            n_submitted=sum(books.n_submitted.values()), n_taken=books.n_taken, n_ended=books.n_ended, n_left=n_left,
            ends=dict(sorted(books.ends.items())), by_profile=profiles, by_queue=dict(sorted(books.by_queue.items())),
            jobs_per_s=round(books.n_ended / span_s, 1), requests_per_s=round(n_requests / span_s, 1),
            requests={what: _times(n, books.times[what]) for what, n in sorted(books.n_requests.items())},
            refusals={f"{what}: {told}": n for (what, told), n in sorted(books.refusals.items())},
            samples=list(books.samples),
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON can hold it."""
        return asdict(self) | {"samples": [sample._asdict() for sample in self.samples]}

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2)

    def text(self) -> str:
        """For a person."""
        lines = [
            f"seed {self.seed}: {self.n_pilots} pilots at {self.n_queues} queues, {self.lasted_s:.0f} s",
            f"  jobs: {self.n_submitted} submitted, {self.n_taken} taken, {self.n_ended} ended"
            f" ({self.jobs_per_s:.1f}/s), {self.n_left} left with their pilots",
            f"  ends: {_listed(self.ends)}",
        ]
        lines += [f"    {profile}: {_listed(ends)}" for profile, ends in self.by_profile.items()]
        lines.append(f"  requests: {self.requests_per_s:.0f}/s")
        for what, facts in self.requests.items():
            times = f"median {facts['p50_ms']:.1f} ms, 99 % {facts['p99_ms']:.1f} ms"
            lines.append(f"    {what}: {facts['n']:.0f}, {times}")
        lines.append(f"  refused: {_listed(self.refusals)}")
        lines += _table(self.samples)
        return "\n".join(lines)


def deviation(sample: Sample, parts: Mapping[str, float]) -> float:
    """How far the running cores of a moment are from `parts` (0 to 1), at worst, as a part of all of them."""
    whole = sum(sample.cores.values())
    return max(abs(sample.cores.get(share, 0) / whole - part) for share, part in parts.items()) if whole else 1.0


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that `percent` of them do not exceed; 0 of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else 0.0


def _times(n: int, times: Sequence[float]) -> dict[str, float]:
    return {"n": n} | {f"p{p}_ms": round(1000 * percentile(times, p), 2) for p in (50, 99)}


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {word}" for word, n in counts.items()) or "none"


def _table(samples: Sequence[Sample]) -> list[str]:
    """Running cores by share, at about `MOST_LINES` moments."""
    shares = sorted({share for sample in samples for share in sample.cores})
    if not shares:
        return ["  running cores: none"]
    step = max(1, -(-len(samples) // MOST_LINES))
    widths = [max(len(share), 12) for share in shares]
    head = "".join(f"  {share:>{width}}" for share, width in zip(shares, widths, strict=True))
    lines = ["  running cores by share:", f"  {'s':>8}{head}  {'ended':>8}"]
    for sample in samples[::step]:
        whole = sum(sample.cores.values()) or 1
        cells = [f"{sample.cores.get(share, 0)} ({sample.cores.get(share, 0) / whole:.1%})" for share in shares]
        line = "".join(f"  {cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
        lines.append(f"  {sample.at_s:>8.0f}{line}  {sample.n_ended:>8}")
    return lines
