"""What a noun may be filtered by: its fields, each with its kind, its column, and what asking it costs."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum


class Kind(StrEnum):
    """What values a field has, and so which comparisons make sense."""

    TEXT = "text"  #: equal or not; `*` in an unquoted value stands for anything
    WORD = "word"  #: one of a closed list
    WORDS = "words"  #: a set of texts; equal means: it is among them
    WHOLE = "whole"  #: a whole number
    NUMBER = "number"
    TIME = "time"  #: an instant; `24h` is the last 24 hours, `2026-11-20/2026-11-22` an interval
    FLAG = "flag"  #: true or false


class Cost(StrEnum):
    """What a field costs a list that filters by it. Nothing ever costs more than a page's window of rows."""

    INDEX = "index"  #: equality goes straight to the rows
    ROW = "row"  #: each row of the window is looked at
    PROBE = "probe"  #: one look into another table for each row of the window


@dataclass(frozen=True, slots=True)
class Field:
    """One field. `sql` is a constant expression over the row `r` of its noun."""

    name: str
    kind: Kind
    sql: str
    about: str = ""
    cost: Cost = Cost.ROW
    is_nullable: bool = False
    words: tuple[str, ...] = ()
    """The closed list of a WORD."""
    aliases: tuple[str, ...] = ()


class Fields(Mapping[str, Field]):
    """The fields of a noun, by name."""

    def __init__(self, *fields: Field) -> None:
        self._by_name = {field.name: field for field in fields}
        self._by_any = {alias: field for field in fields for alias in (field.name, *field.aliases)}
        if len(self._by_any) != sum(1 + len(field.aliases) for field in fields):
            raise ValueError("two fields have one name")

    def __getitem__(self, name: str) -> Field:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def find(self, name: str) -> Field | None:
        """The field of that name or alias."""
        return self._by_any.get(name.lower())

    def nearest(self, name: str) -> str:
        """`did you mean …?`, or the list of what there is."""
        near = get_close_matches(name.lower(), list(self._by_any), n=1)
        return f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(sorted(self))}"
