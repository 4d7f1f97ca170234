"""`vars` of a job-set file and `--set name=value`: plain substitution before anything else is read."""

import re
from collections.abc import Mapping
from typing import Any

from panda.cli.problems import FileProblem

_PLACE = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_-]*)\}")
Scalar = str | int | float | bool


def filled(document: Mapping[str, Any], given: Mapping[str, Scalar]) -> dict[str, Any]:
    """`document` without its `vars`, and with `${name}` replaced wherever a value is known.

    A string that is nothing but `${name}` becomes the value itself, so a number stays a number. A name
    that `given` sets also replaces the `matrix` axis of that name. Other placeholders are left to the server.

    Raises:
        FileProblem: `given` sets a name that nothing uses; `vars` is no mapping of plain values.
    """
    rest = dict(document)
    values = {**_vars(rest.pop("vars", None)), **given}
    used: set[str] = set()
    matrix = rest.get("matrix")
    if isinstance(matrix, Mapping) and not given.keys().isdisjoint(matrix):
        used |= given.keys() & matrix.keys()
        rest["matrix"] = {name: [given[name]] if name in given else axis for name, axis in matrix.items()}
        values = {name: value for name, value in values.items() if name not in matrix}
    result = {key: _filled(value, values, used) for key, value in rest.items()}
    for name in given:
        if name not in used:
            raise FileProblem("--set", f"nothing in the job set uses ${{{name}}}", code="unused_variable")
    return result


def _vars(found: object) -> dict[str, Scalar]:
    if found is None:
        return {}
    if not isinstance(found, Mapping):
        raise FileProblem("vars", "wants names with values, as year: 26")
    for name, value in found.items():
        if not isinstance(value, Scalar):
            raise FileProblem(f"vars.{name}", "wants one plain value", hint="a list of values is a matrix")
    return dict(found)


def _filled(value: Any, values: Mapping[str, Scalar], used: set[str]) -> Any:
    if isinstance(value, Mapping):
        return {key: _filled(each, values, used) for key, each in value.items()}
    if isinstance(value, list):
        return [_filled(each, values, used) for each in value]
    if not isinstance(value, str):
        return value
    whole = _PLACE.fullmatch(value)
    if whole and whole[1] in values:
        used.add(whole[1])
        return values[whole[1]]
    return _PLACE.sub(lambda found: _text(found, values, used), value)


def _text(found: re.Match[str], values: Mapping[str, Scalar], used: set[str]) -> str:
    name = found[1]
    if name is None or name not in values:
        return found[0]
    used.add(name)
    value = values[name]
    return str(value).lower() if isinstance(value, bool) else str(value)
