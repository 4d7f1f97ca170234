"""The verbs: their help, and what loading them costs."""

import json
import subprocess
import sys

import click
import pytest

from panda.cli.main import VERBS, panda, wants_json
from panda.cli.verbs import Verb

HEAVY = ("sqlalchemy", "celery", "falcon", "httpx", "rich", "psycopg", "redis", "yaml", "jinja2")


def loaded_after(code: str) -> set[str]:
    """The modules that a fresh interpreter has after `code`."""
    program = f"import sys\n{code}\nimport json\nsys.stderr.write(json.dumps(sorted(sys.modules)))"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(json.loads(ended.stderr))


def test_the_client_loads_nothing_heavy_and_nothing_else_of_panda() -> None:
    loaded = loaded_after("import panda.client")

    assert loaded.isdisjoint([*HEAVY, "http.client", "ssl", "click"])
    assert {name for name in loaded if name.startswith("panda.") and not name.startswith("panda.client")} == set()


def test_help_loads_nothing_heavy_and_no_verb() -> None:
    loaded = loaded_after("from panda.cli.main import run\nrun(['--help'])")

    assert loaded.isdisjoint([*HEAVY, "msgspec", "panda.client", "http.client"])
    assert not any(name.startswith("panda.cli.commands.") for name in loaded)


def test_a_verb_that_lists_loads_no_server_and_no_rich() -> None:
    loaded = loaded_after("from panda.cli.main import run\nrun(['--url', 'http://127.0.0.1:1', 'jobs', '--help'])")

    assert loaded.isdisjoint(["sqlalchemy", "celery", "falcon", "httpx", "rich", "psycopg", "redis"])


def leaves() -> list[tuple[str, click.Command]]:
    found = []
    context = click.Context(panda)
    for name in VERBS:
        command = panda.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            found += [(f"{name} {inner}", each) for inner, each in command.commands.items()]
        else:
            found.append((name, command))
    return found


@pytest.mark.parametrize(("name", "command"), leaves())
def test_the_help_of_every_verb_starts_with_examples_of_it(name: str, command: click.Command) -> None:
    assert isinstance(command, Verb)
    # as in earnest: a command keeps the help option that it is first asked for
    text = command.get_help(click.Context(command, info_name=name, **panda.context_settings))

    assert text.startswith("Examples:\n  ")
    assert len(command.examples) >= 2
    assert any(f"panda {name}" in line for line in command.examples) or name == "st"
    assert command.help


@pytest.mark.parametrize("name", VERBS)
def test_the_list_of_verbs_names_what_can_be_loaded(name: str) -> None:
    assert panda.get_command(click.Context(panda), name) is not None
    assert VERBS[name].summary.endswith(".")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["jobs", "-o", "json"], True),
        (["jobs", "-ojsonl"], True),
        (["jobs", "--format=json"], True),
        (["jobs", "-o", "csv"], False),
        (["submit", "--", "x", "-o", "json"], False),
        (["jobs"], False),
        (["jobs", "-o"], False),
    ],
)
def test_errors_are_json_when_the_results_would_be(words: list[str], expected: bool) -> None:
    assert wants_json(words) is expected
