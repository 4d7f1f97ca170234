"""What opens storages that are not folders: a file of its own, which only the server's account may read.

`[data] credentials` names it. It holds one entry per address, the longest one that fits a file counts:

    [[credentials]]
    prefix = "https://dav.example.org/panda"
    token = "…"                       # Authorization: Bearer …; or user and password
    third_party_copy = true           # files go straight to and from others that say so too; they get this token

    [[credentials]]
    prefix = "s3+https://s3.example.org/bucket"
    access_key = "…"
    secret_key = "…"

    [[credentials]]
    prefix = "rucio+https://rucio.example.org"
    account = "panda"                 # with user and password, or token; auth: the address for tokens, if another

No credential is ever stored in the database, shown on a page or handed to a pilot: pilots get links.
"""

import os
import stat
import tomllib
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

from panda.errors import ConfigError, UnknownName


@dataclass(frozen=True)
class Credential:
    """An entry; empty: not given."""

    prefix: str = ""
    """Address that it is for, with its scheme."""
    token: str = ""
    user: str = ""
    password: str = ""
    access_key: str = ""
    secret_key: str = ""
    region: str = "us-east-1"
    account: str = ""
    """Of Rucio."""
    auth: str = ""
    """Address that gives Rucio's tokens, if it is another one."""
    ca: str = ""
    """File of certificate authorities (PEM) in place of the system's."""

    third_party_copy: bool = False
    """Files are fetched from here, and brought here, by the other server itself, if its entry says so too (WebDAV
    only). It is then told what opens this one."""

    def covers(self, url: str) -> bool:
        """Whether `url` is the prefix or lies below it; `https://a.org` does not cover `https://a.org.evil`."""
        return url == self.prefix or url.startswith(self.prefix.rstrip("/") + "/")


NOTHING = Credential()


def credential_for(url: str, file: str) -> Credential:
    """The credential for an address; `NOTHING` if none is given. Raises ConfigError, UnknownName."""
    fitting = [each for each in _read(file, _changed_at(file)) if each.covers(url)]
    return max(fitting, key=lambda each: len(each.prefix), default=NOTHING)


def _changed_at(file: str) -> float:
    try:
        return os.stat(file).st_mtime if file else 0.0
    except OSError as problem:
        raise ConfigError(f"{file}: {problem.strerror}") from problem


@cache
def _read(file: str, changed_at: float) -> tuple[Credential, ...]:
    """The entries of the file as it was at `changed_at`: a new one is taken over without a restart."""
    if not file:
        return ()
    if os.stat(file).st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(f"{file} can be read by others; run: chmod 600 {file}")
    try:
        document = tomllib.loads(Path(file).read_text(encoding="utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as problem:
        raise ConfigError(f"{file}: {problem}") from problem
    entries = document.pop("credentials", [])
    if document or not isinstance(entries, list):
        raise ConfigError(f"{file}: only [[credentials]] stand here")
    return tuple(_entry(entry, f"{file} [[credentials]] {number}") for number, entry in enumerate(entries, 1))


def _entry(entry: object, where: str) -> Credential:
    if not isinstance(entry, dict):
        raise ConfigError(f"{where}: a table is wanted")
    known = [each.name for each in fields(Credential)]
    for name, value in entry.items():
        if name not in known:
            raise UnknownName("key", name, known, where=where)
        if name == "third_party_copy" and not isinstance(value, bool):
            raise ConfigError(f"{where}: {name} wants true or false")
        if name != "third_party_copy" and not isinstance(value, str):
            raise ConfigError(f"{where}: {name} wants a string")
    if "://" not in entry.get("prefix", ""):
        raise ConfigError(f"{where}: prefix wants an address with its scheme")
    return Credential(**entry)
