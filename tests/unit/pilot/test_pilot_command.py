"""The pilot as a command: arguments, and the one file that sites start."""

import subprocess
import sys

import pytest
from conftest import ROOT

from pilot import __main__, __version__, build
from pilot.client import Backoff


def test_the_archive_runs_alone_and_is_the_same_every_time(tmp_path):
    build.build(tmp_path / "a.pyz")
    build.build(tmp_path / "b.pyz")

    assert (tmp_path / "a.pyz").read_bytes() == (tmp_path / "b.pyz").read_bytes()
    assert (tmp_path / "a.pyz").read_bytes().startswith(b"#!/usr/bin/env python3\n")
    said = subprocess.run(
        [sys.executable, "-I", "-S", tmp_path / "a.pyz", "--version"], check=True, capture_output=True
    )
    assert said.stdout.decode() == f"pilot {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "--queue"),
        (["--queue", "Q", "--work", "w", "--cores", "0"], "1 or more"),
        (["--queue", "Q", "--work", "w", "--idle-s", "x"], "--idle-s"),
        (["--queue", "Q", "--work", "w"], "--url"),
        (["--queue", "Q", "--work", "w", "--url", "http://x"], "no token"),
        (["--queue", "Q", "--work", "w", "--url", "http://x", "--token-file", "/nowhere"], "/nowhere"),
        (["--queue", "Q", "--work", "/proc/x", "--url", "http://x", "--token-file", "TOKEN"], "/proc/x"),
        (["--queue", "Q", "--work", "w", "--url", "gopher://x", "--token-file", "TOKEN"], "gopher"),
    ],
)
def test_bad_arguments_are_named(arguments, complaint, tmp_path, monkeypatch, capsys):
    for name in ("PANDA_URL", "PANDA_TOKEN", "PANDA_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "token").write_text("t")
    monkeypatch.chdir(tmp_path)

    with pytest.raises(SystemExit) as end:
        __main__.main([word.replace("TOKEN", str(tmp_path / "token")) for word in arguments])

    assert end.value.code == 2
    assert complaint in capsys.readouterr().err


def test_waiting_times_double_and_honour_the_server():
    backoff = Backoff(first_s=0.5, most_s=4.0)
    waits_s = [backoff.next_s() for _ in range(5)]

    assert all(most / 2 <= wait_s <= most for wait_s, most in zip(waits_s, [0.5, 1, 2, 4, 4], strict=True))
    assert backoff.next_s(retry_after_s=10) == 10
    backoff.reset()
    assert backoff.next_s() <= 0.5


def test_the_pilot_imports_nothing_but_python():
    listing = "import sys, pilot.__main__; print([m for m in sys.modules if m.split('.')[0] in ('panda', 'httpx')])"
    said = subprocess.run([sys.executable, "-c", listing], check=True, capture_output=True, cwd=ROOT)

    assert said.stdout == b"[]\n"
