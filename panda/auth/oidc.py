"""People whom an OpenID Connect issuer vouches for: its tokens (JWT) are taken as ours are.

What counts is exact: the issuer, the audience, a signature by one of its keys, a time that is not over. The first
time that somebody comes they become a user of ours, known by the issuer's `sub` for ever, under the name that
the token says; a name that somebody else has is refused. Their roles are those of their groups, each time they come.

This module is loaded only where an issuer is configured (`panda.auth.verifiers`): the cryptography behind it takes
20 MB of a process.
"""

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import jwt
import msgspec
from sqlalchemy.engine import Connection

from panda.auth import audit_log
from panda.auth.identity import Identity, Role
from panda.db.session import Begin, rows, run
from panda.errors import ConfigError, Invalid, Unauthenticated, Unavailable
from panda.logs import Log
from panda.names import checked
from panda.settings import LOOPBACK, Oidc

log = Log("panda.auth.oidc")

#: Signatures by a private key of the issuer; none by a secret that we would share with it.
ALGORITHMS: Mapping[str, frozenset[str]] = {
    "RSA": frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}),
    "EC": frozenset({"ES256", "ES384", "ES512"}),
    "OKP": frozenset({"EdDSA"}),
}
#: Keys are fetched anew after this, ...
KEYS_S = 3600.0
#: ... trusted while the issuer does not answer, ...
TRUSTED_S = 24 * 3600.0
#: ... and fetched for the sake of a key that nobody knows no more often than this.
PAUSE_S = 30.0
FETCH_S = 5.0
MAX_BYTES = 1_000_000
#: The issuer's clock and ours.
LEEWAY_S = 30
MAX_TOKEN = 16_000
MAX_GROUPS = 1_000

KNOWN = """
SELECT name, roles, banned_at IS NOT NULL AS is_banned FROM users
WHERE issuer = %(issuer)s AND subject = %(subject)s
"""
CREATE = """
INSERT INTO users (name, roles, created_at, issuer, subject)
VALUES (%(name)s, %(roles)s, panda_now(), %(issuer)s, %(subject)s) ON CONFLICT DO NOTHING
"""
SET_ROLES = "UPDATE users SET roles = %(roles)s WHERE name = %(name)s"

Fetch = Callable[[str], Any]
"""The JSON document at an address. Raises OSError, ValueError."""


