"""Storages behind HTTP with WebDAV's verbs: nginx, Apache, XRootD, dCache, rclone, …

Bytes go to a hidden neighbour, are measured there, and then get their name by MOVE, so a file appears whole
or not at all. A server that tells checksums (RFC 3230, `Want-Digest: adler32`) is believed; from any other one
we read back what it keeps. Credentials go to the address that they were given for and follow no redirect.

Between two servers whose entries in the credentials file say `third_party_copy = true`, the destination is asked to
fetch the file itself (WLCG's HTTP-TPC, pull mode). It then gets what opens the source. One that does not know how, or
does not want to, gets the bytes from us.
"""

import errno
import io
import re
import ssl
import uuid
import zlib
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import replace
from functools import cache, partial
from http.client import RemoteDisconnected
from typing import BinaryIO, Literal, cast
from urllib.parse import quote, urljoin, urlsplit

import urllib3
from urllib3.exceptions import HTTPError, ProtocolError

from panda.dataservice.credentials import Credential, credential_for
from panda.dataservice.movers import markers, propfind, refusals
from panda.dataservice.movers.base import Content, Place, Space, Stream, Tick, WrongContent
from panda.dataservice.movers.listing import Entry, walked
from panda.errors import TooLarge
from panda.settings import current

BLOCK_BYTES = 1 << 20
#: Seconds to connect, and of silence while bytes should flow.
TIMEOUT = urllib3.Timeout(connect=10, read=60)
#: The same while another server fetches a file: shorter than a lease (`[data] transfer_lease_s`) lasts.
MARKER_TIMEOUT = urllib3.Timeout(connect=10, read=30)
#: A read may be sent on to the server that has the file; a credential does not go with it.
MAX_REDIRECTS = 3

_ASK_SPACE = (
    b'<?xml version="1.0"?><propfind xmlns="DAV:"><prop><quota-available-bytes/><quota-used-bytes/></prop></propfind>'
)
#: Plucked, not parsed: whoever runs the storage might send XML that is a trap.
_AVAILABLE = re.compile(rb"quota-available-bytes[^<>]*>\s*(\d{1,18})\s*<")
_USED = re.compile(rb"quota-used-bytes[^<>]*>\s*(\d{1,18})\s*<")
#: A COPY that a server does not know (405, 501), cannot make sense of (400), or sends elsewhere.
_REFUSALS = frozenset({errno.EOPNOTSUPP, errno.EBADRQC, errno.EREMOTE})
_FULL = frozenset({413, 507})
_ABSENT = frozenset({404, 410})


