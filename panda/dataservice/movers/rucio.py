"""Storages that Rucio looks after: an RSE of a Rucio server. `root` is `rucio+https://host[:port]/RSE`.

Bytes come and go by the RSE's own protocol, through our mover for it; Rucio hears of each file that counts (replica
with size and adler32, and a rule that keeps it). Between two RSEs of one server Rucio moves: a transfer is a rule,
looked at until it is satisfied. A file's path here becomes its name there:

    scope/dataset/3f/a1/lfn@42.1@t7   →   scope:dataset/lfn/42.1

`@t7` is our word for a copy and stays in the rule's comment, by which a rule is known to be that copy's. Drafts
(`…/@token`, `…@123456`) are bytes that Rucio never hears of.
"""

import errno
import hashlib
import re
import time
from email.utils import parsedate_to_datetime
from typing import Any, BinaryIO, Literal
from urllib.parse import urlsplit

from panda.dataservice.movers.base import Content, Mover, Place, Space, Stream, Tick, Underway, WrongContent
from panda.dataservice.rucio import Did, Rse, Rucio, server_of
from panda.dataservice.storage import mover_of
from panda.errors import ConfigError

#: Rucio's words for ways in, and whose hands they are here, the first that an RSE has.
SCHEMES = {"root": "xrootd", "davs": "http", "https": "http", "dav": "http", "http": "http", "file": "local"}
_OURS = {"davs": "https", "dav": "http"}
#: A rule that nobody asks after any more goes by itself, with what it brought. It stays for good once we counted it.
UNCLAIMED_S = 7 * 86_400
#: Seconds between two looks at a rule: a quarter of its age, within these.
SOONEST_S, LATEST_S = 5.0, 120.0

_PATH = re.compile(r"(?P<scope>[^/]+)/(?:(?P<dataset>.+)/[0-9a-f]{2}/[0-9a-f]{2}/)?(?P<file>[^/]+)")
_COPY = re.compile(r"@t\d+$")
_DRAFT = re.compile(r"(^|/)@[^/]*$|@\d+$")


class RucioMover:
    """The contract of `Mover`, with Rucio's catalogue beside it."""

    def write(self, place: Place, stream: Stream, cap_bytes: int, tick: Tick) -> Content:
        mover, inner = _inner(place)
        content = mover.write(inner, stream, cap_bytes, tick)
        if _is_draft(place.path):
            _drafts[place] = content
        else:
            self.keep(place, content)
        return content

    def copy(self, source: Place, destination: Place, expected: Content, tick: Tick) -> None:
        """By a rule, if both are Rucio's. Raises Underway until it is satisfied, OSError if it is stuck."""
        server, rse = server_of(destination.root)
        if server_of(source.root)[0] is not server or did_of(source.path) != did_of(destination.path):
            self._carry(source, destination, expected, tick)
            return
        did = did_of(destination.path)
        rules = server.rules(rse, did)
        if not rules:
            server.add_rule(rse, did, destination.path, UNCLAIMED_S)
            rules = server.rules(rse, did)
        tick()
        _insist(rules, destination)
        found = self.measure(destination, tick)
        if found != expected:
            raise WrongContent(destination, found, expected)
        server.change_rule(rules[0]["id"], comment=destination.path, lifetime=None)

    def _carry(self, source: Place, destination: Place, expected: Content, tick: Tick) -> None:
        """Through us, between two Rucios."""
        mover, inner = _inner(destination)
        with self.open(source) as stream:
            found = mover.write(inner, stream, expected.size_bytes + 1, tick)
        if found != expected:
            mover.remove(inner)
            raise WrongContent(source, found, expected)
        self.keep(destination, found)

    def keep(self, place: Place, content: Content) -> None:
        """Tell Rucio of a file that is in its place, and have it kept. Safe to repeat."""
        server, rse = server_of(place.root)
        did = did_of(place.path)
        server.register(rse, did, content.size_bytes, content.adler32)
        server.add_rule(rse, did, place.path, None)

    def measure(self, place: Place, tick: Tick) -> Content:
        mover, inner = _inner(place)
        return mover.measure(inner, tick)

    def size(self, place: Place) -> int:
        mover, inner = _inner(place)
        return mover.size(inner)

    def open(self, place: Place) -> BinaryIO:
        mover, inner = _inner(place)
        return mover.open(inner)

    def rename(self, place: Place, path: str) -> None:
        """A draft gets its name, and Rucio hears of it. Names that Rucio knows do not change."""
        target = Place(place.root, path)
        if not _is_draft(place.path):
            raise OSError(errno.EPERM, "Rucio knows no other name for a file", place.path)
        mover, inner = _inner(place)
        content = _drafts.get(place) or mover.measure(inner, lambda: None)
        mover.rename(inner, _inner(target)[1].path)
        if not _is_draft(path):
            self.keep(target, content)

    def remove(self, place: Place) -> None:
        """Rucio removes a file that it knows, in its own time, unless others want it; the rest is removed here."""
        _drafts.pop(place, None)
        if not _is_draft(place.path):
            server, rse = server_of(place.root)
            did = did_of(place.path)
            for rule in server.rules(rse, did):
                if rule.get("comments") == place.path:
                    server.drop_rule(rule["id"])
            if server.knows(rse, did):
                return
        mover, inner = _inner(place)
        mover.remove(inner)

    def space(self, root: str) -> Space | None:
        """What Rucio was told by its own probes, else what the storage says."""
        server, rse = server_of(root)
        told = server.free_bytes(rse)
        if told is not None:
            return Space(told[0], told[1] or None)
        mover, inner_root = _way_in(server, server.rse(rse))
        return mover.space(inner_root)

    def link(self, root: str, path: str, verb: Literal["GET", "PUT"], for_s: float) -> str:
        """As the mover of the RSE's protocol has it: nodes go to the storage, not to Rucio."""
        mover, inner = _inner(Place(root, path))
        return mover.link(inner.root, inner.path, verb, for_s)


