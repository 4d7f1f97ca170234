"""Storage behind http(s): GET to bring a file in, PUT to bring one out (WebDAV, S3 with signed URLs).

The URL itself carries whatever right is needed; the pilot's token is never sent to a storage.
"""

from __future__ import annotations

import os
import threading
import urllib.error
import urllib.request
from http.client import HTTPException
from urllib.parse import urlsplit, urlunsplit

from pilot.copytools.checksum import Adler32, Copied, chunks
from pilot.errors import Abandoned, ErrorCode, JobFailure

SILENCE_S = 60.0
"""Seconds without a byte after which a transfer counts as failed."""
#: What WebDAV servers say to a PUT into a folder that is not there: 409 by RFC 4918, some 403 or 404.
NO_FOLDER = (403, 404, 409)


def copy_in(url: str, path: str, stop: threading.Event) -> Copied:
    """See `CopyTool.copy_in`. Raises JobFailure 1103 or 1099."""
    adler32 = Adler32()
    try:
        with urllib.request.urlopen(url, timeout=SILENCE_S) as source, open(path, "xb") as target:
            for chunk in chunks(source, adler32, stop):
                target.write(chunk)
    except urllib.error.HTTPError as error:
        code = ErrorCode.NOSUCHFILE if error.code in (404, 410) else ErrorCode.STAGEINFAILED
        raise JobFailure(code, f"GET of input {_bare(url)} failed: HTTP {error.code}") from error
    except (OSError, HTTPException) as error:
        raise JobFailure(ErrorCode.STAGEINFAILED, f"GET of input {_bare(url)} failed: {error}") from error
    return adler32.copied()


def copy_out(path: str, url: str, stop: threading.Event, *, is_folder_made: bool = False) -> Copied:
    """See `CopyTool.copy_out`; a storage shows a file only when its PUT is complete. A server that wants the
    folder first gets it. Raises JobFailure 1137 or 1333."""
    adler32 = Adler32()
    try:
        with open(path, "rb") as source:
            request = urllib.request.Request(
                url,
                data=chunks(source, adler32, stop),
                method="PUT",
                headers={
                    "Content-Length": str(os.fstat(source.fileno()).st_size),
                    "Content-Type": "application/octet-stream",
                },
            )
            with urllib.request.urlopen(request, timeout=SILENCE_S):
                pass
    except Abandoned:
        raise
    except urllib.error.HTTPError as error:
        if error.code in NO_FOLDER and not is_folder_made and _make_folders(url):
            return copy_out(path, url, stop, is_folder_made=True)
        code = ErrorCode.NOREMOTESPACE if error.code == 507 else ErrorCode.STAGEOUTFAILED
        raise JobFailure(code, f"PUT of output {_bare(url)} failed: HTTP {error.code}") from error
    except (OSError, HTTPException) as error:
        raise JobFailure(ErrorCode.STAGEOUTFAILED, f"PUT of output {_bare(url)} failed: {error}") from error
    return adler32.copied()


def _make_folders(url: str) -> bool:
    """Make the folders above `url`, the outermost first; whether it is worth trying the file again."""
    parts = urlsplit(url)
    if parts.query:  # a signed link is for one object; such storages have no folders
        return False
    names = parts.path.strip("/").split("/")[:-1]
    try:
        for n in range(1, len(names) + 1):
            folder = urlunsplit((parts.scheme, parts.netloc, "/" + "/".join(names[:n]) + "/", "", ""))
            try:
                with urllib.request.urlopen(urllib.request.Request(folder, method="MKCOL"), timeout=SILENCE_S):
                    pass
            except urllib.error.HTTPError:
                pass  # it is there, or not ours to make: the PUT will tell
    except (OSError, HTTPException):
        return False
    return True


def _bare(url: str) -> str:
    """The URL without its query: that is where signatures are, and messages end up on pages."""
    return url.partition("?")[0]
