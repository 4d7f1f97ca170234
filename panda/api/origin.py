"""Where a request comes from: the peer, or what a proxy says of it, if it is one of ours."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import falcon

from panda.errors import ConfigError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class Origin:
    """`address` is "" where it cannot be known."""

    address: str
    scheme: str

    @property
    def is_this_machine(self) -> bool:
        try:
            return ipaddress.ip_address(self.address).is_loopback
        except ValueError:
            return False


class Origins:
    """Falcon middleware: `req.context.origin`."""

    def __init__(self, trusted_proxies: str) -> None:
        """Raises ConfigError: a word of it is neither an address nor a network."""
        self._trusted = networks(trusted_proxies)

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        req.context.origin = origin(req.env, self._trusted)


def networks(text: str) -> tuple[Network, ...]:
    """Addresses and networks, with commas between them. Raises ConfigError."""
    try:
        return tuple(ipaddress.ip_network(word.strip()) for word in text.split(",") if word.strip())
    except ValueError as problem:
        raise ConfigError(f"[api] trusted_proxies: {problem}") from problem


def origin(env: Mapping[str, str], trusted: tuple[Network, ...]) -> Origin:
    """The last hop that is none of our proxies, and the scheme that the first of these was called with.

    What a stranger claims in these headers counts for nothing, except that the peer is then not believed
    to be the caller: behind a proxy that nobody told us of, everybody would come from this machine.
    """
    peer, scheme = env.get("REMOTE_ADDR", ""), env.get("wsgi.url_scheme", "http")
    hops = [hop.strip() for hop in env.get("HTTP_X_FORWARDED_FOR", "").split(",") if hop.strip()]
    if not _is_ours(peer, trusted):
        claims = hops or "HTTP_FORWARDED" in env or "HTTP_X_REAL_IP" in env
        return Origin("" if claims else peer, scheme)
    told = env.get("HTTP_X_FORWARDED_PROTO", "").strip().lower()
    address = next((hop for hop in reversed(hops) if not _is_ours(hop, trusted)), hops[0] if hops else "")
    return Origin(address, told if told in ("http", "https") else scheme)


@lru_cache(maxsize=1024)
def _is_ours(address: str, trusted: tuple[Network, ...]) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(parsed in network for network in trusted)