#: What drafts of this process hold: from `write` until `remove`, which their writers always say.
_drafts: dict[Place, Content] = {}


def did_of(path: str) -> Did:
    """Rucio's name for a path of ours.

    Raises:
        OSError: the path is none of a dataset's file.
    """
    found = _PATH.fullmatch(_COPY.sub("", path))
    if found is None or ".." in path.split("/"):
        raise OSError(errno.EINVAL, f"{path!r} is no path of a file in a dataset", path)
    # Neither "@" nor "~" may be in a name of Rucio's, "/" may; in ours it cannot be, so names stay apart.
    file = re.sub(r"[@~]", "/", found["file"])
    return Did(found["scope"], f"{found['dataset']}/{file}" if found["dataset"] else file)


def pfn_path(did: Did) -> str:
    """Path below the prefix of a deterministic RSE. Rucio's algorithm "hash": the first four digits of the MD5
    of scope:name are two folders; dots in the scopes of users and groups are folders too."""
    digest = hashlib.md5(str(did).encode(), usedforsecurity=False).hexdigest()
    scope = did.scope.replace(".", "/") if did.scope.startswith(("user", "group")) else did.scope
    return f"{scope}/{digest[:2]}/{digest[2:4]}/{did.name}"


def _is_draft(path: str) -> bool:
    return _DRAFT.search(path) is not None


def _inner(place: Place) -> tuple[Mover, Place]:
    """Whose hands reach a file, and where it is for them."""
    server, name = server_of(place.root)
    mover, root = _way_in(server, server.rse(name))
    return mover, Place(root, place.path if _is_draft(place.path) else pfn_path(did_of(place.path)))


_checked_layouts: set[tuple[str, str]] = set()


def _way_in(server: Rucio, rse: Rse) -> tuple[Mover, str]:
    """Our mover for an RSE's protocol, and the RSE's prefix as a root of it."""
    protocols = [each for each in rse.protocols if each.get("scheme") in SCHEMES]
    if not protocols:
        offered = ", ".join(sorted({str(each.get("scheme")) for each in rse.protocols})) or "nothing"
        raise ConfigError(f"RSE {rse.name} offers {offered}; known are {', '.join(SCHEMES)}")
    chosen = min(protocols, key=lambda each: list(SCHEMES).index(each["scheme"]))
    root = _root(chosen)
    if (rse.name, root) not in _checked_layouts:
        probe = Did("panda", "probe/of/the/layout")
        told = server.address_of(rse.name, probe)
        if not told.endswith(f"/{pfn_path(probe)}"):
            raise ConfigError(f"RSE {rse.name} lays files out in its own way ({told}); only Rucio's hash is known")
        _checked_layouts.add((rse.name, root))
    return mover_of(SCHEMES[chosen["scheme"]]), root


def _root(protocol: Any) -> str:
    scheme, prefix = protocol["scheme"], f"/{str(protocol.get('prefix') or '').strip('/')}"
    if scheme == "file":
        return prefix
    port = f":{protocol['port']}" if protocol.get("port") else ""
    slash = "/" if scheme == "root" else ""
    root = f"{_OURS.get(scheme, scheme)}://{protocol['hostname']}{port}{slash}{prefix}"
    if not urlsplit(root).netloc:
        raise ConfigError(f"{root} is no address")
    return root


def _insist(rules: list[Any], destination: Place) -> None:
    """Nothing, if one of the rules is satisfied."""
    if not rules:
        raise OSError(errno.EIO, "Rucio took the rule and does not know it", destination.path)
    rule = rules[0]
    state = rule.get("state")
    if state == "OK":
        return
    if state in ("STUCK", "SUSPENDED"):
        raise OSError(errno.EIO, f"Rucio's rule {rule['id']} is {state}: {rule.get('error') or 'no reason'}",
                      destination.path)  # fmt: skip
    raise Underway(f"Rucio's rule {rule['id']} is {state}", min(max(_age_s(rule) / 4, SOONEST_S), LATEST_S))


def _age_s(rule: Any) -> float:
    try:
        return time.time() - parsedate_to_datetime(str(rule.get("created_at"))).timestamp()
    except ValueError:
        return 0.0
