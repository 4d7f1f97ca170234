"""A tree becomes a condition: constant pieces of SQL of ours, and values that are bound."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from panda.query.fields import Kind
from panda.query.tree import Ago, And, Comparison, Expression, Not, Op, Or, Pattern, Span, Value

_ARRAY = {Kind.WHOLE: "bigint[]", Kind.NUMBER: "float8[]", Kind.TIME: "timestamptz[]", Kind.FLAG: "boolean[]"}
_ONE = {Kind.WHOLE: "bigint", Kind.NUMBER: "float8", Kind.TIME: "timestamptz"}
_ESCAPED = str.maketrans({"\\": "\\\\", "%": "\\%", "_": "\\_", "*": "%"})


class Condition(NamedTuple):
    """SQL over the row `r` with psycopg's marks, and the values of these. Its answer may be NULL, which is no."""

    sql: str
    values: Mapping[str, Any]


def condition(expression: Expression, prefix: str = "q") -> Condition:
    """The condition that an expression means; `prefix` begins the names of its marks."""
    maker = _Maker(prefix)
    return Condition(maker.of(expression), maker.values)


class _Maker:
    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self.values: dict[str, Any] = {}

    def of(self, expression: Expression) -> str:
        if isinstance(expression, And):
            return "(" + " AND ".join(self.of(part) for part in expression.parts) + ")" if expression.parts else "true"
        if isinstance(expression, Or):
            return "(" + " OR ".join(self.of(part) for part in expression.parts) + ")"
        if isinstance(expression, Not):
            return f"({self.of(expression.part)} IS NOT TRUE)"
        return self._test(expression)

    def _test(self, test: Comparison) -> str:
        if test.op in (Op.IS, Op.IS_NOT):
            found = " OR ".join(self._one_of(test))
            return f"(({found}) IS NOT TRUE)" if test.op is Op.IS_NOT else f"({found})"
        return f"({test.field.sql} {test.op.value} {self._bound(test.values[0])}::{_ONE[test.field.kind]})"

    def _one_of(self, test: Comparison) -> list[str]:
        sql, kind = test.field.sql, test.field.kind
        plain = [value for value in test.values if _is_plain(value)]
        patterns = [value.text.translate(_ESCAPED) for value in test.values if isinstance(value, Pattern)]
        found = []
        if plain and kind is Kind.WORDS:
            found.append(f"{sql} && {self._bound(plain)}::text[]")
        elif plain:
            found.append(f"{sql} = ANY({self._bound(plain)}::{_ARRAY.get(kind, 'text[]')})")
        if patterns:
            found.append(f"{sql} LIKE ANY({self._bound(patterns)}::text[])")
        if None in test.values:
            found.append(f"{sql} IS NULL")
        return found + [self._within(sql, value) for value in test.values if isinstance(value, Ago | Span)]

    def _within(self, sql: str, value: Ago | Span) -> str:
        if isinstance(value, Ago):
            return f"{sql} >= (SELECT panda_now()) - make_interval(secs => {self._bound(float(value.seconds))})"
        bounds = [] if value.since is None else [f"{sql} >= {self._bound(value.since)}::timestamptz"]
        bounds += [] if value.until is None else [f"{sql} < {self._bound(value.until)}::timestamptz"]
        return f"({' AND '.join(bounds)})"

    def _bound(self, value: Value | Sequence[Any]) -> str:
        name = f"{self._prefix}{len(self.values)}"
        self.values[name] = value
        return f"%({name})s"


def _is_plain(value: Value) -> bool:
    return isinstance(value, str | int | float | datetime)
