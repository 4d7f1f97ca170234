"""Lists as PostgreSQL's array literals, made in one go.

psycopg asks for the type of every element and dumps each by itself, which was a third of what the API spent on a
report of twenty jobs (B2). Our lists hold plain values of one kind, often thousands of PandaIDs; the statement says
by a cast or by its context which array they are, so the literal goes without a type. One statement is also prepared
once, and not once more for each width of integer that its lists happen to hold.
"""

from collections.abc import Callable
from datetime import date, datetime
from types import NoneType
from typing import Any

import psycopg
from psycopg.adapt import Dumper
from psycopg.errors import DataError


class ArrayDumper(Dumper):
    """`[1, 2]` → `{1, 2}`: numbers, words, bytes, times and None. No list in a list."""

    def dump(self, obj: list[Any]) -> bytes:
        """The literal, in UTF-8.

        Raises:
            DataError: an element of another type, or a word with a NUL.
        """
        return literal(obj).encode()


def literal(values: list[Any]) -> str:
    """The array literal that holds `values`. Raises DataError."""
    if set(map(type, values)) <= {int, float}:
        return f"{{{str(values)[1:-1]}}}"
    return f"{{{','.join([_element(value) for value in values])}}}"


def _element(value: Any) -> str:
    write = _WRITERS.get(type(value))
    if write is None:
        if not isinstance(value, str):  # a member of an enumeration is a word too
            raise DataError(f"no array holds {type(value).__name__}: {value!r:.60}")
        write = _word
    return write(value)


def _word(value: str) -> str:
    if "\x00" in value:
        raise DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes")
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


_WRITERS: dict[type, Callable[[Any], str]] = {
    NoneType: lambda _: "NULL",
    int: str,
    float: str,
    bool: str,
    str: _word,
    bytes: lambda value: f'"\\\\x{value.hex()}"',
    date: lambda value: f'"{value.isoformat()}"',
    datetime: lambda value: f'"{value.isoformat()}"',
}


def register(connection: psycopg.Connection[Any]) -> None:
    """Lists that this connection sends go as literals."""
    connection.adapters.register_dumper(list, ArrayDumper)
