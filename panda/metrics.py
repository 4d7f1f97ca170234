"""Numbers in Prometheus' text format: four kinds of lines need no library on the way of every request."""

import threading
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

Sample = tuple[dict[str, str], float]

#: Upper bounds of the histograms' buckets, in seconds.
BUCKETS_S = (0.005, 0.025, 0.1, 0.5, 2.5, 10.0)

#: How many fell into each bucket, the last one without a bound; and the sum of their seconds.
Bins = tuple[list[int], float]


class Family(NamedTuple):
    """A metric: all its series at this moment."""

    name: str
    about: str
    samples: list[Sample]
    kind: str = "gauge"


def histogram(name: str, about: str, label: str, bins: Mapping[str, Bins]) -> list[Family]:
    """A histogram: a series of buckets, a sum and a count for each value of `label`; no label, if that is empty."""
    told = {value: {label: value} if label else {} for value in sorted(bins)}
    buckets: list[Sample] = []
    for value, labels in told.items():
        total = 0
        for bound, n in zip([*map(str, BUCKETS_S), "+Inf"], bins[value][0], strict=True):
            total += n
            buckets.append((labels | {"le": bound}, total))
    return [
        Family(f"{name}_bucket", about, buckets, "histogram"),
        Family(f"{name}_sum", "", [(labels, bins[value][1]) for value, labels in told.items()], ""),
        Family(f"{name}_count", "", [(labels, sum(bins[value][0])) for value, labels in told.items()], ""),
    ]


class Times:
    """How long something took in this process. Threads may share it."""

    def __init__(self, name: str, about: str) -> None:
        self._name, self._about = name, about
        self._guard = threading.Lock()
        self._counts, self._sum = [0] * (len(BUCKETS_S) + 1), 0.0

    def add(self, took_s: float) -> None:
        """Once more."""
        nr = bisect_left(BUCKETS_S, took_s)
        with self._guard:
            self._counts[nr] += 1
            self._sum += took_s

    def families(self) -> list[Family]:
        """The histogram."""
        with self._guard:
            bins = (list(self._counts), self._sum)
        return histogram(self._name, self._about, "", {"": bins})


class Requests:
    """Requests of this process by method, route and status, and how long they took. Threads may share it."""

    def __init__(self, counter: str, seconds: str) -> None:
        """`counter`, `seconds`: names of the two metrics."""
        self._counter, self._seconds = counter, seconds
        self._guard = threading.Lock()
        self._n: dict[tuple[str, str, str], int] = defaultdict(int)
        self._buckets: dict[str, list[int]] = {}
        self._sums: dict[str, float] = defaultdict(float)

    def add(self, method: str, route: str, status: str, took_s: float) -> None:
        """One request."""
        nr = bisect_left(BUCKETS_S, took_s)
        with self._guard:
            self._n[method, route, status] += 1
            self._buckets.setdefault(route, [0] * (len(BUCKETS_S) + 1))[nr] += 1
            self._sums[route] += took_s

    def families(self) -> list[Family]:
        """Requests by route and status, and how long they took."""
        with self._guard:
            counted = sorted(self._n.items())
            bins = {route: (list(counts), self._sums[route]) for route, counts in self._buckets.items()}
        return [
            Family(
                self._counter,
                "Requests of this process, by method, route and status.",
                [({"method": m, "route": r, "status": s}, n) for (m, r, s), n in counted],
                "counter",
            ),
            *histogram(self._seconds, "How long they took.", "route", bins),
        ]


def written(families: Iterable[Family]) -> str:
    """Prometheus' text format."""
    lines = []
    for family in families:
        if family.kind:
            name = family.name.removesuffix("_bucket") if family.kind == "histogram" else family.name
            lines += [f"# HELP {name} {family.about}", f"# TYPE {name} {family.kind}"]
        for labels, value in family.samples:
            told = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
            number = f"{float(value):.15g}"  # a count of bytes has many digits
            lines.append(f"{family.name}{{{told}}} {number}" if told else f"{family.name} {number}")
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
