"""`quotas.toml`: what whoever runs the installation wants quotas to be."""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from panda.errors import ConfigError, UnknownName
from panda.jobs.quotas.rules import DEFAULT, GROUP, HOLD, LIMITED, REFUSE, USER, Limits, Quota
from panda.names import checked

SECTIONS = (DEFAULT, LIMITED, "users", "groups")
#: Above this a limit would only be a mistake.
MOST = 10**12


def load_file(path: Path) -> list[Quota]:
    """What `path` (TOML) says.

    Raises:
        ConfigError: no TOML, a value that is none, a group without members; names file and place.
        UnknownName, Invalid: a key or a section that does not exist; a name that is none.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as problem:
        raise ConfigError(f"{path}: {problem}") from problem
    return list(_read(document, str(path)))


def _read(document: dict[str, Any], path: str) -> Iterator[Quota]:
    for section, given in document.items():
        if section not in SECTIONS:
            raise UnknownName("section", section, SECTIONS, where=path)
        if not isinstance(given, dict):
            raise ConfigError(f"{path}: {section} wants a table, [{section}]")
        if section in (DEFAULT, LIMITED):
            yield _quota(section, "", given, f"{path} [{section}]")
            continue
        for name, entry in given.items():
            where = f"{path} [{section}.{name}]"
            if not isinstance(entry, dict):
                raise ConfigError(f"{where}: wants a table, got {entry!r}")
            yield _quota(USER if section == "users" else GROUP, checked(name, where), entry, where)


def _quota(kind: str, name: str, entry: dict[str, Any], where: str) -> Quota:
    known = [*Limits._fields, "beyond", *(["members"] if kind == GROUP else [])]
    for key in entry:
        if key not in known:
            raise UnknownName("setting", key, known, where=where)
    limits = Limits(**{key: _limit(key, entry[key], where) for key in Limits._fields if key in entry})
    beyond = entry.get("beyond")
    if beyond not in (None, REFUSE, HOLD):
        raise ConfigError(f"{where}: beyond wants {REFUSE!r} or {HOLD!r}, got {beyond!r}")
    return Quota(kind, name, limits, beyond, _members(entry, where) if kind == GROUP else ())


def _limit(key: str, value: Any, where: str) -> Any:
    wanted = (int, float) if key == "core_hours" else int
    if isinstance(value, bool) or not isinstance(value, wanted):
        raise ConfigError(
            f"{where}: {key} wants a {'number' if key == 'core_hours' else 'whole number'}, got {value!r}"
        )
    if not 0 <= value <= MOST:
        raise ConfigError(f"{where}: {key} is {value}; it must lie between 0 (any number) and {MOST:,}")
    return value


def _members(entry: dict[str, Any], where: str) -> tuple[str, ...]:
    members = entry.get("members")
    if not isinstance(members, list) or not members or not all(isinstance(each, str) for each in members):
        raise ConfigError(f"{where}: members wants a list of users, got {members!r}")
    return tuple(sorted({checked(each, f"{where} members") for each in members}))
