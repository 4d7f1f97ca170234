"""A filter as a typed tree: tests of fields, joined by and, or, not."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from panda.query.fields import Field


class Op(StrEnum):
    """A comparison; `:` is written for equality as well."""

    IS = "="
    IS_NOT = "!="
    BELOW = "<"
    AT_MOST = "<="
    ABOVE = ">"
    AT_LEAST = ">="


@dataclass(frozen=True, slots=True)
class Pattern:
    """A text in which `*` stands for anything."""

    text: str


@dataclass(frozen=True, slots=True)
class Ago:
    """From so many seconds ago until now."""

    seconds: int


@dataclass(frozen=True, slots=True)
class Span:
    """From an instant until before another; UTC. None: without a bound."""

    since: datetime | None
    until: datetime | None


#: None is the absence of a value.
Value = str | int | float | bool | datetime | Pattern | Ago | Span | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """A field is (not) one of these values, or below or above the one value."""

    field: Field
    op: Op
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class And:
    """All of these; without parts: everything."""

    parts: tuple["Expression", ...]


@dataclass(frozen=True, slots=True)
class Or:
    """Any of these."""

    parts: tuple["Expression", ...]


@dataclass(frozen=True, slots=True)
class Not:
    """What that is not."""

    part: "Expression"


Expression = Comparison | And | Or | Not

EVERYTHING = And(())


def all_of(*parts: Expression) -> Expression:
    """What all of them say; those that say nothing are left out."""
    said = tuple(part for part in parts if part != EVERYTHING)
    return said[0] if len(said) == 1 else And(said)


def equal_to(field: Field, *values: Value) -> Comparison:
    """`field` is one of `values`."""
    return Comparison(field, Op.IS, values)


def settled(expression: Expression, now: datetime) -> Expression:
    """The same with `24h` meant from `now` on for ever, so that it says the same tomorrow."""
    if isinstance(expression, And | Or):
        return type(expression)(tuple(settled(part, now) for part in expression.parts))
    if isinstance(expression, Not):
        return Not(settled(expression.part, now))
    return Comparison(expression.field, expression.op, tuple(_settled(value, now) for value in expression.values))


def _settled(value: Value, now: datetime) -> Value:
    if not isinstance(value, Ago):
        return value
    try:
        return Span(now - timedelta(seconds=value.seconds), None)
    except OverflowError:
        return Span(datetime.min.replace(tzinfo=UTC), None)


def conjuncts(expression: Expression) -> Iterator[Expression]:
    """What has to hold in any case."""
    for part in expression.parts if isinstance(expression, And) else (expression,):
        if isinstance(part, And):
            yield from conjuncts(part)
        else:
            yield part


def words_of(expression: Expression, name: str) -> Sequence[str | int | bool] | None:
    """The plain values, one of which field `name` has in any case; None: nothing is sure."""
    found: Sequence[str | int | bool] | None = None
    for part in conjuncts(expression):
        if isinstance(part, Comparison) and part.field.name == name and part.op is Op.IS:
            plain = [value for value in part.values if isinstance(value, str | int)]
            if len(plain) == len(part.values):
                found = plain if found is None else [value for value in plain if value in found]
    return found
