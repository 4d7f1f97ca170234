"""What we ask of a Rucio server, over its REST: what an RSE is, which replicas it knows, which rules it keeps.

Plain requests, not `rucio-clients` (decision 14). A server is reached at the address of a storage, with the entry of
the credentials file that covers it: `token` (sent as it is, a token of Rucio's or of OpenID Connect), or `user` and
`password` (userpass), and the `account`; `auth` names the address that gives tokens, if that is another one.
"""

import errno
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec
import urllib3
from urllib3.exceptions import HTTPError

from panda.dataservice.credentials import Credential, credential_for
from panda.dataservice.movers.http import pool
from panda.errors import ConfigError
from panda.settings import current

TIMEOUT = urllib3.Timeout(connect=10, read=60)
#: A token is asked for anew after so long, if the server has not refused it before.
TOKEN_STAYS_S = 1_800
#: What was learnt of an RSE is good for so long.
RSE_STAYS_S = 300
_KINDS = {
    "DataIdentifierNotFound": errno.ENOENT, "ReplicaNotFound": errno.ENOENT, "RuleNotFound": errno.ENOENT,
    "AccessDenied": errno.EACCES, "CannotAuthenticate": errno.EACCES, "InsufficientAccountLimit": errno.EDQUOT,
    "DuplicateRule": errno.EEXIST, "InvalidObject": errno.EINVAL,
}  # fmt: skip


class RucioRefused(OSError):
    """The server said no; `name` is its own word for why."""

    def __init__(self, name: str, message: str, url: str) -> None:
        super().__init__(_KINDS.get(name, errno.EIO), f"Rucio says {name}: {message[:300]}", url)
        self.name = name


@dataclass(frozen=True)
class Did:
    """Rucio's name of a file."""

    scope: str
    name: str

    def __str__(self) -> str:
        return f"{self.scope}:{self.name}"


@dataclass(frozen=True)
class Rse:
    """A storage as Rucio knows it."""

    name: str
    protocols: tuple[Mapping[str, Any], ...]


class Rucio:
    """One server, seen by one account."""

    def __init__(self, address: str, credential: Credential) -> None:
        self._address = address
        self._credential = credential
        self._token, self._token_at = credential.token, time.monotonic()
        self._lock = threading.Lock()
        self._rses: dict[str, tuple[float, Rse]] = {}

    @property
    def account(self) -> str:
        return self._credential.account

    def rse(self, name: str) -> Rse:
        """Facts about an RSE, at most `RSE_STAYS_S` old.

        Raises:
            ConfigError: its files do not lie where Rucio's usual hash puts them.
        """
        read_at, rse = self._rses.get(name, (0.0, None))
        if rse is not None and time.monotonic() - read_at < RSE_STAYS_S:
            return rse
        facts = self._one("GET", f"/rses/{quote(name)}")
        if not facts.get("deterministic"):
            raise ConfigError(f"RSE {name} is not deterministic: no rule can bring a file to a place that we know")
        rse = Rse(name, tuple(facts.get("protocols") or ()))
        self._rses[name] = (time.monotonic(), rse)
        return rse

    def address_of(self, rse: str, did: Did) -> str:
        """Where a file lies, or will lie, at an RSE, in Rucio's own words (its first protocol for writing)."""
        found = self._one("GET", f"/rses/{quote(rse)}/lfns2pfns", {"lfn": str(did), "operation": "write"})
        return str(found[str(did)])

    def free_bytes(self, rse: str) -> tuple[int, int] | None:
        """Free and total, as a probe of the storage told Rucio last; None: no probe does."""
        for told in self._many("GET", f"/rses/{quote(rse)}/usage", {"source": "storage"}):
            if told.get("source") == "storage" and told.get("free") is not None:
                return int(told["free"]), int(told.get("total") or 0)
        return None

    def register(self, rse: str, did: Did, size_bytes: int, adler32: str) -> None:
        """Enter a replica that is in its place. Safe to repeat.

        Raises:
            RucioRefused: the server knows other bytes under that name, or the scope not at all.
        """
        file = {"scope": did.scope, "name": did.name, "bytes": size_bytes, "adler32": adler32, "state": "A"}
        # Without "ignore": an RSE that is closed for writing says so.
        self._one("POST", "/replicas", body={"rse": rse, "files": [file]})
        # It takes a second replica at the same RSE without a look at its bytes.
        known = self._one("GET", f"/dids/{quote(did.scope)}/{quote(did.name)}/meta") or {}
        told = int(known.get("bytes") or 0), str(known.get("adler32") or "").lower().rjust(8, "0")
        if told != (size_bytes, adler32):
            words = f"{did} has {told[0]} bytes with adler32 {told[1]} for ever, not {size_bytes} with {adler32}"
            raise RucioRefused("FileConsistencyMismatch", words, str(did))

    def rules(self, rse: str, did: Did) -> list[dict[str, Any]]:
        """Our rules that keep this file at this RSE; none either if Rucio does not know the file."""
        path = f"/dids/{quote(did.scope)}/{quote(did.name)}/rules"
        try:
            found = self._many("GET", path)
        except FileNotFoundError:
            return []
        return [
            each for each in found if each.get("rse_expression") == rse and each.get("account") == self.account
        ]  # fmt: skip

    def knows(self, rse: str, did: Did) -> bool:
        """Whether Rucio has a replica of this file at this RSE in its books, in whatever state."""
        # Sorted by chance: else the server looks for where on earth we are.
        body = {
            "dids": [{"scope": did.scope, "name": did.name}],
            "rse_expression": rse,
            "all_states": True,
            "sort": "random",
        }
        try:
            found = self._many("POST", "/replicas/list", body=body)
        except FileNotFoundError:
            return False
        return any(rse in (each.get("rses") or {}) or rse in (each.get("states") or {}) for each in found)

    def add_rule(self, rse: str, did: Did, comment: str, lifetime_s: int | None) -> None:
        """Want one copy of this file at this RSE. A rule that is there already is as good."""
        wanted = {
            "dids": [{"scope": did.scope, "name": did.name}], "copies": 1, "rse_expression": rse, "grouping": "NONE",
            "account": self.account, "lifetime": lifetime_s, "comment": comment, "locked": False, "notify": "N",
            "purge_replicas": True, "asynchronous": False, "priority": 3,
        }  # fmt: skip
        try:
            self._one("POST", "/rules/", body=wanted)
        except RucioRefused as refusal:
            if refusal.name != "DuplicateRule":
                raise

    def change_rule(self, rule_id: str, **options: Any) -> None:
        self._one("PUT", f"/rules/{quote(rule_id)}", body={"options": options})

    def drop_rule(self, rule_id: str) -> None:
        """Rucio removes the replica when no rule keeps it, in its own time."""
        try:
            self._one("DELETE", f"/rules/{quote(rule_id)}", body={"purge_replicas": True})
        except FileNotFoundError:
            return

    def _one(self, verb: str, path: str, query: Mapping[str, str] | None = None, body: Any = None) -> Any:
        held = self._ask(verb, path, query, body)
        try:
            return msgspec.json.decode(held) if held.strip()[:1] in (b"{", b"[") else None
        except msgspec.DecodeError as problem:
            raise OSError(errno.EIO, f"Rucio answers what is no JSON: {problem}", path) from problem

    def _many(self, verb: str, path: str, query: Mapping[str, str] | None = None, body: Any = None) -> list[Any]:
        """A reply of one document per line."""
        try:
            return list(_lines(self._ask(verb, path, query, body)))
        except msgspec.DecodeError as problem:
            raise OSError(errno.EIO, f"Rucio answers what is no JSON: {problem}", path) from problem

    def _ask(self, verb: str, path: str, query: Mapping[str, str] | None, body: Any) -> bytes:
        token = self._fresh_token()
        reply = self._send(verb, path, query, body, token)
        if reply.status == 401 and reply.headers.get("ExceptionClass") == "CannotAuthenticate":
            reply = self._send(verb, path, query, body, self._fresh_token(refused=token))
        return _checked(reply, path)

    def _send(
        self, verb: str, path: str, query: Mapping[str, str] | None, body: Any, token: str
    ) -> urllib3.BaseHTTPResponse:
        asked = "&".join(f"{name}={quote(value)}" for name, value in (query or {}).items())
        headers = {"X-Rucio-Auth-Token": token, "Accept": "*/*"}
        url = f"{self._address}{path}{'?' if asked else ''}{asked}"
        return _request(verb, url, headers, self._credential.ca, None if body is None else msgspec.json.encode(body))

    def _fresh_token(self, refused: str = "") -> str:
        credential = self._credential
        if credential.token:
            return credential.token
        with self._lock:  # one of many threads logs in
            if self._token in ("", refused) or time.monotonic() - self._token_at > TOKEN_STAYS_S:
                headers = {"X-Rucio-Account": credential.account, "X-Rucio-Username": credential.user,
                           "X-Rucio-Password": credential.password}  # fmt: skip
                url = f"{(credential.auth or self._address).rstrip('/')}/auth/userpass"
                reply = _request("GET", url, headers, credential.ca)
                _checked(reply, url)
                self._token, self._token_at = reply.headers.get("X-Rucio-Auth-Token", ""), time.monotonic()
            return self._token


