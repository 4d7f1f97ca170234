"""`--query` and `--jq`: a part of the answer, chosen by JMESPath or by jq."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import click

from panda.cli.problems import CommandProblem


def picked(value: Any, *, query: str, jq: str) -> Iterator[Any]:
    """What the expression finds in `value`: one result of JMESPath, or each result of jq.

    Raises:
        click.UsageError: the expression is none. CommandProblem: what reads it is not installed.
    """
    if query:
        yield _jmespath(query)(value)
    else:
        yield from _jq(jq)(value)


def line_of(result: Any) -> str:
    """A result as it is written: a text as it stands, all else as JSON."""
    return result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)


def _jmespath(text: str) -> Callable[[Any], Any]:
    try:
        import jmespath
    except ImportError:
        raise _missing("--query", "jmespath") from None
    try:
        expression = jmespath.compile(text)
    except jmespath.exceptions.JMESPathError as problem:
        raise click.UsageError(f"--query: {str(problem).splitlines()[0]}") from None

    def find(value: Any) -> Any:
        try:
            return expression.search(value)
        except jmespath.exceptions.JMESPathError as problem:
            raise click.UsageError(f"--query: {problem}") from None

    return find


def _jq(text: str) -> Callable[[Any], Iterator[Any]]:
    try:
        import jq
    except ImportError:
        raise _missing("--jq", "jq") from None
    try:
        program = jq.compile(text)
    except ValueError as problem:
        raise click.UsageError(f"--jq: {str(problem).splitlines()[0]}") from None

    def find(value: Any) -> Iterator[Any]:
        try:
            yield from program.input_value(value)
        except ValueError as problem:
            raise click.UsageError(f"--jq: {str(problem).splitlines()[0]}") from None

    return find


def _missing(option: str, package: str) -> CommandProblem:
    return CommandProblem(
        f"{option} wants the package {package}", code="missing_extra", exit_code=1,
        hint="pip install 'panda-wms[query]', or pipe -o json into a program of yours",
    )  # fmt: skip
