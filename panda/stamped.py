"""Files of settings that may change while a process runs: read again when they did."""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

from panda.errors import ConfigError, UnknownName

T = TypeVar("T")
Stamp = tuple[int, ...]


class Stamped(Generic[T]):
    """What a file of the data folder says, as this process read it last.

    Args:
        file: its name, where the settings name no other.
        load: reads it.
        built_in: what holds without a file.
    """

    def __init__(self, file: str, load: Callable[[Path], T], built_in: Callable[[], T]) -> None:
        self._file, self._load, self._built_in = file, load, built_in
        self._read: dict[Path, tuple[Stamp, T]] = {}

    def current(self, data_dir: Path, named: str) -> T:
        """What it says now.

        Args:
            named: another file, as the settings name it, within the data folder if that is no whole path.
        Raises:
            ConfigError: a file that is named is not there. And whatever `load` raises.
        """
        path = data_dir / (named or self._file)
        try:
            found = path.stat()
            stamp: Stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
        except OSError as problem:
            if named:
                raise ConfigError(f"{path}: {problem.strerror}") from problem
            stamp = ()
        known = self._read.get(path)
        if known is None or known[0] != stamp:
            known = self._read[path] = (stamp, self._load(path) if stamp else self._built_in())
        return known[1]


def section_of(path: Path, section: str) -> Any:
    """What the one section of a TOML file holds.

    Raises:
        ConfigError: no TOML; names the file.
        UnknownName: it has another section.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as problem:
        raise ConfigError(f"{path}: {problem}") from problem
    for name in document:
        if name != section:
            raise UnknownName("section", name, [section], where=str(path))
    return document.get(section, {})
