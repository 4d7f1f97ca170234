"""The tree of shares: which part of the machines each may use, and whose turn it is. Pure.

A share's part is its weight over the weights of those of its siblings that want anything now, times the part of
the share above it; so what an idle share leaves is spread over its siblings first, then over those of its parent.
Whose turn it is follows from the running cores alone, walking down from the top: at each fork the branch with the
fewest cores per weight, which is the one furthest below its part.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

from panda.errors import ConfigError

#: What job sets pay with that name no share.
DEFAULT = "default"

#: Running cores of every branch by its key.
Load = dict[str, float]


class Share(NamedTuple):
    """A node of the tree. Jobs belong to leaves."""

    name: str
    parent: str | None
    weight: float


class Tree:
    """All shares.

    A *stray* is a share that jobs name and that is no leaf (any more): it counts as one more branch at the top,
    with the weight of the lightest one there, so that its jobs come to an end as well.
    """

    def __init__(self, shares: Iterable[Share]) -> None:
        """Raises ConfigError: a share stands below itself, or below one that is not there."""
        self.shares = {share.name: share for share in shares}
        self._below: dict[str | None, list[str]] = {}
        for name in sorted(self.shares):
            self._below.setdefault(self.shares[name].parent, []).append(name)
        paths = {name: self._path_to(name) for name in self.shares}
        self._paths = {name: path for name, path in paths.items() if name not in self._below}
        self._lightest = min((self.shares[name].weight for name in self._below.get(None, ())), default=1.0)

    @property
    def leaves(self) -> list[str]:
        """The shares that job sets may name, by name."""
        return sorted(self._paths)

    def below(self, name: str | None) -> list[str]:
        """The shares right below one; of None: those at the top. By name."""
        return self._below.get(name, [])

    def walk(self, name: str | None = None) -> Iterator[Share]:
        """All shares, each one followed by those below it."""
        for each in self.below(name):
            yield self.shares[each]
            yield from self.walk(each)

    def load(self, cores: Mapping[str, float]) -> Load:
        """Running cores of every branch, from those of the shares that jobs name."""
        load: Load = {}
        for share, n in cores.items():
            self.add(load, share, n)
        return load

    def add(self, load: Load, share: str, cores: float) -> None:
        """`cores` more of `share` are running."""
        for key in self._path(share):
            load[key] = load.get(key, 0) + cores

    def first(self, shares: Collection[str], load: Mapping[str, float]) -> str:
        """Whose turn it is: of `shares` the one that is furthest below its part."""
        return min(shares, key=lambda share: self._standing(share, load))

    def order(self, shares: Collection[str], load: Mapping[str, float]) -> list[str]:
        """`shares`, the one that is furthest below its part first."""
        return sorted(shares, key=lambda share: self._standing(share, load))

    def deal(
        self, cores_of: Mapping[str, float], n: int, load: Mapping[str, float], most: int, n_dealers: int = 1
    ) -> dict[str, int]:
        """How many of `n` jobs each share gives, as if they were handed out one by one.

        Args:
            cores_of: cores of a job, by share that has jobs.
            most: at most so many shares give something.
            n_dealers: so many do the same at the same time, each on its own.
        """
        dealt: dict[str, int] = {}
        load, candidates = dict(load), list(cores_of)
        for _ in range(n):
            share = self.first(candidates, load)
            dealt[share] = dealt.get(share, 0) + 1
            self.add(load, share, cores_of[share] * n_dealers)
            if len(dealt) == most:
                candidates = list(dealt)
        return dealt

    def parts(self, active: Collection[str]) -> dict[str, float]:
        """The part (0 to 1) of each share while only the leaves in `active` want anything; idle ones have none."""
        together: dict[str | None, list[str]] = {}
        for key in sorted({key for share in active for key in self._path(share)}):
            together.setdefault(self._parent(key), []).append(key)
        parts: dict[str, float] = {}
        todo: list[tuple[str | None, float]] = [(None, 1.0)]
        while todo:
            above, part = todo.pop()
            siblings = together.get(above, [])
            whole = sum(self._weight(key) for key in siblings)
            for key in siblings:
                parts[key] = part * self._weight(key) / whole
                todo.append((key, parts[key]))
        return parts

    def branch(self, share: str) -> str:
        """The key of a share that jobs name, in what `load` and `parts` answer."""
        return self._path(share)[-1]

    def is_stray(self, share: str) -> bool:
        """Whether no leaf has this name."""
        return share not in self._paths

    @property
    def stray_weight(self) -> float:
        """What a stray weighs."""
        return self._lightest

    def _path(self, share: str) -> tuple[str, ...]:
        return self._paths.get(share) or (f"{share} (stray)",)

    def _standing(self, share: str, load: Mapping[str, float]) -> list[tuple[float, float, str]]:
        """Smaller is sooner. Equal loads: the heavier first, then by name."""
        return [(load.get(key, 0) / self._weight(key), -self._weight(key), key) for key in self._path(share)]

    def _weight(self, key: str) -> float:
        share = self.shares.get(key)
        return share.weight if share else self._lightest

    def _parent(self, key: str) -> str | None:
        share = self.shares.get(key)
        return share.parent if share else None

    def _path_to(self, name: str) -> tuple[str, ...]:
        """The shares from the top down to `name`."""
        path = [name]
        while (above := self.shares[path[-1]].parent) is not None:
            if above not in self.shares:
                raise ConfigError(f"share {path[-1]} stands below {above}, which is not there")
            if above in path:
                raise ConfigError(f"share {above} stands below itself: {' < '.join([*path, above])}")
            path.append(above)
        return tuple(reversed(path))
