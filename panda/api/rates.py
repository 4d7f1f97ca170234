"""How many requests one token may make: a bucket for each, filled by the clock, in this process alone.

Pilots have a bucket of their own size, or none: a site that runs well is loud. Who has no
good token has one by address.
"""

import math
import threading
from time import monotonic
from typing import Any

import falcon

from panda.auth.identity import Role
from panda.errors import PandaError
from panda.settings import Api

#: Tokens that are remembered; all are forgotten when there are more, which only ever favours callers.
REMEMBERED = 10_000
#: Bursts of a pilot's token, which many pilots of a site may share, are that much larger.
PILOT_BURST = 10
#: Bursts of refusals of one address, which many callers may share, in seconds of its rate.
STRANGER_BURST_S = 10


class TooManyRequests(PandaError):
    """The token was used, or the address was refused, too often in a short time; the same request may be sent after
    `Retry-After`."""

    code = "too_many_requests"

    def __init__(self, retry_after_s: int, what: str = "this token is used too often") -> None:
        super().__init__(f"{what}; try again in {retry_after_s} s")
        self.retry_after_s = retry_after_s


class Buckets:
    """Buckets of `size` drops that fill at `per_s`; one for each key. Without a rate nothing is ever refused."""

    def __init__(self, per_s: float, size: float) -> None:
        self._per_s, self._size = per_s, max(1.0, size)
        self._left: dict[int, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def take(self, key: int, now: float) -> float:
        """Take a drop. Returns 0, or the seconds until there is one."""
        if not self._per_s:
            return 0.0
        with self._lock:
            if len(self._left) >= REMEMBERED:
                self._left.clear()
            left, at = self._left.get(key, (self._size, now))
            left = min(self._size, left + max(0.0, now - at) * self._per_s)
            taken = left >= 1
            self._left[key] = (left - 1 if taken else left, now)
            return 0.0 if taken else (1 - left) / self._per_s


class Strangers:
    """Callers without a good token, by address. One whose bucket is empty hears 429 instead of 401; a good token is
    never refused for it, since many callers may share an address."""

    def __init__(self, limits: Api) -> None:
        self._buckets = Buckets(limits.strangers_per_s, limits.strangers_per_s * STRANGER_BURST_S)

    def count(self, req: falcon.Request) -> None:
        """One more is refused. Raises TooManyRequests."""
        # What a stranger says of proxies counts for nothing: then it is the peer. "": a socket that has no address.
        address = req.context.origin.address or req.env.get("REMOTE_ADDR", "")
        wait_s = self._buckets.take(hash(address), monotonic()) if address else 0.0
        if wait_s > 0:
            told = "calls without a good token come too often from this address"
            raise TooManyRequests(max(1, math.ceil(wait_s)), told)


class Rates:
    """Falcon middleware; after the gate, which knows whose token it is."""

    def __init__(self, limits: Api) -> None:
        self._people = Buckets(limits.requests_per_s, limits.requests_at_once)
        self._pilots = Buckets(limits.pilot_requests_per_s, limits.requests_at_once * PILOT_BURST)

    def process_resource(
        self, req: falcon.Request, resp: falcon.Response, resource: Any, params: dict[str, Any]
    ) -> None:
        """Raises TooManyRequests."""
        identity = getattr(req.context, "identity", None)
        if identity is None:  # everybody may call it
            return
        buckets = self._pilots if Role.PILOT in identity.roles else self._people
        # Python's clock only measures how long ago the last one was.
        wait_s = buckets.take(hash(req.env.get("HTTP_AUTHORIZATION", "")), monotonic())
        if wait_s > 0:
            raise TooManyRequests(max(1, math.ceil(wait_s)))
