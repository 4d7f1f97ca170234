"""Storage that speaks XRootD: `root://…` and `roots://…` URLs, by the node's own `xrdcp`.

A proxy or a token for it is the node's business (X509_USER_PROXY, BEARER_TOKEN_FILE).
"""

from __future__ import annotations

import os
import subprocess
import threading
from typing import List

from pilot.copytools.checksum import Adler32, Copied, chunks
from pilot.errors import Abandoned, ErrorCode, JobFailure

POLL_S = 0.2
"""Between two looks at whether the copy is done or nobody wants it any more."""


def copy_in(url: str, path: str, stop: threading.Event) -> Copied:
    """See `CopyTool.copy_in`. Raises JobFailure 1103 or 1099."""
    problem = _xrdcp([url, path], stop)
    if problem:
        missing = "no such file" in problem.lower() or "[3011]" in problem
        code = ErrorCode.NOSUCHFILE if missing else ErrorCode.STAGEINFAILED
        raise JobFailure(code, f"xrdcp of input {_bare(url)} failed: {problem}")
    return _read(path, stop)


def copy_out(path: str, url: str, stop: threading.Event) -> Copied:
    """See `CopyTool.copy_out`; with --posc a storage keeps a file only when it is whole.
    Raises JobFailure 1137 or 1333."""
    copied = _read(path, stop)
    problem = _xrdcp(["--force", "--posc", "--path", path, url], stop)
    if problem:
        full = "no space" in problem.lower() or "[3009]" in problem
        code = ErrorCode.NOREMOTESPACE if full else ErrorCode.STAGEOUTFAILED
        raise JobFailure(code, f"xrdcp of output to {_bare(url)} failed: {problem}")
    return copied


def _xrdcp(arguments: List[str], stop: threading.Event) -> str:
    """What went wrong; empty: nothing."""
    command = ["xrdcp", "--nopbar", "--silent", "--retry", "2", *arguments]
    try:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
    except OSError as error:
        raise JobFailure(ErrorCode.UNKNOWNCOPYTOOL, f"this node has no xrdcp: {error.strerror}") from error
    while True:
        try:
            _, told = process.communicate(timeout=POLL_S)
        except subprocess.TimeoutExpired:
            if not stop.is_set():
                continue
            process.kill()
            process.communicate()
            raise Abandoned from None
        lines = told.decode(errors="replace").strip().splitlines()
        return (lines[-1] if lines else f"exit code {process.returncode}") if process.returncode else ""


def _read(path: str, stop: threading.Event) -> Copied:
    adler32 = Adler32()
    try:
        with open(path, "rb") as source:
            for _ in chunks(source, adler32, stop):
                pass
    except OSError as error:
        raise JobFailure(ErrorCode.STAGEINFAILED, f"{os.path.basename(path)}: {error.strerror}") from error
    return adler32.copied()


def _bare(url: str) -> str:
    return url.partition("?")[0]
