"""Documents as YAML for people: what both versions of YAML, 1.1 and 1.2, read alike; texts of several lines as such."""

import re
from typing import Any

import yaml


class _Dumper(yaml.SafeDumper):
    """No anchors; lists stand under their key."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text.strip("\n") else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)
#: What YAML 1.2 takes for a number and 1.1 for a word, and the other way round, gets quotes.
_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z|0o[0-7]+\Z"),
    list("-+0123456789."),
)


def yaml_of(document: Any) -> str:
    """The document in block style, its keys in the order that they have."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
