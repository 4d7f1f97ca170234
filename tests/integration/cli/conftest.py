"""The scripted server, the real API on a socket, and the command run in process."""

import io
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from wsgiref.simple_server import make_server

import pytest
from cli_scripted import Ended, Panda, Scripted, Silent, ThreadingServer, handler_of

from panda.api.app import create_app
from panda.auth import tokens
from panda.cli.main import run
from panda.db.session import Begin
from panda.db.session import run as run_sql
from panda.jobs import audit
from panda.settings import Settings


@pytest.fixture
def script() -> Iterator[Scripted]:
    """A scripted server; its address is in `script.url`."""
    scripted = Scripted()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(scripted))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    scripted.url = f"http://127.0.0.1:{server.server_port}"
    yield scripted
    scripted.over.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def panda(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Panda:
    """Run a command line in this process; stdin is empty and no terminal, and nothing is configured."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr("panda.client.configuration.SYSTEM_FILE", tmp_path / "none.toml")

    def command(*words: object, stdin: str = "") -> Ended:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        capfd.readouterr()
        code = run([str(word) for word in words])
        captured = capfd.readouterr()
        return Ended(code, captured.out, captured.err)

    return command


@pytest.fixture
def at_script(script: Scripted, monkeypatch: pytest.MonkeyPatch) -> Scripted:
    """The scripted server, named by the environment."""
    monkeypatch.setenv("PANDA_URL", script.url)
    monkeypatch.setenv("PANDA_TOKEN", "secret")
    return script


@pytest.fixture
def real(
    begin: Begin, settings: Settings, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Begin]:
    """The real API on a real database, named by the environment; the caller is anna, a user. After the test every
    invariant must hold."""
    with begin() as connection:
        run_sql(connection, "INSERT INTO sites (name, cloud) VALUES ('HOLLAND', 'NL')")
        run_sql(
            connection,
            "INSERT INTO storages (name, site, kind, root) VALUES ('HOLLAND-DISK', 'HOLLAND', 'local', %(root)s)",
            {"root": str(settings.data_dir / "HOLLAND")},
        )
        run_sql(
            connection,
            "INSERT INTO queues (name, site, storage, cores, memory_mb, disk_mb, walltime_s)"
            " VALUES ('HOLLAND-CPU', 'HOLLAND', 'HOLLAND-DISK', 8, 16000, 100000, 86400)",
        )
        token = tokens.create(connection, "anna", ["user"], "test", 3600)
    server = make_server("127.0.0.1", 0, create_app(begin, settings), ThreadingServer, Silent)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    monkeypatch.setenv("PANDA_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("PANDA_TOKEN", token)
    yield begin
    server.shutdown()
    server.server_close()
    thread.join()
    if "by_hand" not in request.fixturenames:
        with begin() as connection:
            assert audit.audit(connection, everything=True) == []
