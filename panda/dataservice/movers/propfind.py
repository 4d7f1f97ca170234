"""WebDAV's answer to PROPFIND (RFC 4918) with `Depth: 1`: what is in a folder.

It is read as it comes. Entities and document types, by which XML is made a trap, are refused.
"""

import errno
from collections.abc import Iterable, Iterator
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import unquote, urlsplit
from xml.parsers import expat

from panda.dataservice.movers.listing import Entry, path_in

ASK = (
    b'<?xml version="1.0"?><propfind xmlns="DAV:"><prop>'
    b"<getcontentlength/><getlastmodified/><resourcetype/></prop></propfind>"
)
#: Longer texts in an answer are none of ours.
MOST_TEXT = 16_384
_DAV = "DAV: "
_WANTED = frozenset(f"{_DAV}{name}" for name in ("href", "getcontentlength", "getlastmodified", "collection"))


def read(blocks: Iterable[bytes], url: str, folder: str) -> Iterator[Entry]:
    """What a folder holds, without itself.

    Args:
        blocks: the answer's body, as it comes.
        url: that was asked.
        folder: its path below the storage's root.
    Raises:
        OSError: no list of files, or one of another folder. `size_bytes` is -1 where the server does not tell it.
    """
    answer = _Answer()
    for block in blocks:
        answer.feed(block)
        yield from _entries(answer, url, folder)
    answer.feed(b"", is_last=True)
    yield from _entries(answer, url, folder)


def _entries(answer: "_Answer", url: str, folder: str) -> Iterator[Entry]:
    for said in answer.taken():
        name = _name(said.get("href", ""), url)
        if name is not None:
            length = said.get("getcontentlength", "")
            size_bytes = int(length) if length.isdecimal() and len(length) <= 18 else -1
            yield Entry(path_in(folder, name), "collection" in said, size_bytes, _instant(said))


def _name(href: str, url: str) -> str | None:
    """The last part of an address; None: it is the folder's own. Parts are told apart before they are decoded."""
    parts = [unquote(part) for part in urlsplit(href).path.split("/") if part]
    asked = [unquote(part) for part in urlsplit(url).path.split("/") if part]
    if href and parts == asked:
        return None
    if not href or parts[:-1] != asked:
        raise OSError(errno.EBADMSG, f"the storage lists {href[:300]!r}, which is not in the folder", url)
    return parts[-1]


def _instant(said: dict[str, str]) -> float | None:
    try:
        return parsedate_to_datetime(said["getlastmodified"]).timestamp()
    except (KeyError, ValueError, OverflowError):
        return None


class _Answer:
    """A parser that gives out each response when it has ended: the texts of its elements, by their names."""

    def __init__(self) -> None:
        self._done: list[dict[str, str]] = []
        self._said: dict[str, str] = {}
        self._text = ""
        self._depth = 0
        self._parser = expat.ParserCreate(namespace_separator=" ")
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._characters
        self._parser.StartDoctypeDeclHandler = self._refuse

    def feed(self, block: bytes, *, is_last: bool = False) -> None:
        """Raises OSError."""
        try:
            self._parser.Parse(block, is_last)
        except expat.ExpatError as problem:
            raise _no_list(str(problem)) from problem

    def taken(self) -> list[dict[str, str]]:
        """The responses that ended since it was last asked."""
        done, self._done = self._done, []
        return done

    def _start(self, name: str, _: Any) -> None:
        if self._depth == 0 and name != f"{_DAV}multistatus":
            raise _no_list(f"it begins with {name[:100]}")
        if name == f"{_DAV}response":
            self._said = {}
        self._depth += 1
        self._text = ""

    def _end(self, name: str) -> None:
        self._depth -= 1
        if name == f"{_DAV}response":
            self._done.append(self._said)
        elif name in _WANTED and (self._text.strip() or name == f"{_DAV}collection"):
            self._said.setdefault(name.removeprefix(_DAV), self._text.strip())  # properties may hold a further href
        self._text = ""

    def _characters(self, text: str) -> None:
        self._text += text
        if len(self._text) > MOST_TEXT:
            raise _no_list("a text in it is too long")

    def _refuse(self, *_: Any) -> None:
        raise _no_list("it brings a document type of its own")


def _no_list(why: str) -> OSError:
    return OSError(errno.EBADMSG, f"the storage answers PROPFIND with something that is no list of files: {why}")
