"""What the environment says about the server and about who calls it."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from panda.client.errors import Invalid

DEFAULT_URL = "http://127.0.0.1:25080"
_HERE = ("127.0.0.1", "::1", "localhost")


def url_from(environ: Mapping[str, str] = os.environ) -> str:
    """The server's address: PANDA_URL, else where the installation in PANDA_DATA_DIR (`./data`) listens."""
    if url := environ.get("PANDA_URL", "").strip():
        return url
    try:
        facts = json.loads((_data_dir(environ) / "run" / "supervisor.json").read_text(encoding="utf-8"))
        return str(facts["api"])
    except (OSError, ValueError, KeyError, TypeError):
        return DEFAULT_URL


def token_from(environ: Mapping[str, str] = os.environ, url: str = DEFAULT_URL) -> str:
    """The caller's token: PANDA_TOKEN, what stands in PANDA_TOKEN_FILE, else, for a server on this machine
    and no other, the token of the installation in PANDA_DATA_DIR (`./data`). "": there is none.

    Raises:
        Invalid: PANDA_TOKEN_FILE cannot be read.
    """
    if token := environ.get("PANDA_TOKEN", "").strip():
        return token
    if named := environ.get("PANDA_TOKEN_FILE", ""):
        try:
            return Path(named).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as problem:
            raise Invalid(f"PANDA_TOKEN_FILE: {problem}", code="config") from problem
    if urlsplit(url).hostname not in _HERE:
        return ""
    try:
        return (_data_dir(environ) / "token").read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def timeout_from(environ: Mapping[str, str], default_s: float) -> float:
    """PANDA_TIMEOUT, seconds to wait for an answer. Raises Invalid: it is no number above 0."""
    text = environ.get("PANDA_TIMEOUT", "").strip()
    try:
        timeout_s = float(text) if text else default_s
    except ValueError:
        timeout_s = 0.0
    if not 0 < timeout_s < 1e6:
        raise Invalid(f"PANDA_TIMEOUT is {text!r}, not a number of seconds", code="config")
    return timeout_s


def _data_dir(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("PANDA_DATA_DIR") or "data")
