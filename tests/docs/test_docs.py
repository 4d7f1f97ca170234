"""What the documentation says can be followed: links lead somewhere, commands exist. (`test_docs_run` runs them.)"""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from panda.cli.main import panda

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
#: Written by hand; the others are made from the code.
WRITTEN = [page for page in PAGES if page.parent.name != "reference"]

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_PATH = re.compile(r"`((?:panda|workflows|pilot|monitoring|config|tests|docs|examples|benchmarks)/[\w./-]+?)/?`")
_CALL = re.compile(r"(?:^|[|&;(]\s*|\$ |bin/)panda ((?:(?!\s--\s|\s--$|[|&;)#>]).)*)", re.MULTILINE)
_TARGET = re.compile(r"(?:^|`)make ([a-z]+)", re.MULTILINE)


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def shell(page: Path) -> Iterator[str]:
    """The pieces of a page that a shell would read: blocks, and words in backticks."""
    text = page.read_text(encoding="utf-8")
    for language, block in _BLOCK.findall(text):
        if language in ("sh", "console"):
            yield re.sub(r"\\\n\s*", " ", block)
    for words in _INLINE.findall(_BLOCK.sub("", text)):
        yield words.replace("\\|", "|")  # a bar in a table


def headings(page: Path) -> set[str]:
    """The anchors of a page, as a reader of Markdown makes them."""
    text = _BLOCK.sub("", page.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def command_named(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that the first words name, and the words that follow. Raises KeyError: there is none."""
    command: click.Command = panda
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(click.Context(command), words[0])
        if found is None:
            raise KeyError(words[0])
        command, words = found, words[1:]
    return command, words


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_leads_to_a_file_and_a_heading(page):
    for target in _LINK.findall(page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        there = (page.parent / file).resolve() if file else page
        assert there.exists(), target
        assert not anchor or anchor in headings(there), target


@pytest.mark.parametrize("page", WRITTEN, ids=name)
def test_every_file_that_is_named_is_there(page):
    missing = {path for path in _PATH.findall(page.read_text(encoding="utf-8")) if not (ROOT / path).exists()}

    assert missing == set()


@pytest.mark.parametrize("page", WRITTEN, ids=name)
def test_every_command_that_is_named_exists_with_its_options(page):
    for piece in shell(page):
        for call in _CALL.findall(piece):
            words = shlex.split(call.replace("…", ""))
            command, rest = command_named(words)
            known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
            used = {word.partition("=")[0] for word in rest if re.match(r"--?[a-z]", word)}
            assert used <= known, f"panda {call}"


@pytest.mark.parametrize("page", WRITTEN, ids=name)
def test_every_target_of_make_that_is_named_exists(page):
    targets = set(re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))

    assert {target for piece in shell(page) for target in _TARGET.findall(piece)} <= targets


def test_pictures_are_small():
    large = {name(file): file.stat().st_size for file in (ROOT / "docs" / "images").iterdir()}

    assert {file: size for file, size in large.items() if size > 300_000} == {}
