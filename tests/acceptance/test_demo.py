"""`make demo`: the main job, on a system of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from livesystem import clean_environ, local

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def data(tmp_path):
    """The demo's folder; whatever it leaves running is ended."""
    yield tmp_path / "demo"
    local("down", "--data", str(tmp_path / "demo"))


@pytest.mark.timeout(300)
def test_the_demo_counts_what_a_direct_count_counts(data):
    done = subprocess.run(
        [sys.executable, "examples/demo.py"], cwd=REPOSITORY, capture_output=True, text=True, timeout=280,
        env=clean_environ() | {"DATA": os.fspath(data)},
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    assert "the counts agree" in done.stdout
    assert "DIFFERS" not in done.stdout