class HttpMover:
    """The contract of `Mover` in GET, HEAD, PUT, MOVE, COPY, DELETE and MKCOL; that of `Listing` in PROPFIND."""

    #: XRootD's server writes names into its answer as they are, percent signs and line breaks too.
    names_are_exact = False

    def write(self, place: Place, stream: Stream, cap_bytes: int, tick: Tick) -> Content:
        arriving = _neighbour(place)
        counted = _Counted(stream, cap_bytes, tick)
        try:
            self._put(arriving, counted)
            found = self.measure(arriving, tick)
            if found != counted.content:
                raise WrongContent(arriving, found, counted.content)
            self.rename(arriving, place.path)
        except BaseException:
            with suppress(OSError):
                self.remove(arriving)
            raise
        return found

    def copy(self, source: Place, destination: Place, expected: Content, tick: Tick) -> None:
        arriving = _neighbour(destination)
        try:
            if not (
                self._fetched_there(source, arriving, expected.size_bytes, tick) or self._copied_there(source, arriving)
            ):
                with self.open(source) as stream:
                    self._put(arriving, _Counted(stream, expected.size_bytes + 1, tick))
            found = self.measure(arriving, tick)
            if found != expected:
                raise WrongContent(source, found, expected)
            self.rename(arriving, destination.path)
        except TooLarge:
            raise WrongContent(source, Content(expected.size_bytes + 1, "????????"), expected) from None
        finally:
            with suppress(OSError):
                self.remove(arriving)

    def measure(self, place: Place, tick: Tick) -> Content:
        head = _request("HEAD", _url(place), headers={"Want-Digest": "adler32"})
        told = _digest(head.headers.get("Digest", ""))
        if told is not None:
            return Content(_length(head, place), told)
        size_bytes, adler32 = 0, 1
        with self.open(place) as stream:
            while block := stream.read(BLOCK_BYTES):
                size_bytes += len(block)
                adler32 = zlib.adler32(block, adler32)
                tick()
        return Content(size_bytes, f"{adler32:08x}")

    def size(self, place: Place) -> int:
        return _length(_request("HEAD", _url(place)), place)

    def open(self, place: Place) -> BinaryIO:
        return cast(BinaryIO, io.BufferedReader(_Reading(_request("GET", _url(place), stream=True)), BLOCK_BYTES))

    def rename(self, place: Place, path: str) -> None:
        target = _url(Place(place.root, path))
        self._with_folders("MOVE", _url(place), Place(place.root, path), {"Destination": target, "Overwrite": "T"})

    def remove(self, place: Place) -> None:
        with suppress(FileNotFoundError):
            _request("DELETE", _url(place))

    def space(self, root: str) -> Space | None:
        """As RFC 4331 has it; many servers do not tell."""
        try:
            reply = _request("PROPFIND", root, headers={"Depth": "0", "Content-Type": "text/xml"}, body=_ASK_SPACE)
        except (FileNotFoundError, _Lacking, _Unknown):
            return None
        free, used = (_AVAILABLE.search(reply.data), _USED.search(reply.data))
        if free is None:
            return None
        return Space(int(free[1]), int(free[1]) + int(used[1]) if used else None)

    def entries(self, root: str, folder: str) -> Iterator[Entry]:
        url = f"{_url(Place(root, folder)) if folder else root.rstrip('/')}/"
        headers = {"Depth": "1", "Content-Type": "text/xml"}
        with closing(_request("PROPFIND", url, headers=headers, body=propfind.ASK, stream=True)) as reply:
            if reply.status != 207:
                raise OSError(errno.EBADMSG, f"the storage answers PROPFIND with {reply.status}", url)
            for entry in propfind.read(_blocks(reply), url, folder):
                yield from [entry] if entry.is_folder or entry.size_bytes >= 0 else self._sized(root, entry)

    def walk(self, root: str, folder: str) -> Iterator[Entry]:
        return walked(self, root, folder)

    def _sized(self, root: str, entry: Entry) -> list[Entry]:
        """With the size that the list did not tell; none if it is gone."""
        try:
            return [replace(entry, size_bytes=self.size(Place(root, entry.path)))]
        except FileNotFoundError:
            return []

    def link(self, root: str, path: str, verb: Literal["GET", "PUT"], for_s: float) -> str:
        """The address itself: whether nodes may read and write there is the storage's own business."""
        return _url(Place(root, path))

    def _put(self, place: Place, body: "_Counted") -> None:
        """A server that wants the folder first gets it before the stream is touched."""
        self._make_folders(place)
        try:
            _request("PUT", _url(place), body=body.blocks(), headers=_put_headers(place))
        except OSError:
            if body.problem is not None:  # ours, not the storage's
                raise body.problem from None
            _made.discard(_folder(place))  # the server may have lost it: the next try makes it again
            raise

    def _fetched_there(self, source: Place, arriving: Place, size_bytes: int, tick: Tick) -> bool:
        """The destination fetches the file from the source; False: it is not meant to, or refuses."""
        rights = _rights_to_lend(_url(source), _url(arriving))
        if rights is None:
            return False
        # What arrives is measured by us, so a source that tells no checksum is none the worse.
        headers = {"Source": _url(source), "Credential": "none", "RequireChecksumVerification": "false"}
        headers |= {f"TransferHeader{name}": value for name, value in rights.items()}
        self._make_folders(arriving)
        tick()
        try:
            reply = _request("COPY", _url(arriving), headers=headers, stream=True, timeout=MARKER_TIMEOUT)
        except OSError as problem:
            _made.discard(_folder(arriving))
            if problem.errno not in _REFUSALS:
                raise
            refusals.tell(source, arriving, str(problem.strerror))
            return False
        with closing(reply):
            # 201 and not a word: it was done before the server answered.
            markers.follow(_blocks(reply), size_bytes, tick, may_be_silent=reply.status == 201)
        return True

    def _copied_there(self, source: Place, arriving: Place) -> bool:
        """One server copies by itself (WebDAV's COPY); between two the bytes go through us."""
        if urlsplit(source.root)[:2] != urlsplit(arriving.root)[:2]:
            return False
        try:
            headers = {"Destination": _url(arriving), "Overwrite": "T"}
            reply = self._with_folders("COPY", _url(source), arriving, headers)
        except FileNotFoundError:
            raise
        except OSError:
            return False
        return reply.status in (201, 204)

    def _with_folders(self, verb: str, url: str, target: Place, headers: Mapping[str, str]) -> urllib3.BaseHTTPResponse:
        """A verb that puts something at `target`; its folders are made if the server says that they lack."""
        try:
            return _request(verb, url, headers=headers)
        except (FileNotFoundError, PermissionError, _Lacking):  # some say 403 where RFC 4918 wants 409
            _made.discard(_folder(target))
            self._make_folders(target)
            return _request(verb, url, headers=headers)

    def _make_folders(self, place: Place) -> None:
        deepest = _folder(place)
        if deepest in _made:
            return
        server, _, path = deepest.partition("://")[2].partition("/")
        folders = [each for each in path.split("/") if each]
        for n in range(1, len(folders) + 1):
            # 405: it is there already; a server without folders (403, 501) makes them with the file.
            with suppress(OSError):
                _request("MKCOL", f"{urlsplit(place.root).scheme}://{server}/{'/'.join(folders[:n])}/")
        _made.add(deepest)


