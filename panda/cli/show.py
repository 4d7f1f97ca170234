"""What a command found, as a person or a program wants to read it.

On a terminal a list is a table (rich, imported only there). In a pipe it is plain: one line per thing,
tabs between the fields, nothing cut, no colours, times in ISO 8601 UTC.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar, cast

import click

FORMATS = ("table", "plain", "json", "jsonl", "csv", "name")

Item = Mapping[str, Any]
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Column:
    """A field of an item (dots lead inwards) and how people read it."""

    field: str
    title: str = ""
    kind: str = "text"  #: text, status, time, bytes, number or bar

    @property
    def head(self) -> str:
        return self.title or self.field.rpartition(".")[2].replace("_", " ")


@dataclass(frozen=True)
class Look:
    """What was asked for with -o, --fields and -q."""

    form: str = ""
    fields: tuple[str, ...] = ()
    query: str = ""
    jq: str = ""

    @property
    def chosen(self) -> str:
        """The form that is written; without -o it goes by where it is written to."""
        if self.query or self.jq:
            return "json"
        return self.form or ("table" if sys.stdout.isatty() else "plain")

    @property
    def is_for_people(self) -> bool:
        return self.chosen == "table"


#: A part of the answer, for `panda api` too.
PICKING = (
    click.option("--jq", default="", metavar="EXPR", help="Of the answer as JSON, what jq finds."),
    click.option("--query", default="", metavar="EXPR", help="Of the answer as JSON, what JMESPath finds."),
)


def configured_form() -> str | None:
    """How to write, as the files of settings say; asked where neither -o nor PANDA_OUTPUT does."""
    from panda.cli.session import configuration

    return configuration().get("output").value or None


def output_options(command: F) -> F:
    """-o, --fields, -q, --query and --jq; the command gets a `look`."""

    @wraps(command)
    def with_look(*args: Any, form: str | None, fields: str, quiet: bool, query: str, jq: str, **kwargs: Any) -> Any:
        chosen = tuple(field.strip() for field in fields.split(",") if field.strip())
        if (query and jq) or (quiet and (query or jq)):
            raise click.UsageError("--query, --jq and -q: one of them")
        return command(*args, look=Look("name" if quiet else form or "", chosen, query, jq), **kwargs)

    wrapped: Any = with_look
    for option in (
        *PICKING,
        click.option("-q", "--quiet", is_flag=True, help="Names only; the same as -o name."),
        click.option("--fields", default="", metavar="A,B", help="These fields only; a.b leads inwards."),
        click.option(
            "-o", "--format", "form", type=click.Choice(FORMATS), envvar="PANDA_OUTPUT", default=configured_form,
            help="How to write.",
        ),
    ):  # fmt: skip
        wrapped = option(wrapped)
    return cast(F, wrapped)


def emit(
    look: Look, items: Iterable[Item], columns: Sequence[Column], name: Callable[[Item], str], *, single: bool = False
) -> int:
    """Write `items`; returns how many.

    Args:
        name: what -q prints, and what other commands take as a selector.
        single: -o json writes the one item, not a list.
    """
    chosen = tuple(Column(field) for field in look.fields) or tuple(columns)
    counted = _Counted(_checked(items, look.fields))
    form = look.chosen
    if look.query or look.jq:
        _write_picked(look, [_picked(item, look.fields) for item in counted], single)
    elif form == "json":
        _write_json([_picked(item, look.fields) for item in counted], single)
    elif form == "jsonl":
        _write_jsonl(_picked(item, look.fields) for item in counted)
    elif form == "csv":
        _write_csv(counted, chosen)
    elif form == "name":
        for item in counted:
            click.echo(name(item))
    elif form == "plain":
        for item in counted:
            click.echo("\t".join(plain(value_of(item, column.field)) for column in chosen))
    elif sys.stdout.isatty():
        from panda.cli.tables import write_table

        write_table(counted, chosen)
    else:
        _write_aligned(counted, chosen)
    return counted.n


class _Counted:
    def __init__(self, items: Iterable[Item]) -> None:
        self._items, self.n = items, 0

    def __iter__(self) -> Iterator[Item]:
        for item in self._items:
            self.n += 1
            yield item


def _checked(items: Iterable[Item], fields: Sequence[str]) -> Iterator[Item]:
    for item in items:
        for field in fields:
            if field.partition(".")[0] not in item:
                from difflib import get_close_matches

                near = get_close_matches(field, list(item), n=1) or [", ".join(item)]
                raise click.UsageError(f"there is no field {field!r}; there is {near[0]}")
        yield item


def value_of(item: Item, field: str) -> Any:
    """The value of a field, `a.b` being `b` inside `a`; None where there is none."""
    value: Any = item
    for part in field.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(part)
    return value


def plain(value: Any) -> str:
    """A value on one line, without tabs and without anything that a terminal would obey."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return ",".join(plain(each) for each in value)
    if isinstance(value, Mapping):
        return ",".join(f"{key}={plain(each)}" for key, each in value.items())
    return "".join(" " if ord(char) < 32 or 127 <= ord(char) < 160 else char for char in str(value))


def _picked(item: Item, fields: Sequence[str]) -> Item:
    return {field: value_of(item, field) for field in fields} if fields else item


def _write_picked(look: Look, items: Sequence[Item], single: bool) -> None:
    from panda.cli.picking import line_of, picked

    for result in picked(items[0] if single and items else list(items), query=look.query, jq=look.jq):
        click.echo(line_of(result))


def _write_json(items: Sequence[Item], single: bool) -> None:
    import json

    click.echo(json.dumps(items[0] if single and items else items, indent=2, ensure_ascii=False))


def _write_jsonl(items: Iterable[Item]) -> None:
    import json

    for item in items:
        click.echo(json.dumps(item, ensure_ascii=False))


def _write_csv(items: Iterable[Item], columns: Sequence[Column]) -> None:
    import csv

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([column.field for column in columns])
    for item in items:
        writer.writerow([plain(value_of(item, column.field)) for column in columns])


def _write_aligned(items: Iterable[Item], columns: Sequence[Column]) -> None:
    """`-o table` in a pipe: aligned, nothing cut."""
    lines = [[column.head.upper() for column in columns]]
    lines += [[plain(value_of(item, column.field)) for column in columns] for item in items]
    widths = [max(len(line[number]) for line in lines) for number in range(len(columns))]
    for line in lines:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def say(sentence: str) -> None:
    """Talk: to stderr, so that stdout stays data."""
    click.echo(sentence, err=True)
