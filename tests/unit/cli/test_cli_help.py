"""The verbs: their help, and what loading them costs."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from panda.cli.main import EXAMPLES, VERBS, panda, wants_json
from panda.cli.verbs import Verb, VerbGroup

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


def every_verb() -> list[tuple[str, click.Command]]:
    """Verbs, groups of verbs, and the verbs of these."""
    found = []
    context = click.Context(panda)
    for name in VERBS:
        command = panda.get_command(context, name)
        assert command is not None
        found.append((name, command))
        if isinstance(command, click.Group):
            found += [(f"{name} {inner}", each) for inner, each in command.commands.items()]
    return found


@pytest.mark.parametrize(("name", "command"), every_verb())
def test_the_help_of_every_verb_starts_with_examples_of_it(name: str, command: click.Command) -> None:
    assert isinstance(command, Verb | VerbGroup)
    # as in earnest: a command keeps the help option that it is first asked for
    text = command.get_help(click.Context(command, info_name=name, **panda.context_settings))

    assert text.startswith("Examples:\n  ")
    assert len(command.examples) >= 2
    assert any(f"panda {name}" in line for line in command.examples) or name == "st"
    assert command.help


def calls_in(example: str) -> list[list[str]]:
    """The words of each call of `panda` in a line for the shell."""
    inner = re.findall(r"\$\((panda [^)]*)\)", example)
    lexer = shlex.shlex(re.sub(r"\$\([^)]*\)", "X", example), posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    calls: list[list[str]] = [[]]
    for word in lexer:
        if word and set(word) <= set("|&;<>"):
            calls.append([])
        else:
            calls[-1].append(word)
    commands = [[word for word in call if not re.match(r"PANDA_\w+=", word)] for call in calls]
    found = [words[1:] for words in commands if words and words[0] == "panda"]
    return found + [words for line in inner for words in calls_in(line)]


@pytest.mark.parametrize(
    ("example", "calls"),
    [
        ("panda jobs -q | panda logs -   # theirs", [["jobs", "-q"], ["logs", "-"]]),
        ("panda health -o json || echo 'it is not well'", [["health", "-o", "json"]]),
        ("PANDA_TOKEN_FILE=other.token panda whoami > who", [["whoami"]]),
        ('$EDITOR "$(panda config path)"', [["config", "path"]]),
    ],
)
def test_calls_are_found_in_examples(example: str, calls: list[list[str]]) -> None:
    assert calls_in(example) == calls


def parsed(command: click.Command, words: list[str], name: str, parent: click.Context | None = None) -> None:
    """Read a command line and run nothing. Raises click.UsageError."""
    settings = {} if parent else panda.context_settings
    with command.make_context(name, list(words), parent=parent, **settings) as context:
        rest = [*context._protected_args, *context.args]
        if isinstance(command, click.Group) and rest:
            inner, below, words = command.resolve_command(context, rest)
            assert below is not None
            parsed(below, words, str(inner), context)


def every_example() -> list[str]:
    """Lines for the shell; one that goes on below is one."""
    found = [EXAMPLES, *(getattr(command, "examples", ()) for _, command in every_verb())]
    return [line for examples in found for line in "\n".join(examples).replace("\\\n", " ").splitlines()]


@pytest.mark.parametrize("example", every_example())
def test_every_example_can_be_read(example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(click.Path, "convert", lambda self, value, *_: value)  # no file of it need be here
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "panda").mkdir()
    (tmp_path / "panda" / "config.toml").write_text("[profiles.lab]\n")
    calls = calls_in(example)

    for words in calls:
        parsed(panda, words, "panda")

    assert calls


def test_an_example_with_an_option_that_there_is_not_is_found() -> None:
    for words in (["jobs", "--nonsense"], ["nonsense"], ["token", "nonsense"]):
        with pytest.raises(click.UsageError):
            parsed(panda, words, "panda")


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