def _rights_to_lend(source: str, destination: str) -> Mapping[str, str] | None:
    """What the destination needs to read the source; None: not both take part, or it would be sent in the clear."""
    lent, taker = (credential_for(url, current().data.credentials) for url in (source, destination))
    rights = _rights(lent)
    if not (lent.third_party_copy and taker.third_party_copy):
        return None
    return None if rights and source.startswith("https:") and not destination.startswith("https:") else rights


#: Folders that this process saw made; a server that loses them says so, and they are made again.
_made: set[str] = set()


class _Lacking(OSError):
    """409: a folder on the way does not exist."""


class _Unknown(OSError):
    """405, 501: a verb that the server does not offer."""


class _Counted:
    """A stream on its way out: how much it was, and what it summed up to."""

    def __init__(self, stream: Stream, cap_bytes: int, tick: Tick) -> None:
        self._stream, self._cap_bytes, self._tick = stream, cap_bytes, tick
        self._size_bytes, self._adler32 = 0, 1
        self.problem: Exception | None = None
        """What made it stop, if something did."""

    def blocks(self) -> Iterator[bytes]:
        """The bytes, block by block."""
        try:
            yield from self._blocks()
        except Exception as problem:
            self.problem = problem
            raise

    def _blocks(self) -> Iterator[bytes]:
        while block := self._stream.read(BLOCK_BYTES):
            self._size_bytes += len(block)
            if self._size_bytes > self._cap_bytes:
                raise TooLarge(f"the file is larger than {self._cap_bytes} bytes")
            self._adler32 = zlib.adler32(block, self._adler32)
            yield block
            self._tick()

    @property
    def content(self) -> Content:
        return Content(self._size_bytes, f"{self._adler32:08x}")


class _Reading(io.RawIOBase):
    """A reply as a file: what breaks off early raises, it does not look like the end."""

    def __init__(self, reply: urllib3.BaseHTTPResponse) -> None:
        self._reply = reply

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        try:
            block = self._reply.read(len(buffer))
        except HTTPError as problem:
            raise OSError(errno.EIO, f"the storage broke off: {problem}") from problem
        buffer[: len(block)] = block
        return len(block)

    def close(self) -> None:
        self._reply.close()
        super().close()


def _url(place: Place) -> str:
    """Paths are made of checked names; a wrong row must still not lead out of the storage."""
    if not place.path or place.path.startswith("/") or ".." in place.path.split("/"):
        raise OSError(errno.EINVAL, f"{place.path!r} is no path below the storage", place.root)
    return f"{place.root.rstrip('/')}/{quote(place.path, safe='/@~')}"


def _put_headers(place: Place) -> Mapping[str, str]:
    """XRootD 5.5 breaks off a body in chunks over TLS unless it was asked first (and one in the clear if it was)."""
    asks_first = {"Expect": "100-continue"} if place.root.startswith("https:") else {}
    return {"Content-Type": "application/octet-stream", **asks_first}


