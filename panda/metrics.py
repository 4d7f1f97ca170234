"""Numbers in Prometheus' text format: four kinds of lines need no library on the way of every request."""

import threading
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

Sample = tuple[dict[str, str], float]

#: Upper bounds of the histograms' buckets, in seconds.
BUCKETS_S = (0.005, 0.025, 0.1, 0.5, 2.5, 10.0)


class Family(NamedTuple):
    """A metric: all its series at this moment."""

    name: str
    about: str
    samples: list[Sample]
    kind: str = "gauge"


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
        nr = sum(took_s > bound for bound in BUCKETS_S)
        with self._guard:
            self._n[method, route, status] += 1
            self._buckets.setdefault(route, [0] * (len(BUCKETS_S) + 1))[nr] += 1
            self._sums[route] += took_s

    def families(self) -> list[Family]:
        """Requests by route and status, and how long they took."""
        with self._guard:
            counted, sums = sorted(self._n.items()), sorted(self._sums.items())
            buckets = {route: list(counts) for route, counts in self._buckets.items()}
        took: list[Sample] = []
        for route, counts in sorted(buckets.items()):
            total = 0
            for bound, n in zip([*map(str, BUCKETS_S), "+Inf"], counts, strict=True):
                total += n
                took.append(({"route": route, "le": bound}, total))
        name = self._seconds
        return [
            Family(
                self._counter,
                "Requests of this process, by method, route and status.",
                [({"method": m, "route": r, "status": s}, n) for (m, r, s), n in counted],
                "counter",
            ),
            Family(f"{name}_bucket", "How long they took.", took, "histogram"),
            Family(f"{name}_sum", "", [({"route": route}, total) for route, total in sums], ""),
            Family(f"{name}_count", "", [({"route": r}, sum(n)) for r, n in sorted(buckets.items())], ""),
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
            lines.append(f"{family.name}{{{told}}} {value:g}" if told else f"{family.name} {value:g}")
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
