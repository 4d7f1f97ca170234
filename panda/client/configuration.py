"""Where the server is, and how it is spoken to: settings from files and the environment, each with its origin.

From the weakest to the strongest: what is built in, `/etc/panda/config.toml`, the user's `config.toml`
(`$XDG_CONFIG_HOME/panda`, else `~/.config/panda`), `./.panda.toml`, the environment, what a call says. In the first
two, `[profiles.NAME]` holds what goes for one server; `profile` (or PANDA_PROFILE) chooses it.

Tokens stand in none of them but in `credentials.toml` beside the user's file, for nobody else to read, by the
address of the server that they are for: so a token never goes to another server.
"""

import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from panda.client.errors import Invalid

SYSTEM_FILE = Path("/etc/panda/config.toml")
LOCAL_FILE = ".panda.toml"
PROFILES = "profiles"
#: What may be set, and its type in a file.
NAMES: Mapping[str, type | tuple[type, ...]] = {
    "profile": str,
    "url": str,
    "token_file": str,
    "ca": str,
    "timeout": (int, float),
    "output": str,
}
#: What a file of the current folder may say. It came with a checkout, perhaps: it names no server and no file that
#: our token could go to or come from.
LOCAL_NAMES = ("profile", "output", "timeout")
VARIABLES = {
    "profile": "PANDA_PROFILE",
    "url": "PANDA_URL",
    "token_file": "PANDA_TOKEN_FILE",
    "ca": "PANDA_CA",
    "timeout": "PANDA_TIMEOUT",
    "output": "PANDA_OUTPUT",
}
BUILT_IN = "built in"


class Setting(NamedTuple):
    """A value (text, as in the environment) and the place that it comes from."""

    value: str
    origin: str


@dataclass(frozen=True)
class Layer:
    """What one place says: settings for all profiles, and for each."""

    origin: str
    common: Mapping[str, Any]
    profiles: Mapping[str, Mapping[str, Any]]


def user_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where the user's `config.toml` and `credentials.toml` are."""
    if named := environ.get("XDG_CONFIG_HOME", ""):
        return Path(named) / "panda"
    return Path(environ.get("HOME") or Path.home()) / ".config" / "panda"


def user_file(environ: Mapping[str, str] = os.environ) -> Path:
    """The user's settings."""
    return user_folder(environ) / "config.toml"


class Configuration:
    """Everything that is set, read once."""

    def __init__(self, environ: Mapping[str, str] = os.environ, *, profile: str = "") -> None:
        """`profile`: the one that a call names.

        Raises:
            Invalid: a file that cannot be read, or says what cannot be meant; there is no such profile.
        """
        self._environ = environ
        self._layers = [layer for path in (SYSTEM_FILE, user_file(environ)) if (layer := read_layer(path))]
        local = read_layer(Path(LOCAL_FILE), LOCAL_NAMES)
        said = Layer("environment", {name: environ[key] for name, key in VARIABLES.items() if environ.get(key)}, {})
        self._layers += [*([local] if local else []), said]
        self.is_profile_named = bool(profile)
        self.profile = Setting(profile, "--profile") if profile else self._found("profile", "")
        self._check_profile()

    def get(self, name: str) -> Setting:
        """A setting; value "" and origin `built in` where nobody says anything. `profile` too."""
        return self.profile if name == "profile" else self._found(name, self.profile.value)

    def profiles(self) -> list[str]:
        """Names of all profiles."""
        return sorted({name for layer in self._layers for name in layer.profiles})

    def all(self) -> Iterator[tuple[str, Setting]]:
        """Every setting."""
        for name in NAMES:
            yield name, self.get(name)

    def _found(self, name: str, profile: str) -> Setting:
        """What the strongest place says; in one place, what goes for the profile before what goes for all. A profile
        that the call names is stronger than the environment."""
        layers = list(reversed(self._layers))
        if self.is_profile_named and name != "profile":
            layers = [*(Layer(each.origin, {}, each.profiles) for each in layers), *layers]
        for layer in layers:
            own = layer.profiles.get(profile, {})
            if name in own:
                return Setting(str(own[name]), f"{layer.origin} [{PROFILES}.{profile}]")
            if name in layer.common:
                place = VARIABLES[name] if layer.origin == "environment" else layer.origin
                return Setting(str(layer.common[name]).strip(), place)
        return Setting("", BUILT_IN)

    def _check_profile(self) -> None:
        name, origin = self.profile
        known = self.profiles()
        if name and name not in known:
            there_are = (
                f"there are: {', '.join(known)}" if known else f"none is written down in {user_file(self._environ)}"
            )
            raise Invalid(f"{origin}: there is no profile {name!r}; {there_are}", code="no_such_profile")


def read_layer(path: Path, names: tuple[str, ...] = tuple(NAMES)) -> Layer | None:
    """What a file says; None: there is none. Raises Invalid (`config`)."""
    document = _document(path)
    if document is None:
        return None
    profiles = document.pop(PROFILES, {}) if names == tuple(NAMES) else {}
    if not isinstance(profiles, dict) or not all(isinstance(each, dict) for each in profiles.values()):
        raise Invalid(f"{path}: write [profiles.NAME]", code="config")
    _check(path, document, names, "")
    for name, values in profiles.items():
        _check(path, values, tuple(each for each in names if each != "profile"), f"{PROFILES}.{name}.")
    return Layer(str(path), document, profiles)


def _document(path: Path) -> dict[str, Any] | None:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as problem:
        raise Invalid(f"{path}: {problem.strerror or problem}", code="config") from problem
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise Invalid(f"{path} is no TOML: {problem}", code="config") from problem


def _check(path: Path, values: Mapping[str, Any], names: tuple[str, ...], prefix: str) -> None:
    for name, value in values.items():
        where = f"{path}: {prefix}{name}"
        if name == "token":
            raise Invalid(f"{where}: a token does not belong here; `panda login` keeps it where only you can read it",
                          code="config")  # fmt: skip
        if name not in names and name in NAMES:
            raise Invalid(f"{where} cannot be set in this file, which may be somebody else's; name a profile here",
                          code="config")  # fmt: skip
        if name not in names:
            near = get_close_matches(name, names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(names)}"
            raise Invalid(f"{where}: there is no such setting; {hint}", code="config")
        if isinstance(value, bool) or not isinstance(value, NAMES[name]):
            kind = "a text" if NAMES[name] is str else "a number"
            raise Invalid(f"{where}: {value!r} is not {kind}", code="config")