def _folder(place: Place) -> str:
    return _url(place).rpartition("/")[0]


def _neighbour(place: Place) -> Place:
    folder, _, _ = place.path.rpartition("/")
    return Place(place.root, f"{folder}/.{uuid.uuid4().hex}.part".lstrip("/"))


def _request(
    verb: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: Iterator[bytes] | bytes | None = None,
    stream: bool = False,
    timeout: urllib3.Timeout | None = None,
) -> urllib3.BaseHTTPResponse:
    """One request. Raises OSError, by kind, for everything but success."""
    for _ in range(MAX_REDIRECTS + 1):
        credential = credential_for(url, current().data.credentials)
        ask = partial(
            pool(credential.ca).request, verb, url, headers={**_rights(credential), **(headers or {})}, body=body,
            preload_content=not stream, redirect=False, retries=False, timeout=timeout or TIMEOUT,
        )  # fmt: skip
        try:
            try:
                reply = ask()
            except ProtocolError as problem:
                if isinstance(body, Iterator) or not isinstance(problem.args[-1], RemoteDisconnected):
                    raise
                reply = ask()  # the server had closed a connection that we kept
        except (HTTPError, ssl.SSLError) as problem:
            raise OSError(errno.EIO, f"the storage does not answer: {_reason(problem)}", url) from problem
        if reply.status not in (301, 302, 303, 307, 308):
            return _checked(reply, verb, url)
        target = urljoin(url, reply.headers.get("Location", ""))
        reply.drain_conn()
        if verb not in ("GET", "HEAD"):
            raise OSError(errno.EREMOTE, f"the storage sends {verb} elsewhere, to {target.partition('?')[0]}", url)
        url = target
    raise OSError(errno.ELOOP, "the storage redirects for ever", url)


def _checked(reply: urllib3.BaseHTTPResponse, verb: str, url: str) -> urllib3.BaseHTTPResponse:
    if 200 <= reply.status < 300:
        return reply
    reply.drain_conn()
    if reply.status in _ABSENT:
        raise FileNotFoundError(errno.ENOENT, "no such file on the storage", url)
    if reply.status == 409:
        raise _Lacking(errno.ENOENT, "a folder is missing on the storage", url)
    if reply.status == 400:
        raise OSError(errno.EBADRQC, f"the storage answers {verb} with 400 {reply.reason or ''}".strip(), url)
    if reply.status in (405, 501):
        raise _Unknown(errno.EOPNOTSUPP, f"the storage does not know {verb}", url)
    code = errno.ENOSPC if reply.status in _FULL else errno.EACCES if reply.status in (401, 403) else errno.EIO
    raise OSError(code, f"the storage answers {verb} with {reply.status} {reply.reason or ''}".strip(), url)


def _blocks(reply: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    """A reply's body, each part as soon as it is there; what breaks off early raises."""
    try:
        while block := reply.read1(1 << 16):
            yield block
    except HTTPError as problem:
        raise OSError(errno.EIO, f"the storage broke off: {_reason(problem)}") from problem


def _rights(credential: Credential) -> dict[str, str]:
    if credential.token:
        return {"Authorization": f"Bearer {credential.token}"}
    if credential.user:
        return dict(urllib3.make_headers(basic_auth=f"{credential.user}:{credential.password}"))
    return {}


@cache
def pool(ca: str) -> urllib3.PoolManager:
    """Connections to all servers that these authorities vouch for; empty: the system's."""
    return urllib3.PoolManager(num_pools=32, maxsize=16, block=False, ca_certs=ca or None)


def _length(reply: urllib3.BaseHTTPResponse, place: Place) -> int:
    length = reply.headers.get("Content-Length", "")
    if not length.isdigit():
        raise OSError(errno.EIO, "the storage does not tell the file's size", place.path)
    return int(length)


def _digest(told: str) -> str | None:
    """`adler32=0a0b0c0d` of a Digest header, as eight digits."""
    for each in told.split(","):
        name, _, value = each.strip().partition("=")
        if name.lower() == "adler32":
            return value.strip().lower().rjust(8, "0")
    return None


def _reason(problem: Exception) -> str:
    return str(getattr(problem, "reason", problem) or problem)
