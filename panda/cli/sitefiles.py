"""Documents about places, from files, addresses or stdin: TOML, JSON, or CRIC's JSON."""

import json
import sys
import tomllib
from datetime import date, datetime
from pathlib import Path
from typing import Any

from panda.cli import exits
from panda.cli.problems import CommandProblem

WITHIN_S = 60.0
MAX_BYTES = 50_000_000


def document_of(name: str) -> dict[str, Any]:
    """What stands in a file, behind an address, or (`-`) in stdin. Raises CommandProblem."""
    try:
        text = (sys.stdin.read() if name == "-" else _read(name)).strip()
        is_json = name.endswith(".json") or (not name.endswith(".toml") and text.startswith("{"))
        document = json.loads(text) if is_json else _plain(tomllib.loads(text))
    except (OSError, ValueError) as problem:
        raise _wrong(name, f"cannot be read: {problem}") from problem
    if not isinstance(document, dict):
        raise _wrong(name, "is no object")
    return document


def _read(name: str) -> str:
    if not name.startswith(("http://", "https://")):
        return Path(name).read_text(encoding="utf-8")
    from urllib.request import Request, urlopen

    asked = Request(name, headers={"Accept": "application/json", "User-Agent": "panda"})
    with urlopen(asked, timeout=WITHIN_S) as answer:
        raw: bytes = answer.read(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        raise ValueError(f"it is larger than {MAX_BYTES} bytes")
    return raw.decode("utf-8")


def _plain(value: Any) -> Any:
    """TOML's moments as text, which is all that JSON has."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value.isoformat() if isinstance(value, datetime | date) else value


def _wrong(name: str, why: str) -> CommandProblem:
    return CommandProblem(f"{name} {why}", code="bad_document", exit_code=exits.INVALID)