class Issuer:
    """Reads tokens of one issuer; its keys are fetched when they are needed, and kept."""

    def __init__(self, oidc: Oidc, fetch: Fetch | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """Raises ConfigError: an address that is not https, and not this machine's either; no audience."""
        if not oidc.audience:
            raise ConfigError("[oidc] issuer wants an audience beside it: the one that tokens for this server have")
        for name, address in (("issuer", oidc.issuer), ("jwks_url", oidc.jwks_url)):
            if address and not _is_safe(address):
                raise ConfigError(f"[oidc] {name} is {address!r}; it must be https")
        self._oidc = oidc
        self._fetch = fetch or fetched
        self._clock = clock
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_at = self._tried_at = float("-inf")
        self._fetching = threading.Lock()

    def claims(self, token: str) -> dict[str, Any]:
        """What a token says, once it is known to be good.

        Raises:
            Unauthenticated: it is none, or not for us, or its time is over.
            Unavailable: its key is not known, and the issuer does not answer.
        """
        if len(token) > MAX_TOKEN:
            raise Unauthenticated("this token is too long")
        try:
            header = jwt.get_unverified_header(token)
            algorithm = str(header.get("alg"))
            key = self._key(header.get("kid"), algorithm)
            found: dict[str, Any] = jwt.decode(
                token, key.key, algorithms=[algorithm], issuer=self._oidc.issuer, audience=self._oidc.audience,
                leeway=LEEWAY_S, options={"require": ["exp", "iss", "aud", "sub"]},
            )  # fmt: skip
        except jwt.ExpiredSignatureError:
            raise Unauthenticated("this token has expired") from None
        except (jwt.InvalidIssuerError, jwt.InvalidAudienceError) as problem:
            raise Unauthenticated(f"this token is not for this server: {problem}") from None
        except jwt.PyJWTError as problem:
            raise Unauthenticated(f"this token is not good: {str(problem)[:200]}") from None
        except (TypeError, ValueError, KeyError):  # a header or a claim of a type that nobody thought of
            raise Unauthenticated("this token is not good") from None
        return found

    def _key(self, kid: Any, algorithm: str) -> jwt.PyJWK:
        now = self._clock()
        if now - self._fetched_at > KEYS_S or _fitting(self._keys, kid, algorithm) is None:
            self._renew(now)
        key = _fitting(self._keys, kid, algorithm)
        if key is None:
            raise Unauthenticated("this token is signed by no key of its issuer")
        return key

    def _renew(self, asked_at: float) -> None:
        """Fetch the keys, unless that was tried a moment ago."""
        with self._fetching:
            if self._tried_at >= asked_at or self._clock() - self._tried_at < PAUSE_S:
                return
            self._tried_at = self._clock()
            try:
                self._keys = self._fetched_keys()
                self._fetched_at = self._clock()
            except (OSError, ValueError, jwt.PyJWTError) as problem:
                log.warning("the issuer's keys cannot be fetched", issuer=self._oidc.issuer, problem=str(problem))
                if self._clock() - self._fetched_at > TRUSTED_S:
                    self._keys = {}
                if not self._keys:
                    raise Unavailable("the issuer of this token does not tell its keys now; try again") from problem

    def _fetched_keys(self) -> dict[str, jwt.PyJWK]:
        address = self._oidc.jwks_url or self._discovered()
        found = jwt.PyJWKSet.from_dict(_object(self._fetch(address)))
        return {str(key.key_id or number): key for number, key in enumerate(found.keys) if key.key_type in ALGORITHMS}

    def _discovered(self) -> str:
        """Where the issuer says that its keys are. Raises ValueError: it is another issuer, or says nothing."""
        document = _object(self._fetch(f"{self._oidc.issuer.rstrip('/')}/.well-known/openid-configuration"))
        if document.get("issuer") != self._oidc.issuer:
            raise ValueError(f"{str(document.get('issuer'))[:200]!r} answers in the place of the issuer")
        address = document.get("jwks_uri")
        if not isinstance(address, str) or not _is_safe(address):
            raise ValueError("the issuer's document names no address of its keys that is https")
        return address


class Vouched:
    """Identities by tokens of the issuer."""

    def __init__(self, begin: Begin, oidc: Oidc, issuer: Issuer | None = None) -> None:
        """Raises ConfigError: the settings cannot be meant."""
        self._begin = begin
        self._oidc = oidc
        self._issuer = issuer or Issuer(oidc)
        self._roles = roles_by_group(oidc.roles)
        self._everybodys = _roles(oidc.default_role, "default_role") if oidc.default_role else frozenset()

    def __call__(self, token: str) -> tuple[Identity, float]:
        """Who comes with this token, and for how many seconds it is still good.

        Raises:
            Unauthenticated: it is not good, its owner is banned, has no role here, or the name of somebody else.
            Unavailable: the issuer does not answer.
        """
        claims = self._issuer.claims(token)
        roles = self._everybodys.union(*(self._roles.get(group, ()) for group in self._groups(claims)))
        if not roles:
            raise Unauthenticated("none of the groups in this token has a role here")
        with self._begin() as connection:
            name = self._user(connection, claims, roles)
        left_s = float(claims["exp"]) + LEEWAY_S - time.time()
        return Identity(name, roles, issuer=self._oidc.issuer), max(0.0, left_s)

    def _groups(self, claims: Mapping[str, Any]) -> list[str]:
        found = claims.get(self._oidc.groups_claim)
        groups = found if isinstance(found, list) else [found]
        return [group for group in groups[:MAX_GROUPS] if isinstance(group, str)]

    def _user(self, connection: Connection, claims: Mapping[str, Any], roles: frozenset[Role]) -> str:
        """The name of the user; they are made, or given other roles, if need be."""
        key = {"issuer": self._oidc.issuer, "subject": str(claims["sub"])}
        wanted = sorted(map(str, roles))
        found = rows(connection, KNOWN, key)
        if not found:
            name = self._name(claims)
            if not run(connection, CREATE, {**key, "name": name, "roles": wanted}):
                found = rows(connection, KNOWN, key)  # they came twice at once
                if not found:
                    raise Unauthenticated(f"the name {name} belongs to somebody else here; an admin has to look at it")
            else:
                audit_log.record(connection, "oidc", "create_user", name, facts={**key, "roles": wanted})
                return name
        user = found[0]
        if user.is_banned:
            raise Unauthenticated(f"{user.name} is banned")
        if sorted(user.roles) != wanted:
            run(connection, SET_ROLES, {"name": user.name, "roles": wanted})
            audit_log.record(
                connection, "oidc", "set_roles", user.name, facts={"was": sorted(user.roles), "roles": wanted}
            )
        return str(user.name)

    def _name(self, claims: Mapping[str, Any]) -> str:
        said = claims.get(self._oidc.name_claim)
        if not isinstance(said, str):
            raise Unauthenticated(f"this token has no {self._oidc.name_claim} that says who it is for")
        try:
            return checked(said, self._oidc.name_claim)
        except Invalid as problem:
            raise Unauthenticated(f"this token names nobody who could be a user here: {problem}") from None


def roles_by_group(text: str) -> dict[str, frozenset[Role]]:
    """`{"/panda/users": "user", "/panda/shift": ["user", "operator"]}`. Raises ConfigError: that is none."""
    try:
        found = json.loads(text or "{}")
        told: dict[str, list[str]] = msgspec.convert(
            {group: [each] if isinstance(each, str) else each for group, each in found.items()}, dict[str, list[str]]
        )
    except (ValueError, AttributeError, msgspec.ValidationError):
        raise ConfigError(
            '[oidc] roles is no JSON object of groups and roles, such as {"/panda/users": "user"}'
        ) from None
    return {group: frozenset().union(*(_roles(each, "roles") for each in roles)) for group, roles in told.items()}


def _roles(name: str, setting: str) -> frozenset[Role]:
    if name not in set(Role):
        raise ConfigError(f"[oidc] {setting}: there is no role {name!r}; there are: {', '.join(Role)}")
    return frozenset({Role(name)})


def _fitting(keys: Mapping[str, jwt.PyJWK], kid: Any, algorithm: str) -> jwt.PyJWK | None:
    """The key that a token names; of an issuer with one key, that one, where it names none."""
    named = [keys[kid]] if isinstance(kid, str) and kid in keys else list(keys.values()) if kid is None else []
    fitting = [key for key in named if algorithm in ALGORITHMS.get(str(key.key_type), ())]
    return fitting[0] if len(fitting) == 1 else None


def _is_safe(address: str) -> bool:
    """Nobody on the way can answer in its place."""
    parts = urlsplit(address)
    return bool(parts.hostname) and (parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK))


def _object(document: Any) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise ValueError("the issuer's answer is no object")
    return document


class _StaysThere(urllib.request.HTTPRedirectHandler):
    """An issuer that sends us elsewhere is not followed."""

    def redirect_request(self, *_: Any) -> None:
        return None


def fetched(address: str) -> Any:
    """The JSON document at an address. Raises OSError, ValueError."""
    request = urllib.request.Request(address, headers={"Accept": "application/json"})
    with urllib.request.build_opener(_StaysThere).open(request, timeout=FETCH_S) as answer:
        content = answer.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"more than {MAX_BYTES} bytes")
    return json.loads(content)
