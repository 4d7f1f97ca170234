"""What the environment and the files of settings say about the server, and about who calls it."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from panda.client.configuration import BUILT_IN, Configuration, Setting
from panda.client.credentials import credentials_file, kept
from panda.client.errors import Invalid

DEFAULT_URL = "http://127.0.0.1:25080"
_HERE = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Surroundings:
    """The server, the caller's token ("": there is none), and how long to wait; each with its origin."""

    url: Setting
    token: Setting
    ca: Setting
    timeout: Setting


def surroundings(environ: Mapping[str, str] = os.environ, *, url: str = "", profile: str = "") -> Surroundings:
    """As the flags (`url`, `profile`), the environment and the files say.

    Raises:
        Invalid: a file cannot be read or says what cannot be meant; there is no such profile.
    """
    config = Configuration(environ, profile=profile)
    address = Setting(url, "--url") if url else _url(config, environ)
    return Surroundings(address, _token(config, environ, address.value), config.get("ca"), config.get("timeout"))


def url_from(environ: Mapping[str, str] = os.environ) -> str:
    """The server's address: PANDA_URL, that of the profile, else where the installation in PANDA_DATA_DIR
    (`./data`) listens."""
    return _url(Configuration(environ), environ).value


def token_from(environ: Mapping[str, str] = os.environ, url: str = DEFAULT_URL) -> str:
    """The caller's token: PANDA_TOKEN, what stands in the token file that is named, what `panda login` kept for this
    server; else, for a server on this machine and no other, the token of the installation in PANDA_DATA_DIR
    (`./data`). "": there is none.

    Raises:
        Invalid: a file that is named cannot be read.
    """
    return _token(Configuration(environ), environ, url).value


def _url(config: Configuration, environ: Mapping[str, str]) -> Setting:
    if (said := config.get("url")).value:
        return said
    place = _data_dir(environ) / "run" / "supervisor.json"
    try:
        address = str(json.loads(place.read_text(encoding="utf-8"))["api"])
        # The folder may have come with a checkout: it cannot send us, and our token, to another machine.
        if urlsplit(address).hostname in _HERE:
            return Setting(address, str(place))
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return Setting(DEFAULT_URL, BUILT_IN)


def _token(config: Configuration, environ: Mapping[str, str], url: str) -> Setting:
    ways = [_said_token, _own_token, _local_token]
    if config.is_profile_named:  # what a call names is stronger than the environment
        ways = [_own_token, _said_token, _local_token]
    found = (way(config, environ, url) for way in ways)
    return next((token for token in found if token is not None), Setting("", BUILT_IN))


def _said_token(config: Configuration, environ: Mapping[str, str], url: str) -> Setting | None:
    token = environ.get("PANDA_TOKEN", "").strip()
    return Setting(token, "PANDA_TOKEN") if token else None


def _own_token(config: Configuration, environ: Mapping[str, str], url: str) -> Setting | None:
    """What is written down for this server, or for any."""
    if (named := config.get("token_file")).value:
        try:
            token = Path(named.value).expanduser().read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as problem:
            raise Invalid(f"{named.origin}: {problem}", code="config") from problem
        return Setting(token, f"{named.value} ({named.origin})")
    if token := str(kept(environ, url).get("token", "")):
        return Setting(token, str(credentials_file(environ)))
    return None


def _local_token(config: Configuration, environ: Mapping[str, str], url: str) -> Setting | None:
    """That of the installation in the data folder."""
    if urlsplit(url).hostname not in _HERE:
        return None
    place = _data_dir(environ) / "token"
    try:
        return Setting(place.read_text(encoding="utf-8").strip(), str(place))
    except (OSError, UnicodeDecodeError):
        return None


def timeout_from(said: Setting, default_s: float) -> float:
    """Seconds to wait for an answer. Raises Invalid: that is no number above 0."""
    text = said.value
    try:
        timeout_s = float(text) if text else default_s
    except ValueError:
        timeout_s = 0.0
    if not 0 < timeout_s < 1e6:
        raise Invalid(f"{said.origin} is {text!r}, not a number of seconds", code="config")
    return timeout_s


def _data_dir(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("PANDA_DATA_DIR") or "data")
