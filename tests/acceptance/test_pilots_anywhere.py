"""The ways of docs/how-to/run-pilots-anywhere.md, tried: every pilot here is `pilot.pyz` on a bare Python."""

import os
import select
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from livesystem import clean_environ

from pilot import build

ROOT = Path(__file__).parents[2]
PYTHON = os.environ.get("PILOT_PYTHON", sys.executable)


@pytest.fixture(scope="session")
def pyz(tmp_path_factory):
    file = tmp_path_factory.mktemp("pyz") / "pilot.pyz"
    build.build(file)
    return file


@pytest.fixture
def at_west(user):
    """One job that only a pilot of WEST-Q takes."""
    return lambda *command: user.submit(
        jobs=[{"command": list(command) or ["echo", "from anywhere"]}], brokerage={"sites": ["WEST"]}
    )


@pytest.fixture
def arguments(system, pyz, tmp_path):
    def arguments(*more, url=system.api):
        token = system.folder / "pilot-token"
        return [PYTHON, "-I", "-S", str(pyz), "--url", url, "--queue", "WEST-Q", "--token-file", str(token),
                "--work", str(tmp_path / "work"), "--cores", "1", "--memory-mb", "2000", "--disk-mb", "2000",
                "--idle-s", "0", "--wait-s", "5", "--max-jobs", "1", *more]  # fmt: skip

    return arguments


def _run(command, **environ):
    done = subprocess.run(command, capture_output=True, text=True, env=clean_environ() | environ, timeout=90)
    assert done.returncode == 0, done.stderr
    return done.stderr


def _has_run(user, accepted):
    [job] = user.ended(accepted)
    assert job.status == "finished", user.client.why(job.panda_id).summary
    return user.log(job.panda_id, "payload.stdout")


def _wait_claimable(user, accepted):
    user.waits(accepted.first_panda_id, "pilot")


def test_by_hand_on_a_bare_python(user, at_west, arguments):
    accepted = at_west()
    _wait_claimable(user, accepted)

    _run(arguments())

    assert _has_run(user, accepted) == "from anywhere\n"


@pytest.mark.parametrize("hours", [1, -1])
def test_on_a_node_whose_clock_is_an_hour_off(user, at_west, arguments, tmp_path, hours):
    """Beats, logs and the end arrive, and the lease lives on: none but the database's clock decides anything."""
    (tmp_path / "sitecustomize.py").write_text(
        f"import time\nright = time.time\ntime.time = lambda: right() + {hours * 3600}\n", encoding="utf-8"
    )
    accepted = at_west("sh", "-c", "sleep 4; echo in time")
    _wait_claimable(user, accepted)

    said = _run([each for each in arguments() if each not in ("-I", "-S")], PYTHONPATH=str(tmp_path))

    assert _has_run(user, accepted) == "in time\n"
    [job] = user.ended(accepted)
    assert job.attempt_nr == 1
    assert f"clock is {'+' if hours > 0 else '-'}3600 s off the server's" in said


def test_behind_a_proxy_that_wants_a_password(user, system, at_west, arguments):
    accepted = at_west()
    _wait_claimable(user, accepted)

    with Proxy() as proxy:
        said = _run(arguments(), HTTP_PROXY=f"http://site:secret@127.0.0.1:{proxy.port}", NO_PROXY="")

    assert _has_run(user, accepted) == "from anywhere\n"
    assert "through the proxy 127.0.0.1" in said
    assert "secret" not in said
    assert any(f"POST {system.api}/v1/pilots/acquire" in line for line in proxy.lines)


def test_no_proxy_leads_straight(user, at_west, arguments):
    accepted = at_west()
    _wait_claimable(user, accepted)

    with Proxy() as proxy:
        _run(arguments(), HTTP_PROXY=f"http://127.0.0.1:{proxy.port}", NO_PROXY="127.0.0.1")

    assert _has_run(user, accepted) == "from anywhere\n"
    assert proxy.lines == []


