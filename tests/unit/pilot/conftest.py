"""A pilot as a process of its own, before a stub of the server."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from pilot_stub_server import TOKEN, Book, StubServer

ROOT = Path(__file__).resolve().parents[3]


class PilotProcess:
    """`python -m pilot`, started with the test's folder and server."""

    def __init__(self, url: str, folder: Path, *args: str, **env: str) -> None:
        self.work = folder / "work"
        token_file = folder / "token"
        if not token_file.exists():
            token_file.write_text(TOKEN + "\n")
        self.log = folder / "pilot.err"
        command = [
            os.environ.get("PILOT_PYTHON", sys.executable),
            *("-m", "pilot", "--url", url, "--queue", "TEST", "--token-file", str(token_file)),
            *("--work", str(self.work), "--cores", "2", "--memory-mb", "2000", "--disk-mb", "2000"),
            *("--idle-s", "0", "--grace-s", "0.5", "--log-level", "debug", *args),
        ]
        with self.log.open("w") as err:
            self.process = subprocess.Popen(
                command, stderr=err, cwd=ROOT, env={**os.environ, **env}, start_new_session=True
            )

    def wait(self, timeout_s: float = 90) -> int:
        """The exit code."""
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the pilot does not end:\n{self.log.read_text()}") from None

    def cpu_s(self) -> float:
        """User and system time of the pilot itself so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def end(self) -> None:
        """Whatever happens in a test, no process of it stays."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(3)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


@pytest.fixture
def book() -> Book:
    return Book()


@pytest.fixture
def server(book):
    server = StubServer(book)
    yield server
    server.stop()
    assert book.breaches == []


@pytest.fixture
def start(server, tmp_path):
    """Start a pilot with more arguments; it is gone after the test."""
    started: list[PilotProcess] = []

    def start(*args: str, url: str = server.url, **env: Any) -> PilotProcess:
        started.append(PilotProcess(url, tmp_path, *args, **env))
        return started[-1]

    yield start
    for pilot in started:
        pilot.end()


@pytest.fixture
def run(start, book):
    """Run jobs with a pilot of its own; returns their final reports by PandaID."""

    def run(*jobs: dict[str, Any], args: tuple[str, ...] = (), **env: str) -> dict[int, dict[str, Any]]:
        book.waiting += jobs
        pilot = start(*args, **env)
        assert pilot.wait() == 0, pilot.log.read_text()
        assert [path.name for path in pilot.work.iterdir()] == []
        return book.finals

    return run
