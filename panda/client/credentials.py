"""Tokens that `panda login` keeps, by the address of their server: `credentials.toml`, for nobody else to read."""

import os
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from panda.client.configuration import user_folder
from panda.client.errors import Invalid

#: Nobody but the owner may read or write it.
MODE = 0o600


def credentials_file(environ: Mapping[str, str] = os.environ) -> Path:
    """Where tokens are kept."""
    return user_folder(environ) / "credentials.toml"


def server_of(url: str) -> str:
    """What tells one server from another in an address: `https://host:port`, in small letters."""
    parts = urlsplit(url)
    try:
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    except ValueError:
        port = 0
    return f"{parts.scheme}://{(parts.hostname or '').lower()}:{port}{parts.path.rstrip('/')}"


def kept(environ: Mapping[str, str], url: str) -> dict[str, Any]:
    """What is kept for a server: `token`, and perhaps `token_id` and `expires_at`. Empty: nothing.

    Raises:
        Invalid: the file cannot be read, or others can read it.
    """
    return _read(credentials_file(environ)).get(server_of(url), {})


def keep(environ: Mapping[str, str], url: str, facts: Mapping[str, str | int]) -> Path:
    """Keep these for a server, in place of what was kept; returns the file. Raises Invalid, OSError."""
    return _written(environ, {**_read(credentials_file(environ)), server_of(url): dict(facts)})


def forget(environ: Mapping[str, str], url: str) -> bool:
    """Forget what is kept for a server. Returns whether there was anything. Raises Invalid, OSError."""
    known = _read(credentials_file(environ))
    if known.pop(server_of(url), None) is None:
        return False
    _written(environ, known)
    return True


def _read(path: Path) -> dict[str, dict[str, Any]]:
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise Invalid(f"{path} can be read by others: chmod 600 {path}", code="config")
            found = tomllib.load(file)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as problem:
        raise Invalid(f"{path}: {problem.strerror or problem}", code="config") from problem
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise Invalid(f"{path} is no TOML: {problem}", code="config") from problem
    for server, facts in found.items():
        if not isinstance(facts, dict) or not isinstance(facts.get("token"), str):
            raise Invalid(f"{path}: [{server}] holds no token", code="config")
    return found


def _written(environ: Mapping[str, str], known: Mapping[str, Mapping[str, str | int]]) -> Path:
    """Write the file anew, whole or not at all."""
    path = credentials_file(environ)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, MODE)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            for server, facts in sorted(known.items()):
                file.write(f"[{_text(server)}]\n")
                file.writelines(f"{name} = {_value(value)}\n" for name, value in facts.items())
                file.write("\n")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def _value(value: str | int) -> str:
    return str(value) if isinstance(value, int) else _text(value)


def _text(text: str) -> str:
    """A basic string of TOML."""
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in quoted) + '"'
