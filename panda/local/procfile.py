"""The Procfile: the one list of our processes, read without a shell.

A line is `name: words`. `$NAME` and `${NAME}` are filled in by us, words follow shell quoting. A first
word that is a module of this environment (`python`, `celery`, `granian`) runs with this interpreter, so
no PATH is needed, and without the working folder on its path, so nothing there is taken for ours.
"""

import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from string import Template

from panda.errors import ConfigError

NAME = re.compile(r"[a-z][a-z0-9_-]*")


def read(file: Path) -> dict[str, str]:
    """Command line by process name, in the order in which they start.

    Raises:
        ConfigError: no such file, a line that is none, a name given twice.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as problem:
        raise ConfigError(f"{file}: {problem}") from problem
    processes: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, colon, words = line.partition(":")
        if not colon or not NAME.fullmatch(name) or not words.strip():
            raise ConfigError(f"{file}, line {number}: want `name: command`, got {line!r}")
        if name in processes:
            raise ConfigError(f"{file}, line {number}: {name!r} is there already")
        processes[name] = words.strip()
    return processes


def command(line: str, variables: Mapping[str, str]) -> list[str]:
    """The words to execute.

    Raises:
        ConfigError: a `$NAME` that is not set, a quote without its pair, a program that is not there.
    """
    try:
        words = [Template(word).substitute(variables) for word in shlex.split(line)]
    except KeyError as missing:
        raise ConfigError(f"Procfile: ${missing.args[0]} is not set in: {line}") from None
    except ValueError as problem:
        raise ConfigError(f"Procfile: {problem} in: {line}") from None
    return [*_program(words[0]), *words[1:]]


def is_worker(words: Sequence[str]) -> bool:
    """Whether it is a Celery worker, which is given longer to end what it has begun."""
    return "celery" in words and "worker" in words


def _program(word: str) -> list[str]:
    if word == "python":
        return [sys.executable, "-P"]
    if "/" in word:
        return [word]
    if find_spec(word) is None:
        raise ConfigError(f"Procfile: {word!r} is not installed in {sys.prefix}")
    return [sys.executable, "-P", "-m", word]
