"""Sizes are written in one way, and exactly: they are compared."""

import pytest

from panda.names import amount, amount_of, megabytes


@pytest.mark.parametrize(
    ("n_mb", "told"),
    [(0, "0 MB"), (999, "999 MB"), (1000, "1 GB"), (1500, "1.5 GB"), (16_001, "16.001 GB"), (900_000, "900 GB"),
     (2_500_000, "2.5 TB")],
)  # fmt: skip
def test_a_size_is_told_by_powers_of_a_thousand(n_mb, told):
    assert megabytes(n_mb) == told


def test_what_is_asked_for_is_told_with_its_unit():
    assert [amount_of("memory_mb", 16_000), amount_of("cores", 4), amount_of("walltime_s", 60), amount_of("gpus", 1)] == [
        "16 GB of memory", "4 cores", "60 s of wall time", "1 GPUs",
    ]  # fmt: skip
    assert [amount("disk_mb", 900_000), amount("walltime_s", 60), amount("cores", 4)] == ["900 GB", "60 s", "4"]