_servers: dict[tuple[str, Credential], Rucio] = {}


def server_of(root: str) -> tuple[Rucio, str]:
    """The server and the name of the RSE behind a storage's root, `rucio+https://host[:port][/path]/RSE`.

    Raises:
        ConfigError: it is no such address, or no credential with an account covers it.
    """
    parts = urlsplit(root)
    path, _, rse = parts.path.rstrip("/").rpartition("/")
    if parts.scheme not in ("rucio+https", "rucio+http") or not parts.netloc or not rse:
        raise ConfigError(f"a Rucio storage's root is rucio+https://host/RSE, not {root!r}")
    credential = credential_for(root, current().data.credentials)
    if not credential.account or not (credential.token or credential.user):
        raise ConfigError(f"the credentials for {root} want an account, and a token or user and password")
    address = f"{parts.scheme.removeprefix('rucio+')}://{parts.netloc}{path}"
    return _servers.setdefault((address, credential), Rucio(address, credential)), rse


def _request(
    verb: str, url: str, headers: Mapping[str, str], ca: str, body: bytes | None = None
) -> urllib3.BaseHTTPResponse:
    try:
        return pool(ca).request(
            verb, url, headers=headers, body=body, redirect=False, retries=False, timeout=TIMEOUT
        )  # fmt: skip
    except HTTPError as problem:
        raise OSError(errno.EIO, f"Rucio does not answer: {getattr(problem, 'reason', problem)}", url) from problem


def _checked(reply: urllib3.BaseHTTPResponse, path: str) -> bytes:
    if 200 <= reply.status < 300:
        return reply.data
    name = reply.headers.get("ExceptionClass", "")
    if not name:
        raise OSError(errno.EIO, f"Rucio answers with {reply.status} {reply.reason or ''}".strip(), path)
    refusal = RucioRefused(name, reply.headers.get("ExceptionMessage", ""), path)
    if refusal.errno == errno.ENOENT:
        raise FileNotFoundError(errno.ENOENT, refusal.strerror, path)
    raise refusal


def _lines(held: bytes) -> Iterator[Any]:
    for line in held.splitlines():
        if line.strip():
            yield msgspec.json.decode(line)
