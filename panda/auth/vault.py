"""Secrets at rest: AES-256-GCM under a key that lies in the data folder, not in the database.

Whoever reads the database, or a backup of it, reads no secret. Each is bound to its owner and its name: a value that
is moved to another row opens nowhere. The file `secrets.key` holds the key that is used now, and the ones before it, by
which what was written earlier is read until it is written anew.

Loaded only where a secret is handled (`panda.auth.secrets`): the cryptography takes 20 MB of a process.
"""

import base64
import contextlib
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from panda.errors import ConfigError

FILE = "secrets.key"
#: What a sealed value begins with; then the key's name, then nonce and ciphertext.
PREFIX = "sealed:1:"
NONCE_BYTES, KEY_BYTES = 12, 32


class Vault:
    """Seals and opens; safe for threads, and for several processes on one folder."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._seen: tuple[int, int] | None = None
        self._keys: dict[str, AESGCM] = {}
        self._current = ""

    def seal(self, owner: str, name: str, value: str) -> str:
        """What is stored. Raises ConfigError: the key cannot be read, or made."""
        self._read()
        nonce = os.urandom(NONCE_BYTES)
        sealed = self._keys[self._current].encrypt(nonce, value.encode(), _bound(owner, name))
        return f"{PREFIX}{self._current}:{base64.b64encode(nonce + sealed).decode()}"

    def open(self, owner: str, name: str, stored: str) -> str | None:
        """The value; None: the key that it was sealed with is not here, or it was changed, or it is another's.

        Raises:
            ConfigError: the file of keys cannot be read.
        """
        if not is_sealed(stored):
            return stored
        self._read()
        key_name, _, text = stored.removeprefix(PREFIX).partition(":")
        key = self._keys.get(key_name)
        try:
            sealed = base64.b64decode(text, validate=True)
            return (
                key.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], _bound(owner, name)).decode() if key else None
            )
        except (InvalidTag, ValueError):
            return None

    def is_fresh(self, stored: str) -> bool:
        """Sealed with the key that is used now."""
        self._read()
        return stored.startswith(f"{PREFIX}{self._current}:")

    def renew(self) -> str:
        """From now on a new key is used; the one before it stays for what it sealed, and older ones go. Returns the new
        key's name."""
        with self._locked():
            lines = self._path.read_text(encoding="ascii").split()
            made = _new_line()
            _write(self._path, [made, *lines[:1]])
        self._seen = None
        return made.partition(":")[0]

    def _read(self) -> None:
        """Know the keys as the file has them now; it is made if there is none."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            with self._locked():
                if not self._path.exists():
                    _write(self._path, [_new_line()])
            found = self._path.stat()
        except OSError as problem:
            raise ConfigError(f"{self._path}: {problem.strerror}") from problem
        if stat.S_IMODE(found.st_mode) & 0o077:
            raise ConfigError(f"{self._path} can be read by others: chmod 600 {self._path}")
        mark = (found.st_mtime_ns, found.st_ino)
        if mark == self._seen:
            return
        try:
            keys = dict(_parsed(line) for line in self._path.read_text(encoding="ascii").split())
        except (OSError, ValueError) as problem:
            raise ConfigError(f"{self._path} holds no keys: {problem}") from problem
        if not keys:
            raise ConfigError(f"{self._path} is empty; put it back from a backup, or remove it and lose what it sealed")
        self._keys, self._current, self._seen = keys, next(iter(keys)), mark

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One process at a time changes the file."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            lock = os.open(self._path.with_name(f".{FILE}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as problem:
            raise ConfigError(f"{self._path}: {problem.strerror}") from problem
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


def is_sealed(stored: str) -> bool:
    """It went through a vault; what was stored before there was one did not."""
    return stored.startswith(PREFIX)


def _bound(owner: str, name: str) -> bytes:
    return f"{len(owner)}:{owner}:{name}".encode()


def _new_line() -> str:
    return f"{secrets.token_hex(4)}:{base64.b64encode(os.urandom(KEY_BYTES)).decode()}"


def _parsed(line: str) -> tuple[str, AESGCM]:
    name, colon, text = line.partition(":")
    if not colon or not name.isalnum():
        raise ValueError("a line is no NAME:KEY")
    key = base64.b64decode(text, validate=True)
    if len(key) != KEY_BYTES:
        raise ValueError(f"key {name} has {len(key)} bytes instead of {KEY_BYTES}")
    return name, AESGCM(key)


def _write(path: Path, lines: list[str]) -> None:
    """The file anew, whole or not at all, for nobody else to read."""
    part = path.with_name(f".{FILE}.{os.getpid()}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write("\n".join(lines) + "\n")
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
