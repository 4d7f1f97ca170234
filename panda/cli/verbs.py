"""What all verbs share: help that starts with examples, commands that load when they are asked for."""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, NamedTuple, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


class Verb(click.Command):
    """A command whose help shows examples before anything else."""

    def __init__(self, *args: Any, examples: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = tuple(examples)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_examples(formatter, self.examples)
        super().format_help(ctx, formatter)


class VerbGroup(click.Group):
    """A verb that has others below it; without one it does its own work."""

    def __init__(self, *args: Any, examples: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = tuple(examples)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_examples(formatter, self.examples)
        super().format_help(ctx, formatter)


def write_examples(formatter: click.HelpFormatter, examples: Sequence[str]) -> None:
    """Write the examples as they would be typed; never wrapped, so that they can be copied."""
    if examples:
        formatter.write("Examples:\n")
        for example in examples:
            formatter.write(f"  {example}\n")
        formatter.write_paragraph()


class Entry(NamedTuple):
    """Where a verb lives, and the line that the list of verbs shows of it."""

    section: str
    module: str
    attribute: str
    summary: str
    hidden: bool = False


class LazyGroup(click.Group):
    """A group that knows its verbs by name and summary, and imports one only to run it."""

    def __init__(self, *args: Any, verbs: Mapping[str, Entry], examples: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.verbs = verbs
        self.examples = tuple(examples)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name, entry in self.verbs.items() if not entry.hidden]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = self.verbs.get(cmd_name)
        if entry is None:
            return None
        command: click.Command = getattr(import_module(entry.module), entry.attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in self.verbs and not name.startswith("-"):
            raise click.UsageError(f"there is no verb {name!r}{_near(name, list(self.verbs))}", ctx)
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_examples(formatter, self.examples)
        super().format_help(ctx, formatter)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            sections.setdefault(self.verbs[name].section, []).append((name, self.verbs[name].summary))
        for section, lines in sections.items():
            with formatter.section(section):
                formatter.write_dl(lines)


def _near(name: str, known: Sequence[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
