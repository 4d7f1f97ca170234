"""Named rules by which failing queues and nodes are taken out, and queues come back.

They stand in `site-rules.toml` of the data folder (`[sites] rules` names another file); without a file the built-in
ones hold, which are those of `config/site-rules.toml`. A file that changes counts from the clock's next look on.
"""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, get_origin

from panda.errors import ConfigError, UnknownName
from panda.names import checked
from panda.settings import Settings
from panda.stamped import Stamped, section_of
from panda.states import QueueStatus

FILE = "site-rules.toml"
#: Ends of attempts are kept for so long, in seconds.
KEPT_S = 86_400
#: Failures that say something of a place, and not of the payload: no sign of life, files that did not come or could not
#: be read back, and what pilots call a fault of their node or storage (docs/reference/errors.md has the numbers).
OF_THE_PLACE = (
    "dispatch:*", "stage_in:*", "stage_out:*", "pilot:1098", "pilot:1099", "pilot:1103", "pilot:1137", "pilot:1171",
    "pilot:1172", "pilot:1199", "pilot:1202", "pilot:1208", "pilot:1246", "pilot:1319", "pilot:1323", "pilot:1333",
    "pilot:1344",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Watch:
    """What rules that take something out have in common."""

    name: str
    window_s: int
    """It looks at attempts that ended within this time; up to a day."""
    at_least: int
    """So many must have ended; fewer say nothing."""
    failed_percent: int
    """So many of a hundred must have failed."""
    errors: tuple[str, ...] = OF_THE_PLACE
    """Codes of failures that count; other failures are left out of the reckoning. `*` stands for any letters."""
    at_most_percent: int = 50
    """If more than so many of a hundred (queues that are open, nodes of the queue) would be out, the fault lies
    elsewhere: nothing is done, and operators are told."""
    passive: bool = False
    """Only tell what it would have done."""

    def counts(self, error_code: str) -> bool:
        """Whether this failure is one of those that the rule looks at."""
        return any(fnmatchcase(error_code, pattern) for pattern in self.errors)


@dataclass(frozen=True, kw_only=True)
class QueueRule(_Watch):
    """Closes a queue whose attempts fail."""

    then: str = "test"
    """The status that it gets. In `test` it gets test jobs, and comes back by itself."""
    for_s: int = 0
    """It goes back by itself after this, in seconds; 0: it does not."""


@dataclass(frozen=True, kw_only=True)
class NodeRule(_Watch):
    """Takes out a node that eats jobs quickly and fails them: a black hole."""

    errors: tuple[str, ...] = ("*",)
    """All count: what a node breaks may look like the payload's own fault."""
    quick_s: int
    """Its failed attempts lasted no longer than this on average."""
    others_percent: int = 50
    """Of the attempts on the other nodes of the queue no more than so many of a hundred failed, and at least as many
    ended as on this one must: else it is not the node."""
    for_s: int = 6 * 3600
    """It gets no jobs for this long."""


@dataclass(frozen=True, kw_only=True)
class TestRule:
    """Brings a queue back that a rule closed (or an operator, who wants it tried)."""

    name: str
    jobs: int = 5
    """Test jobs that are sent at once."""
    needed: int = 4
    """So many of them must finish; then the queue goes online."""
    every_s: int = 900
    """Between the verdict on some and the next ones."""
    command: tuple[str, ...] = ("sh", "-c", "uname -a && df -k . && echo ok")
    share: str = "default"
    walltime_s: int = 600
    memory_mb: int = 500
    disk_mb: int = 500

    __test__ = False  # pytest believes that it is one of its own


Rule = QueueRule | NodeRule | TestRule
KINDS: Mapping[str, type] = {"queues": QueueRule, "nodes": NodeRule, "tests": TestRule}
BUILT_IN: Mapping[str, Any] = {
    "queue-fails": {"of": "queues", "window_s": 3600, "at_least": 20, "failed_percent": 80},
    "black-hole": {"of": "nodes", "window_s": 1800, "at_least": 10, "failed_percent": 90, "quick_s": 300},
    "back-online": {"of": "tests"},
}
_RANGES: Mapping[str, tuple[int, int]] = {
    "window_s": (60, KEPT_S), "at_least": (1, 1_000_000), "failed_percent": (1, 100), "at_most_percent": (1, 100),
    "others_percent": (0, 100), "quick_s": (1, KEPT_S), "for_s": (0, 30 * 86_400), "jobs": (1, 100), "needed": (1, 100),
    "every_s": (60, 7 * 86_400), "walltime_s": (1, 86_400), "memory_mb": (1, 1_000_000), "disk_mb": (1, 1_000_000),
}  # fmt: skip


@dataclass(frozen=True)
class Rules:
    """All of them, in the order of the file."""

    queues: tuple[QueueRule, ...] = ()
    nodes: tuple[NodeRule, ...] = ()
    tests: TestRule | None = None
    where: str = ""
    """Where they stand, for people."""

    @property
    def all(self) -> tuple[Rule, ...]:
        return (*self.queues, *self.nodes, *((self.tests,) if self.tests else ()))


def current(settings: Settings) -> Rules:
    """The rules as their file has them now.

    Raises:
        ConfigError, UnknownName, Invalid: it cannot be meant.
    """
    return _file.current(settings.data_dir, settings.sites.rules)


def built_in() -> Rules:
    """The rules of an installation that says nothing."""
    return _rules("built-in rules", BUILT_IN)


def load_file(path: Path) -> Rules:
    """What `path` (TOML) says.

    Raises:
        ConfigError: no TOML, a wrong type, a value out of range; names file and rule.
        UnknownName, Invalid: a key, a section or a word that does not exist; a name that is none.
    """
    return _rules(str(path), section_of(path, "rules"))


_file = Stamped(FILE, load_file, built_in)


def _rules(where: str, given: Any) -> Rules:
    if not isinstance(given, Mapping):
        raise ConfigError(f"{where}: [rules] wants tables such as [rules.NAME]")
    read = [_rule(f"{where} [rules.{name}]", name, entry) for name, entry in given.items()]
    tests = [rule for rule in read if isinstance(rule, TestRule)]
    if len(tests) > 1:
        raise ConfigError(f"{where}: {tests[0].name} and {tests[1].name} are both of tests; one is enough")
    return Rules(
        tuple(rule for rule in read if isinstance(rule, QueueRule)),
        tuple(rule for rule in read if isinstance(rule, NodeRule)),
        tests[0] if tests else None,
        where,
    )


def _rule(where: str, name: str, entry: Any) -> Rule:
    checked(name, where)
    if not isinstance(entry, Mapping):
        raise ConfigError(f"{where} wants a table")
    of = str(entry.get("of"))
    if of not in KINDS:
        raise UnknownName("of", of, list(KINDS), where=where)
    known = {each.name: each for each in fields(KINDS[of]) if each.name != "name"}
    values: dict[str, Any] = {}
    for key, value in entry.items():
        if key == "of":
            continue
        if key not in known:
            raise UnknownName("setting", key, ["of", *known], where=where)
        values[key] = _value(where, key, value, known[key].type)
    missing = [key for key, each in known.items() if each.default is MISSING and key not in values]
    if missing:
        raise ConfigError(f"{where}: {missing[0]} is missing")
    rule: Rule = KINDS[of](name=name, **values)
    _check(where, rule)
    return rule


def _value(where: str, key: str, value: Any, wanted: Any) -> Any:
    if get_origin(wanted) is tuple:
        if not isinstance(value, list) or not value or not all(isinstance(each, str) and each for each in value):
            raise ConfigError(f"{where}: {key} wants a list of words, got {value!r}")
        return tuple(value)
    if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
        raise ConfigError(f"{where}: {key} wants {wanted.__name__}, got {value!r}")
    if key in _RANGES and not _RANGES[key][0] <= value <= _RANGES[key][1]:
        least, most = _RANGES[key]
        raise ConfigError(f"{where}: {key} is {value}; it must lie between {least} and {most}")
    return value


def _check(where: str, rule: Rule) -> None:
    if isinstance(rule, QueueRule):
        closing = [status for status in QueueStatus if status != QueueStatus.ONLINE]
        if rule.then not in closing:
            raise UnknownName("queue status", rule.then, closing, where=where)
    if isinstance(rule, NodeRule) and not rule.for_s:
        raise ConfigError(f"{where}: for_s is 0; a node is taken out for a while")
    if isinstance(rule, TestRule) and rule.needed > rule.jobs:
        raise ConfigError(f"{where}: needed is {rule.needed}, more than jobs = {rule.jobs}: it could never come back")
