"""Selectors, and flags as a document."""

from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from panda.cli.flags import Flags, document_of, laid_over, variables_of
from panda.cli.selectors import MAX_RANGE, Selection, Words, parse


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["7000412958"], Words(jobs=(range(7000412958, 7000412959),))),
        (["100-120"], Words(jobs=(range(100, 121),))),
        (["7,9-10"], Words(jobs=(range(7, 8), range(9, 11)))),
        (["set:9120", "set:9120", "set:1"], Words(jobsets=(9120, 1))),
        (["last"], Words(n_last=1)),
        (["last:3"], Words(n_last=3)),
    ],
)
def test_a_selector_is_read(texts: list[str], expected: Words) -> None:
    assert parse(texts) == expected


@pytest.mark.parametrize(
    "text", ["x", "set:", "set:a", "1-", "-1", "20-10", "1.5", "LAST", "task:4", "٣", "1-99999999"]
)
def test_anything_else_is_a_usage_error(text: str) -> None:
    with pytest.raises(click.UsageError):
        parse([text])


@given(st.integers(1, 10**15), st.integers(0, MAX_RANGE - 1))
def test_a_range_holds_both_its_ends(first: int, n: int) -> None:
    (found,) = parse([f"{first}-{first + n}"]).jobs

    assert (found[0], found[-1], len(found)) == (first, first + n, n + 1)


@given(st.lists(st.integers(1, 10**9), unique=True), st.lists(st.integers(1, 10**9), unique=True, min_size=1))
def test_the_names_of_a_selection_select_it_again(jobs: list[int], jobsets: list[int]) -> None:
    selection = Selection(tuple(jobs), tuple(jobsets))

    words = parse(selection.names)

    assert words.jobsets == selection.jobsets
    assert [job for each in words.jobs for job in each] == jobs


def test_flags_say_what_a_file_says() -> None:
    flags = Flags(
        inputs=["mc26:reco/*.root", "mc26:other"], files_per_job="3", outputs=["user.ann:skim/s_%SEQ.root", "log.txt"],
        cores=4, memory="2GB", env=["A=b=c"], sites=["!BAD"], after=["set:5"], command=["run"], priority=0,
    )  # fmt: skip

    assert document_of(flags) == {
        "defaults": {"cores": 4, "memory": "2GB", "env": {"A": "b=c"}, "priority": 0},
        "inputs": {
            "IN": {"dataset": "mc26:reco", "match": "*.root", "files_per_job": 3},
            "IN2": {"dataset": "mc26:other", "files_per_job": 3},
        },
        "outputs": {
            "OUT": {"dataset": "user.ann:skim", "file": "s_${seq:06d}.root"},
            "OUT2": {"file": "log.txt"},
        },
        "command": ["run"],
        "brokerage": {"sites": ["!BAD"]},
        "depends_on": ["set:5"],
    }


@pytest.mark.parametrize(
    "flags", [Flags(env=["A"]), Flags(files_per_job="2"), Flags(inputs=["a:b"], files_per_job="some")]
)
def test_flags_that_cannot_be_meant_are_usage_errors(flags: Flags) -> None:
    with pytest.raises(click.UsageError):
        document_of(flags)


def test_flags_win_over_the_file() -> None:
    document: dict[str, Any] = {"name": "a", "defaults": {"cores": 1, "memory": "1GB"}, "command": ["x"]}

    joined = laid_over(document, {"defaults": {"cores": 8}, "command": ["y"]})

    assert joined == {"name": "a", "defaults": {"cores": 8, "memory": "1GB"}, "command": ["y"]}


@pytest.mark.parametrize(
    ("text", "value"),
    [("n=4", 4), ("n=4.5", 4.5), ("n=true", True), ("n=no", "no"), ("n=[a]", "[a]"), ("n=", ""), ("n={", "{")],
)
def test_a_set_value_is_a_plain_value(text: str, value: object) -> None:
    assert variables_of([text]) == {"n": value}
