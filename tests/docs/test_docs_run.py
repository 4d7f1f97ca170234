"""Every command block of the README, the tutorial and the how-to pages runs, on one system, as it stands.

The tutorial starts the system and ends it; the other pages run in between, each in a folder of its own. What
cannot run here says so in the source of its page, and what a block needs is made there, too:

    <!-- not run: needs root -->           before a block: why it is left out
    <!-- file: scan.yaml -->               before a block: it is what stands in this file
    <!-- run first: printf 1 > a.txt -->   anywhere before: a line for the shell that readers need not see
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from livesystem import clean_environ, local

ROOT = Path(__file__).parents[2]
TUTORIAL = ROOT / "docs" / "tutorial" / "first-job.md"
HOW_TO = sorted((ROOT / "docs" / "how-to").glob("*.md"))
README = ROOT / "README.md"
#: Blocks that are left out; a new one wants a reason and a look at this number.
N_LEFT_OUT = 26
#: Languages of blocks that run.
RUN = ("sh", "console", "python")

_PIECE = re.compile(
    r"^<!-- (?P<mark>not run|file|run first): (?P<told>.*?) -->$|^```(?P<language>\w*)\n(?P<text>.*?)^```",
    re.MULTILINE | re.DOTALL,
)
_LAST_PART = "\n## End\n"


class Block(NamedTuple):
    """A block of a page, or a line that readers do not see. `left_out`: why it does not run."""

    place: str
    language: str
    text: str
    left_out: str = ""
    file: str = ""


def blocks(page: Path, part: slice = slice(None)) -> Iterator[Block]:
    """The blocks of a page, or of a part of it, in order."""
    text = page.read_text(encoding="utf-8")[part]
    left_out = file = ""
    for piece in _PIECE.finditer(text):
        place = f"{page.relative_to(ROOT)}: {(piece['text'] or piece['told']).splitlines()[0]}"
        if piece["mark"] == "run first":
            yield Block(place, "sh", piece["told"])
        elif piece["mark"] == "not run":
            left_out = piece["told"]
        elif piece["mark"] == "file":
            file = piece["told"]
        else:
            if piece["language"] in RUN or file:
                yield Block(place, piece["language"], piece["text"], left_out, file)
            left_out = file = ""


def script(block: Block) -> str:
    """What a shell is given: of a console the lines after `$`, with those that go on."""
    if block.language != "console":
        return block.text
    lines, goes_on = [], False
    for line in block.text.splitlines():
        if line.startswith("$ ") or goes_on:
            lines.append(line.removeprefix("$ "))
            goes_on = line.endswith("\\")
    return "\n".join(lines)


def ran(block: Block, folder: Path, environ: dict[str, str]) -> str:
    """What a block said. Raises AssertionError: it failed."""
    if block.file:
        (folder / block.file).write_text(block.text, encoding="utf-8")
        return ""
    shell = [sys.executable, "-c"] if block.language == "python" else ["bash", "-e", "-o", "pipefail", "-c"]
    done = subprocess.run([*shell, script(block)], cwd=folder, env=environ, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, f"{block.place} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


@pytest.mark.timeout(600)
def test_every_block_runs(tmp_path: Path) -> None:
    environ = clean_environ() | {"HOME": str(tmp_path)}
    environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environ['PATH']}"
    text = TUTORIAL.read_text(encoding="utf-8")
    end = text.index(_LAST_PART)
    said, wrong = "", []
    try:
        said += "".join(ran(each, tmp_path, environ) for each in blocks(TUTORIAL, slice(end)) if not each.left_out)
        for page in HOW_TO:
            folder = tmp_path / "pages" / page.stem
            folder.mkdir(parents=True)
            (folder / "data").symlink_to(tmp_path / "data")
            try:
                for block in blocks(page):
                    if not block.left_out:
                        ran(block, folder, environ)
            except (AssertionError, subprocess.TimeoutExpired) as problem:
                wrong.append(str(problem))
        said += "".join(ran(each, tmp_path, environ) for each in blocks(TUTORIAL, slice(end, None)))
    finally:
        local("down", "--data", str(tmp_path / "data"))

    assert "\n\n".join(wrong) == ""
    for line in ("hello from PanDA", "no such calibration", "needs 64 cores", "every invariant holds"):
        assert line in said


def test_what_the_readme_shows_is_what_the_tutorial_runs() -> None:
    tutorial = "\n".join(script(each) for each in blocks(TUTORIAL)).splitlines()
    shown = [line for each in blocks(README) if not each.left_out for line in script(each).splitlines()]

    assert shown
    assert set(shown) - set(tutorial) == set()


def test_blocks_that_are_left_out_are_counted_and_say_why() -> None:
    left_out = [each for page in (README, TUTORIAL, *HOW_TO) for each in blocks(page) if each.left_out]

    assert all(len(each.left_out) > 8 for each in left_out)
    assert len(left_out) == N_LEFT_OUT, "\n".join(f"{each.place} ({each.left_out})" for each in left_out)
