"""Which criteria are asked for which job sets, in which order, and what a weight is made of.

A policy is for job sets of some kinds or working groups; the last word has the one that names neither. They stand in
`brokerage.toml` (`[brokerage] policies` names another file); without a file the built-in ones hold, which are those
of `config/brokerage.toml`. A file that changes counts from the next pass on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from panda import plugins
from panda.brokerage.criteria import ORDER
from panda.brokerage.criteria.base import Criterion, Rationing
from panda.brokerage.subjects import Wishes
from panda.brokerage.weights import TERMS
from panda.errors import ConfigError, UnknownName
from panda.names import checked
from panda.settings import Settings
from panda.stamped import Stamped, section_of

#: Of the data folder, if it is there.
FILE = "brokerage.toml"
GROUP = "panda.criteria"
#: An exponent beyond this makes of every difference a decision.
MAX_EXPONENT = 10.0
_SETTINGS = ("kinds", "working_groups", "criteria", "without", "weights")
BUILT_IN: Mapping[str, Any] = MappingProxyType(
    {"production": {"kinds": ["production"], "weights": {"locality": 0.5}}, "analysis": {}}
)


@dataclass(frozen=True)
class Policy:
    """How job sets of some kinds are brokered."""

    name: str
    criteria: tuple[Criterion, ...]
    exponents: Mapping[str, float] = field(default_factory=dict)
    """How much each term of the weight counts; 1 if nothing is said, 0: not at all."""
    kinds: tuple[str, ...] = ()
    working_groups: tuple[str, ...] = ()
    """Patterns; `*` stands for any letters."""

    def is_for(self, wishes: Wishes) -> bool:
        """Whether these job sets are brokered this way."""
        if any(fnmatchcase(wishes.working_group, pattern) for pattern in self.working_groups):
            return True
        return wishes.kind in self.kinds or self.is_for_the_rest

    @cached_property
    def rationing(self) -> tuple[Rationing, ...]:
        """Those of the criteria that say how many jobs a queue may still take."""
        return tuple(criterion for criterion in self.criteria if isinstance(criterion, Rationing))

    @property
    def is_for_the_rest(self) -> bool:
        return not self.kinds and not self.working_groups


@dataclass(frozen=True)
class Policies:
    """All policies, the one for the rest last."""

    all: tuple[Policy, ...]

    def of(self, wishes: Wishes) -> Policy:
        """The first policy that is for such job sets."""
        return next(policy for policy in self.all if policy.is_for(wishes))


def current(settings: Settings) -> Policies:
    """The policies as their file has them now.

    Raises:
        ConfigError, UnknownName, Invalid: it cannot be meant.
    """
    return _file.current(settings.data_dir, settings.brokerage.policies)


def built_in() -> Policies:
    """The policies of an installation that says nothing."""
    return _policies("built-in policies", BUILT_IN)


def load_file(path: Path) -> Policies:
    """What `path` (TOML) says.

    Raises:
        ConfigError: no TOML, a wrong type, a value out of range, no policy for the rest; names file and policy.
        UnknownName, Invalid: a key, a section, a criterion or a term that does not exist; a name that is none.
    """
    return _policies(str(path), section_of(path, "policies"))


_file = Stamped(FILE, load_file, built_in)


def _policies(where: str, given: Any) -> Policies:
    if not isinstance(given, Mapping):
        raise ConfigError(f"{where}: [policies] wants tables such as [policies.NAME]")
    policies = [_policy(f"{where} [policies.{name}]", name, entry) for name, entry in given.items()]
    rest = [policy for policy in policies if policy.is_for_the_rest]
    if len(rest) != 1:
        named = ", ".join(policy.name for policy in rest) or "none"
        raise ConfigError(
            f"{where}: one policy names neither kinds nor working_groups, and is for the rest; got {named}"
        )
    return Policies((*(policy for policy in policies if policy is not rest[0]), rest[0]))


def _policy(where: str, name: str, entry: Any) -> Policy:
    if not isinstance(entry, Mapping):
        raise ConfigError(f"{where} wants a table")
    checked(name, where)
    order = _words(where, entry, "criteria", ORDER)
    without = _words(where, entry, "without", ())
    for each in without:
        if each not in order:
            raise UnknownName("criterion", each, order, where=f"{where} without")
    asked = [each for each in order if each not in without]
    if len(set(asked)) < len(asked):
        raise ConfigError(f"{where}: criteria names one twice")
    options = {key: value for key, value in entry.items() if key not in _SETTINGS}
    for key in options:
        if key not in asked:
            raise UnknownName("setting", key, [*_SETTINGS, *asked], where=where)
    return Policy(
        name,
        tuple(_criterion(f"{where} {each}", each, options.get(each, {})) for each in asked),
        _exponents(where, entry.get("weights", {})),
        tuple(_words(where, entry, "kinds", ())),
        tuple(_words(where, entry, "working_groups", ())),
    )


def _criterion(where: str, name: str, options: Any) -> Criterion:
    if not isinstance(options, Mapping):
        raise ConfigError(f"{where} wants a table of its options")
    made = plugins.load(GROUP, name)
    try:
        criterion: Criterion = made(**options)
    except (TypeError, ValueError) as problem:
        raise ConfigError(f"{where}: {problem}") from problem
    return criterion


def _exponents(where: str, given: Any) -> Mapping[str, float]:
    if not isinstance(given, Mapping):
        raise ConfigError(f"{where}: weights wants a table, as {{ locality = 0.5 }}")
    for term, exponent in given.items():
        if term not in TERMS:
            raise UnknownName("term", term, list(TERMS), where=f"{where} weights")
        is_number = isinstance(exponent, int | float) and not isinstance(exponent, bool)
        if not is_number or not 0 <= exponent <= MAX_EXPONENT:
            raise ConfigError(f"{where}: {term} is a number from 0 to {MAX_EXPONENT:g}, got {exponent!r}")
    return MappingProxyType({term: float(exponent) for term, exponent in given.items()})


def _words(where: str, entry: Mapping[str, Any], key: str, default: Sequence[str]) -> list[str]:
    found = entry.get(key, default)
    if isinstance(found, str) or not isinstance(found, Sequence) or not all(isinstance(each, str) for each in found):
        raise ConfigError(f"{where}: {key} wants a list of words, got {found!r}")
    return list(found)
