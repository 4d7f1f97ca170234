"""Reading YAML, JSON and JSON Lines."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from panda.cli.documents import as_yaml, parse_yaml, read
from panda.cli.problems import FileProblem


@pytest.mark.parametrize(
    "word", ["yes", "no", "on", "off", "Yes", "NO", "y", "n", "6:30", "2026-01-01", "1_000", "=", "0b11"]
)
def test_words_that_old_yaml_reads_as_something_else_stay_words(word: str) -> None:
    assert parse_yaml(f"value: {word}") == {"value": word}


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", True), ("False", False), ("12", 12), ("012", 12), ("0x1f", 31), ("0o17", 15), ("1.5", 1.5), ("1e3", 1e3),
     ("~", None), ("", None), ('"12"', "12")],
)  # fmt: skip
def test_plain_values_are_read_as_yaml_1_2_says(text: str, value: object) -> None:
    assert parse_yaml(f"value: {text}") == {"value": value}


def test_a_key_that_stands_twice_is_an_error() -> None:
    with pytest.raises(yaml.YAMLError, match="stands here twice"):
        parse_yaml("a: 1\na: 2")


@pytest.mark.parametrize("text", ["!!python/object/apply:os.system [ls]", "!!python/name:os.system"])
def test_a_tag_that_would_run_something_is_an_error(text: str) -> None:
    with pytest.raises(yaml.YAMLError):
        parse_yaml(text)


#: PyYAML folds the rare line ends (NEL, U+2028) that no job set holds.
printable = st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"])
scalars = st.none() | st.booleans() | st.integers() | st.text(alphabet=printable, max_size=12)
words = st.sampled_from(
    ["no", "on", "1e5", "0o17", "6:30", "012", "null", "~", "2026-01-01", "<<", "1_0", " x", "- a", "#"]
)


@given(st.dictionaries(st.text("abc", min_size=1), scalars | words | st.lists(words), max_size=4))
def test_what_is_written_is_read_again(document: dict[str, Any]) -> None:
    written = as_yaml(document)

    assert parse_yaml(written) == document
    assert yaml.safe_load(written) == document


def test_json_lines_are_one_job_per_line(tmp_path: Path) -> None:
    file = tmp_path / "jobs.jsonl"
    file.write_text('{"command": ["a"]}\n\n{"command": ["b"]}\n')

    assert read(str(file)) == {"jobs": [{"command": ["a"]}, {"command": ["b"]}]}


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.yaml", b"a: [1", "expected"),
        ("a.yaml", b"- 1", "is no job set"),
        ("a.json", b"{", "Expecting"),
        ("a.yaml", b"\xff\xfe\x00", "is not UTF-8"),
        ("a.jsonl", b'{"command": ["a"]}\n{', "line 2"),
        ("a.yaml", b"", "is no job set"),
    ],
)
def test_a_file_that_is_no_document_is_an_error_that_names_it(
    tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    (tmp_path / name).write_bytes(content)

    with pytest.raises(FileProblem, match=says) as refused:
        read(str(tmp_path / name))

    assert name in str(refused.value)


def test_a_file_that_is_not_there_is_an_error() -> None:
    with pytest.raises(FileProblem, match="No such file"):
        read("/nowhere/jobs.yaml")
