"""Reading job-set files: YAML, JSON, or JSON Lines with one job per line.

YAML as people mean it (1.2): `no`, `on` and `6:30` are words, not truth values and numbers, and a key that
stands twice is an error.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

import yaml

from panda.cli.problems import FileProblem

STDIN = "-"


class Loader(yaml.SafeLoader):
    """PyYAML's safe loader with YAML 1.2's idea of what is a number and what is not."""


class Dumper(yaml.SafeDumper):
    """Writes what every reader of YAML, 1.1 or 1.2, reads alike; no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_CORE = (
    ("tag:yaml.org,2002:null", r"(?:~|null|Null|NULL|)\Z", ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:bool", r"(?:true|True|TRUE|false|False|FALSE)\Z", list("tTfF")),
    ("tag:yaml.org,2002:int", r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)\Z", list("-+0123456789")),
    (
        "tag:yaml.org,2002:float",
        r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z",
        list("-+0123456789."),
    ),
    ("tag:yaml.org,2002:merge", r"<<\Z", ["<"]),
)
Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in _CORE:
    Loader.add_implicit_resolver(_tag, re.compile(_pattern), _first)
    Dumper.add_implicit_resolver(_tag, re.compile(_pattern), _first)


def _int(loader: Loader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node))
    return int(text, 8) if text.startswith("0o") else int(text, 16) if text.startswith("0x") else int(text)


def _mapping(loader: Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen = set()
    for key, _ in node.value:
        if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
            raise yaml.MarkedYAMLError(problem=f"{key.value!r} stands here twice", problem_mark=key.start_mark)
        seen.add(key.value)
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


Loader.add_constructor("tag:yaml.org,2002:int", _int)
Loader.add_constructor("tag:yaml.org,2002:map", _mapping)


def read(file: str) -> dict[str, Any]:
    """The document in `file` ("-": YAML on stdin). JSON Lines become `{"jobs": [...]}`.

    Raises:
        FileProblem: it cannot be read, or holds something else.
    """
    text = _text(file)
    suffix = Path(file).suffix.lower()
    try:
        if suffix == ".jsonl":
            return {"jobs": [_line(file, number, line) for number, line in enumerate(text.splitlines(), 1) if line]}
        document = json.loads(text) if suffix == ".json" else parse_yaml(text)
    except (yaml.YAMLError, json.JSONDecodeError, RecursionError) as problem:
        raise FileProblem(file, f"{problem}") from None
    if not isinstance(document, dict):
        raise FileProblem(file, "is no job set", hint="it starts like this: name: my-jobs")
    return document


def parse_yaml(text: str) -> Any:
    """What one YAML document says. Raises yaml.YAMLError."""
    return yaml.load(text, Loader)  # a SafeLoader


def plain_value(text: str) -> str | int | float | bool:
    """A value as it would be read in a file; whatever is no plain value there is just text."""
    try:
        value = parse_yaml(text)
    except yaml.YAMLError:
        return text
    return value if isinstance(value, str | int | float | bool) else text


def as_yaml(document: object) -> str:
    """A document as YAML, in its own order."""
    return yaml.dump(document, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=100)


def _text(file: str) -> str:
    try:
        return sys.stdin.read() if file == STDIN else Path(file).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise FileProblem(file, "is not UTF-8 text") from None
    except OSError as problem:
        raise FileProblem(file, problem.strerror or str(problem)) from None


def _line(file: str, number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as problem:
        raise FileProblem(f"{file}, line {number}", problem.msg) from None
