"""Sizes and times."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from panda.cli.units import megabytes, seconds


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("500MB", 500), ("16GB", 16_000), ("16 gb", 16_000), ("1.5GB", 1_500), ("1GiB", 1_074), ("2TB", 2_000_000),
        ("1B", 1), ("999kB", 1), ("512MiB", 537),
    ],
)  # fmt: skip
def test_a_size_is_megabytes_rounded_up(text: str, expected: int) -> None:
    assert megabytes(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("6h", 21_600), ("90min", 5_400), ("1h30m", 5_400), ("1.5d", 129_600), ("2 h 5 s", 7_205), ("0.2s", 1)],
)
def test_a_time_is_seconds_rounded_up(text: str, expected: int) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("value", ["16", 16, 1.5, "16G", "GB", "", "-1GB", "16GB!", None, True, "1e3GB", ["1GB"]])
def test_a_size_without_a_unit_is_refused_with_an_example(value: object) -> None:
    with pytest.raises(ValueError, match="write for example 500MB"):
        megabytes(value)


@pytest.mark.parametrize("value", ["6", 6, "6 o'clock", "h", "", "1:30", "-1h", "1h30", None])
def test_a_time_without_a_unit_is_refused_with_an_example(value: object) -> None:
    with pytest.raises(ValueError, match="write for example 30min"):
        seconds(value)


@given(st.integers(0, 10**9))
def test_whole_megabytes_and_seconds_come_back_as_they_were(n: int) -> None:
    assert megabytes(f"{n}MB") == n
    assert seconds(f"{n}s") == n
    assert seconds(f"{n}h{n}m") == n * 3660


@given(st.text(max_size=30))
def test_any_text_is_a_size_or_a_refusal(text: str) -> None:
    try:
        assert megabytes(text) >= 0
    except ValueError as problem:
        assert "write for example" in str(problem)
