"""A setting is written into `config.toml`: one line is changed, everything else stays as it is."""

import os
import re
import tomllib
from pathlib import Path

import click

from panda.cli import exits
from panda.cli.problems import CommandProblem
from panda.client.configuration import NAMES, PROFILES, read_layer
from panda.client.errors import Invalid

_TABLE = re.compile(r"\s*\[")
_PROFILE = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")


def write(path: Path, profile: str, name: str, value: str) -> None:
    """Set `name` of a profile ("": of all) in the file; an empty value takes the line out.

    Raises:
        click.UsageError: no name of a profile, no number where one is needed.
        CommandProblem: the file, as it would be, cannot be read; nothing was written.
    """
    if profile and not _PROFILE.match(profile):
        raise click.UsageError(f"{profile!r} is no name of a profile: letters, digits, - and _")
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    changed = with_setting(text, f"[{PROFILES}.{profile}]" if profile else "", name, _written(name, value))
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        part.write_text(changed, encoding="utf-8")
        try:
            tomllib.loads(changed)
            read_layer(part)
        except (tomllib.TOMLDecodeError, Invalid) as problem:
            message = str(problem).replace(str(part), str(path))
            raise CommandProblem(
                f"{path} would not be right any more: {message}", code="config", exit_code=exits.INVALID,
                hint=f"change it by hand: {path}",
            ) from None  # fmt: skip
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def with_setting(text: str, table: str, name: str, value: str) -> str:
    """`text` with `name = value` in a table ("": above all tables); value "": without that line."""
    lines = text.splitlines()
    start = 0
    if table:
        start = next((number + 1 for number, line in enumerate(lines) if line.strip() == table), -1)
        if start < 0:
            if not value:
                return text
            return "\n".join([*lines, *([""] if lines else []), table, f"{name} = {value}"]) + "\n"
    end = next((number for number in range(start, len(lines)) if _TABLE.match(lines[number])), len(lines))
    there = next((number for number in range(start, end) if re.match(rf"\s*{name}\s*=", lines[number])), None)
    if there is not None:
        lines[there : there + 1] = [f"{name} = {value}"] if value else []
    elif value:
        while end > start and not lines[end - 1].strip():
            end -= 1
        lines.insert(end, f"{name} = {value}")
    return "\n".join(lines) + "\n" if lines else ""


def _written(name: str, value: str) -> str:
    if not value:
        return ""
    if NAMES[name] is not str:
        try:
            float(value)
        except ValueError:
            raise click.UsageError(f"{name}: {value!r} is no number") from None
        return value
    if not value.isprintable():
        raise click.UsageError(f"{name}: only printable characters")
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
