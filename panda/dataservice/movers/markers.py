"""What a server says while it fetches a file from another one by itself (WLCG's HTTP-TPC): a marker every few
seconds with the bytes so far, and a last line with how it ended.

    Perf Marker
    Timestamp: 1795943622
    Stripe Index: 0
    Stripe Bytes Transferred: 238745
    Total Stripe Count: 1
    End
    success: Created

Source: WLCG, "HTTP / WebDAV Third-Party-Copy Technical Details"; tried with XRootD 5.5.
"""

import errno
import time
from collections.abc import Iterable, Iterator

from panda.dataservice.movers.base import Tick

#: Seconds in which markers may come without a byte more: a source that hangs.
STALL_S = 300.0
#: Longer lines are none of ours.
MOST_LINE_BYTES = 4096
_MOVED = "stripe bytes transferred:"


def follow(blocks: Iterable[bytes], size_bytes: int, tick: Tick, *, may_be_silent: bool = False) -> None:
    """Read to the end, and say at every line that we are alive.

    Args:
        blocks: the answer's body, as it comes.
        size_bytes: of the file; a server that fetches more has another one.
        may_be_silent: no word at all is as good as success.
    Raises:
        OSError: it failed, stands still, fetches too much, or ends without a word.
    """
    moved, since, last = "", time.monotonic(), ""
    for line in _lines(blocks):
        tick()
        last = line
        if line.casefold().startswith(_MOVED):
            now = line[len(_MOVED) :].strip()
            if now.isdecimal() and int(now) > size_bytes:
                raise OSError(errno.EFBIG, f"the storage fetched {now} bytes of {size_bytes}")
            if now != moved:
                moved, since = now, time.monotonic()
        if time.monotonic() - since > STALL_S:
            raise OSError(errno.ETIMEDOUT, f"the storage fetched nothing more in {STALL_S:.0f} s")
    if not last.casefold().startswith("success") and (last or not may_be_silent):
        raise OSError(errno.EIO, f"the storage could not fetch it: {_shown(last) or 'it broke off without a word'}")


def _lines(blocks: Iterable[bytes]) -> Iterator[str]:
    """Those that hold something, as they end; what is after the last line break is one too."""
    held = b""
    for block in blocks:
        *whole, held = (held + block).split(b"\n")
        if max(map(len, (*whole, held))) > MOST_LINE_BYTES:
            raise OSError(errno.EBADMSG, "the storage answers COPY with something that is no text of markers")
        yield from (line.decode(errors="replace").strip() for line in whole if line.strip())
    if held.strip():
        yield held.decode(errors="replace").strip()


def _shown(line: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in line)[:300]
