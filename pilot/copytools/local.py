"""Site storage that the node sees as a file system: `file:///...` URLs.

Inputs are copied, never linked: the payload may write to its inputs, and a link would let it
change the replica.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from urllib.parse import unquote, urlsplit

from pilot.copytools.checksum import Adler32, Copied, chunks
from pilot.errors import Abandoned, ErrorCode, JobFailure


def path_of(url: str) -> str:
    """The path that a `file:` URL names. Raises JobFailure 1323."""
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        raise JobFailure(ErrorCode.UNKNOWNCOPYTOOL, f"not a local file URL: {url}")
    return unquote(parts.path)


def copy_in(url: str, path: str, stop: threading.Event) -> Copied:
    """See `CopyTool.copy_in`. Raises JobFailure 1103, 1099 or 1098."""
    replica = path_of(url)
    adler32 = Adler32()
    try:
        with open(replica, "rb") as source, open(path, "xb") as target:
            for chunk in chunks(source, adler32, stop):
                target.write(chunk)
    except FileNotFoundError as error:
        raise JobFailure(ErrorCode.NOSUCHFILE, f"input is not on site storage: {replica}") from error
    except OSError as error:
        code = ErrorCode.NOLOCALSPACE if _is_full(error) else ErrorCode.STAGEINFAILED
        raise JobFailure(code, f"copy of input {replica} failed: {error.strerror}") from error
    return adler32.copied()


def copy_out(path: str, url: str, stop: threading.Event) -> Copied:
    """See `CopyTool.copy_out`. The file grows as `<name>.part` and gets its name when it is whole
    and on disk. Raises JobFailure 1137 or 1333."""
    replica = path_of(url)
    part = replica + ".part"
    adler32 = Adler32()
    try:
        os.makedirs(os.path.dirname(replica), exist_ok=True)
        with open(path, "rb") as source, open(part, "wb") as target:
            for chunk in chunks(source, adler32, stop):
                target.write(chunk)
            target.flush()
            os.fsync(target.fileno())
        os.rename(part, replica)
    except (OSError, Abandoned) as error:
        with contextlib.suppress(OSError):
            os.unlink(part)
        if isinstance(error, Abandoned):
            raise
        code = ErrorCode.NOREMOTESPACE if _is_full(error) else ErrorCode.STAGEOUTFAILED
        raise JobFailure(code, f"copy of output to {replica} failed: {error.strerror}") from error
    return adler32.copied()


def _is_full(error: OSError) -> bool:
    return error.errno in (errno.ENOSPC, errno.EDQUOT)
