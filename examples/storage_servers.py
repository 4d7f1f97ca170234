"""Storage servers on this machine's loopback, for demos: rclone as WebDAV and as S3, and XRootD.

Each is an ordinary program that somebody else wrote. One that is not installed is told by None.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

KEY, SECRET = "demo", "only-on-this-machine"
LISTENS_WITHIN_S = 20
XROOTD = """
all.export /
oss.localroot {files}
xrd.port {port}
xrd.network nodnr
all.adminpath {folder}/admin
all.pidpath {folder}/pid
xrootd.chksum max 2 adler32
"""


class Server:
    """A program that can be killed and started again, on the same port, with the same files."""

    def __init__(self, root: str, command: Sequence[str], port: int, log: Path, scratch: Path | None = None) -> None:
        self.root = root
        """What `sites.toml` calls the storage's root."""
        self._command, self._port, self._log, self._scratch = list(command), port, log, scratch
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Server":
        """Returns when it listens. Raises RuntimeError if it does not."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until = time.monotonic() + LISTENS_WITHIN_S
        while self._process.poll() is None and time.monotonic() < until:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self._port)) == 0:
                    return self
            time.sleep(0.05)
        self.kill()
        raise RuntimeError(f"{self._command[0]} does not listen; see {self._log}")

    def kill(self) -> None:
        """SIGKILL: what a machine that loses its power looks like."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def end(self) -> None:
        """Kill it, and remove what it kept outside of the demo's folder."""
        self.kill()
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)


def webdav(folder: Path) -> Server | None:
    """A WebDAV server, open to callers on this machine."""
    return _rclone("webdav", folder, [], "http://127.0.0.1:{port}/panda")


def s3(folder: Path) -> Server | None:
    """An S3 service with one bucket; it checks signatures made with `KEY` and `SECRET`."""
    if find_spec("boto3") is None:
        return None
    (folder / "files" / "panda").mkdir(parents=True, exist_ok=True)
    return _rclone("s3", folder, ["--auth-key", f"{KEY},{SECRET}"], "s3+http://127.0.0.1:{port}/panda")


def xrootd(folder: Path) -> Server | None:
    """An XRootD data server."""
    program = shutil.which("xrootd")
    if program is None or find_spec("XRootD") is None:
        return None
    is_root = os.geteuid() == 0
    if is_root:  # it refuses to run as root, and `nobody` may not pass root's folders
        folder = Path(tempfile.mkdtemp(prefix="panda-demo-xrootd-"))
    files, port = folder / "files", _free_port()
    files.mkdir(parents=True, exist_ok=True)
    settings = folder / "xrootd.cfg"
    settings.write_text(XROOTD.format(files=files, folder=folder, port=port))
    log = folder / "server.log"
    if is_root:
        for path in (folder, files, settings):
            shutil.chown(path, "nobody")
    command = [program, "-c", str(settings), "-n", "demo", *(["-R", "nobody"] if is_root else [])]
    return Server(f"root://127.0.0.1:{port}//panda", command, port, log, folder if is_root else None)


def _rclone(verb: str, folder: Path, more: list[str], root: str) -> Server | None:
    beside = Path(sys.executable).with_name("rclone")
    program = str(beside) if beside.exists() else shutil.which("rclone")
    if program is None:
        return None
    port = _free_port()
    (folder / "files").mkdir(parents=True, exist_ok=True)
    command = [program, "serve", verb, str(folder / "files"), "--addr", f"127.0.0.1:{port}", *more]
    return Server(root.format(port=port), command, port, folder / "server.log")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
