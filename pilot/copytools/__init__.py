"""Copytools: how files come to the node and leave it, one module per kind of URL.

The whole contract of a copytool is two verbs. Both return `Copied` for the bytes that really
went by, and raise JobFailure with PanDA's number; `stop` set means: give up (Abandoned). A storage across the
network that is away for a moment is asked again before the job is given up.
"""

from __future__ import annotations

import os
import threading
from typing import Any, Callable, Dict, List, NamedTuple, Protocol, Tuple
from urllib.parse import urlsplit

from pilot.copytools import http, local, xrootd
from pilot.copytools.checksum import Copied
from pilot.errors import Abandoned, ErrorCode, JobFailure
from pilot.wire import Input, Output, Place


class CopyTool(Protocol):
    """A module of this package."""

    def copy_in(self, url: str, path: str, stop: threading.Event) -> Copied:
        """Bring the file at `url` to the new file `path` on the node."""

    def copy_out(self, path: str, url: str, stop: threading.Event) -> Copied:
        """Bring the file `path` to `url`, whole or not at all."""


class Stored(NamedTuple):
    """An output on site storage, as the final report tells it. `storage`: the alternative that took it, if one did."""

    lfn: str
    size_bytes: int
    adler32: str
    storage: str = ""

    def told(self) -> Dict[str, Any]:
        """An `OutputReport`."""
        report = self._asdict()
        if not self.storage:
            del report["storage"]
        return report


COPYTOOLS: Dict[str, CopyTool] = {"file": local, "http": http, "https": http, "root": xrootd, "roots": xrootd}

#: Seconds before the second, third and fourth try of a copy across the network.
AGAIN_AFTER_S: Tuple[float, ...] = (2.0, 5.0, 10.0)
#: What another try may mend. A file that is not there, or a storage that is full, stays so.
PASSING = (ErrorCode.STAGEINFAILED, ErrorCode.STAGEOUTFAILED)


def _copytool(url: str) -> CopyTool:
    scheme = urlsplit(url).scheme
    if scheme not in COPYTOOLS:
        raise JobFailure(ErrorCode.UNKNOWNCOPYTOOL, f"no copytool for {scheme or 'relative'} URLs: {url}")
    return COPYTOOLS[scheme]


def stage_in(wanted: Input, path: str, stop: threading.Event) -> Copied:
    """Copy an input and verify what arrived.

    Raises: JobFailure (1099, 1103, 1171, 1098), Abandoned.
    """
    copytool = _copytool(wanted.url)

    def copy() -> Copied:
        if os.path.lexists(path):  # what an earlier try got of it
            os.unlink(path)
        return copytool.copy_in(wanted.url, path, stop)

    copied = _patiently(wanted.url, copy, stop)
    if copied.adler32 != wanted.adler32.lower().rjust(8, "0"):
        raise JobFailure(
            ErrorCode.GETADMISMATCH,
            f"adler32 of input {wanted.lfn} is {copied.adler32}, the catalogue says {wanted.adler32}"
            f" ({copied.size_bytes} of {wanted.size_bytes} bytes arrived from {wanted.url})",
        )
    if copied.size_bytes != wanted.size_bytes:
        raise JobFailure(
            ErrorCode.STAGEINFAILED,
            f"input {wanted.lfn} has {copied.size_bytes} bytes, the catalogue says {wanted.size_bytes}",
        )
    return copied


def stage_out(
    output: Output, path: str, stop: threading.Event, tell: Callable[[str], None] = lambda text: None
) -> Stored:
    """Copy an output, to the first of its places that takes it; `tell` hears of those that do not.

    Raises: JobFailure (1137, 1165, 1333, 1323), Abandoned.
    """
    failures: List[JobFailure] = []
    for place in (Place("", output.url), *output.alternatives):
        try:
            copied = _copied_out(place.url, path, stop)
        except JobFailure as failure:
            failures.append(failure)
            tell(f"output {output.lfn}: {failure.message}")
        else:
            return Stored(output.lfn, copied.size_bytes, copied.adler32, place.storage)
    raise JobFailure(failures[0].code, "; then ".join(failure.message for failure in failures))


def _copied_out(url: str, path: str, stop: threading.Event) -> Copied:
    copytool = _copytool(url)
    return _patiently(url, lambda: copytool.copy_out(path, url, stop), stop)


def address_of(url: str) -> str:
    """What a payload opens: the path of a file that the node sees, else the URL as it is."""
    return local.path_of(url) if urlsplit(url).scheme == "file" else url


def _patiently(url: str, copy: Callable[[], Copied], stop: threading.Event) -> Copied:
    """`copy`, again after a while if its storage is across the network and did not answer as it should."""
    if urlsplit(url).scheme != "file":
        for wait_s in AGAIN_AFTER_S:
            try:
                return copy()
            except JobFailure as failure:
                if failure.code not in PASSING:
                    raise
            if stop.wait(wait_s):
                raise Abandoned
    return copy()