def test_https_through_a_proxy_with_an_own_certificate_authority(user, system, at_west, arguments, tmp_path):
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate; it is not here")
    accepted = at_west()
    _wait_claimable(user, accepted)
    certificate = _certificate(tmp_path)

    with Tls(system.api, certificate) as tls, Proxy() as proxy:
        environ = {"HTTPS_PROXY": f"http://site:secret@127.0.0.1:{proxy.port}", "NO_PROXY": ""}
        url = f"https://localhost:{tls.port}"
        _run(arguments("--ca-file", str(certificate), url=url), **environ)

    assert _has_run(user, accepted) == "from anywhere\n"
    assert f"CONNECT localhost:{tls.port}" in proxy.lines[0]


def test_in_a_network_of_its_own(user, system, at_west, arguments):
    """Another host, as far as the network can tell: its only neighbour is the server's machine."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("making a network namespace needs root and iproute2")
    name = f"panda{os.getpid() % 10_000}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"no network namespaces here: {made.stderr.strip()}")
    accepted = at_west("sh", "-c", "ls /sys/class/net; echo; cat /proc/net/fib_trie")
    _wait_claimable(user, accepted)
    try:
        for words in (
            f"link add {name}a type veth peer name {name}b",
            f"link set {name}b netns {name}",
            f"addr add 10.199.7.1/30 dev {name}a",
            f"link set {name}a up",
            f"-n {name} addr add 10.199.7.2/30 dev {name}b",
            f"-n {name} link set {name}b up",
        ):
            subprocess.run(["ip", *words.split()], check=True)
        with Forward("10.199.7.1", system.api) as forward:
            url = f"http://10.199.7.1:{forward.port}"
            _run(["ip", "netns", "exec", name, *arguments(url=url)])
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False)
        subprocess.run(["ip", "link", "del", f"{name}a"], check=False, capture_output=True)

    seen = _has_run(user, accepted)
    assert "10.199.7.2" in seen
    assert "127.0.0.1" not in seen.split("10.199.7.2")[1].split("Local:")[0]


def test_inside_a_batch_script(user, system, pyz, at_west, tmp_path):
    accepted = at_west()
    _wait_claimable(user, accepted)

    _run(
        ["bash", str(ROOT / "config" / "panda-pilot.sbatch")],
        PANDA_URL=system.api, PANDA_QUEUE="WEST-Q", PANDA_TOKEN_FILE=str(system.folder / "pilot-token"),
        PANDA_PILOT=str(pyz), PANDA_WORK=str(tmp_path / "work"), PYTHON=PYTHON,
        PANDA_PILOT_OPTIONS="--max-jobs 1 --idle-s 0 --wait-s 5 --disk-mb 2000",
    )  # fmt: skip

    assert _has_run(user, accepted) == "from anywhere\n"


def test_a_batch_system_that_ends_the_slot_gets_the_job_back(user, system, pyz, at_west, tmp_path):
    accepted = at_west("sleep", "60")
    _wait_claimable(user, accepted)
    environ = clean_environ() | {
        "PANDA_URL": system.api, "PANDA_QUEUE": "WEST-Q", "PANDA_TOKEN_FILE": str(system.folder / "pilot-token"),
        "PANDA_PILOT": str(pyz), "PANDA_WORK": str(tmp_path / "work"), "PYTHON": PYTHON,
        "PANDA_PILOT_OPTIONS": "--grace-s 1 --disk-mb 2000",
    }  # fmt: skip
    script = subprocess.Popen(
        ["bash", str(ROOT / "config" / "panda-pilot.sbatch")], env=environ, stderr=subprocess.DEVNULL
    )
    user.reaches(accepted.first_panda_id, "running")

    script.terminate()

    assert script.wait(60) == 6
    [job] = user.ended(accepted)
    assert (job.status, job.error_code) == ("failed", "pilot:1201")


def test_from_cron(user, system, at_west, arguments, tmp_path):
    """What cron gives: `sh -c` with hardly any environment, no terminal, nobody to read."""
    accepted = at_west()
    _wait_claimable(user, accepted)
    line = f"flock -n {tmp_path}/.lock {' '.join(arguments())} 2>> {tmp_path}/pilot.log"

    done = subprocess.run(
        ["/bin/sh", "-c", line], env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "SHELL": "/bin/sh"},
        stdin=subprocess.DEVNULL, capture_output=True, timeout=90, cwd=tmp_path,
    )  # fmt: skip

    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert _has_run(user, accepted) == "from anywhere\n"


def test_the_unit_is_one_that_systemd_understands(tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze here")
    unit = tmp_path / "panda-pilot.service"
    # Without the parts that look at files of the machine.
    shutil.copy(ROOT / "config" / "panda-pilot.service", unit)

    said = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True)

    complaints = [line for line in said.stderr.splitlines() if "panda-pilot" in line]
    assert complaints == []


def test_what_the_pilot_said_of_itself_can_be_read(user, system, at_west, arguments):
    accepted = at_west()
    _wait_claimable(user, accepted)
    _run(arguments("--pilot-id", "by-hand-7"))
    _has_run(user, accepted)

    notes = system.client.request("GET", "/v1/pilots/by-hand-7/notes")

    assert (notes["queue"], notes["exit_code"], notes["problems"]) == ("WEST-Q", 0, [])
    assert abs(notes["facts"]["clock_skew_s"]) < 30
    assert "leaving with code 0" in notes["log"]


class Listener:
    """A port whose connections are served by threads, until the end of a `with`."""

    def __init__(self, host="127.0.0.1"):
        self._socket = socket.create_server((host, 0))
        self.port = self._socket.getsockname()[1]
        self.host = host

    def __enter__(self):
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._socket.close()

    def _listen(self):
        while True:
            try:
                line, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(line,), daemon=True).start()

    def _serve(self, line):
        raise NotImplementedError


def _join(one, other):
    """Bytes both ways, until one side ends."""
    try:
        while True:
            readable, _, _ = select.select([one, other], [], [], 60)
            if not readable:
                return
            for each in readable:
                block = each.recv(1 << 16)
                if not block:
                    return
                (other if each is one else one).sendall(block)
    except OSError:
        return
    finally:
        one.close()
        other.close()


class Forward(Listener):
    """The API under another address, e.g. of a virtual network."""

    def __init__(self, host, api):
        super().__init__(host)
        self._api = urlsplit(api)

    def _serve(self, line):
        _join(line, socket.create_connection((self._api.hostname, self._api.port)))


class Tls(Forward):
    """The API behind TLS."""

    def __init__(self, api, certificate):
        super().__init__("127.0.0.1", api)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate, certificate.with_suffix(".key"))

    def _serve(self, line):
        secure = self._context.wrap_socket(line, server_side=True)
        inner = socket.create_connection((self._api.hostname, self._api.port))
        threading.Thread(target=_pump, args=(inner, secure), daemon=True).start()
        _pump(secure, inner)


def _pump(source, target):
    try:
        while block := source.recv(1 << 16):
            target.sendall(block)
    except OSError:
        pass
    for each in (source, target):
        each.close()


class Proxy:
    """A small HTTP proxy: GET, POST and PUT of whole URLs, CONNECT for TLS. Knows one user."""

    def __init__(self):
        self.lines = lines = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def _let_in(self):
                lines.append(self.requestline)
                if self.headers.get("Proxy-Authorization") == "Basic c2l0ZTpzZWNyZXQ=":
                    return True
                self.send_error(407)
                return False

            def do_CONNECT(self):
                if self._let_in():
                    host, _, port = self.path.rpartition(":")
                    server = socket.create_connection((host, int(port)))
                    self.send_response(200)
                    self.end_headers()
                    _join(self.connection, server)
                    self.close_connection = True

            def _pass_on(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if not self._let_in():
                    return
                parts = urlsplit(self.path)
                server = socket.create_connection((parts.hostname, parts.port))
                path = parts.path + (f"?{parts.query}" if parts.query else "")
                kept = [f"{name}: {value}" for name, value in self.headers.items() if not name.startswith("Proxy-")]
                head = "\r\n".join([f"{self.command} {path} HTTP/1.1", *kept, "Connection: close", "", ""])
                server.sendall(head.encode() + body)
                with server, server.makefile("rb") as answer:
                    self.wfile.write(answer.read())
                self.close_connection = True

            do_GET = do_POST = do_PUT = _pass_on

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


def _certificate(folder):
    certificate = folder / "site.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost", "-keyout", str(certificate.with_suffix(".key")),
         "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate
