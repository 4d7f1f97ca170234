"""The Procfile is read without a shell."""

import sys
from pathlib import Path

import pytest

from panda.errors import ConfigError
from panda.local import procfile
from panda.local.shipped import shipped


def test_ours_lists_the_seven_processes_and_each_can_be_filled_in():
    lines = procfile.read(shipped("Procfile"))
    variables = {f"PANDA_API_{name}": "1" for name in ("HOST", "PORT", "WORKERS", "BLOCKING_THREADS")}

    commands = {name: procfile.command(line, variables) for name, line in lines.items()}

    assert list(commands) == ["api", "stages", "data", "beat", "relay", "pilots", "monitor"]
    assert {words[0] for words in commands.values()} == {sys.executable}
    assert [name for name, words in commands.items() if procfile.is_worker(words)] == ["stages", "data"]


def test_a_variable_with_a_blank_stays_one_word():
    assert procfile.command("/bin/echo $WORD '${WORD} b'", {"WORD": "a ;"}) == ["/bin/echo", "a ;", "a ; b"]


def test_comments_and_empty_lines_are_passed_over(tmp_path: Path):
    file = tmp_path / "Procfile"
    file.write_text("# the face\n\napi: python -m a\n")

    assert procfile.read(file) == {"api": "python -m a"}


@pytest.mark.parametrize("text", ["api python", "api:", "api: a\napi: b", "Api one: a"])
def test_a_line_that_is_none_is_refused_with_its_number(tmp_path: Path, text: str):
    file = tmp_path / "Procfile"
    file.write_text(text)

    with pytest.raises(ConfigError, match=r"line \d"):
        procfile.read(file)


@pytest.mark.parametrize(
    ("line", "why"),
    [("python $NOWHERE", "NOWHERE is not set"), ("python 'a", "quotation"), ("no-such-thing a", "not installed")],
)
def test_a_command_that_cannot_be_made_says_why(line: str, why: str):
    with pytest.raises(ConfigError, match=why):
        procfile.command(line, {})
