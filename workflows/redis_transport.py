"""kombu's Redis transport, with one client for a channel.

kombu 5.7 makes a client for every command that it sends, and redis-py 8 builds its table of replies anew in each:
a tenth of what a worker spends. A client has no state but its pool of connections, so one serves as long as that pool.
"""

from typing import Any

from kombu.transport import TRANSPORT_ALIASES, redis


class Channel(redis.Channel):
    """A channel whose commands share a client."""

    _shared: Any = None

    def _create_client(self, asynchronous: bool = False) -> Any:
        if asynchronous:  # kombu keeps these itself
            return super()._create_client(asynchronous)
        if self._shared is None or self._shared.connection_pool is not self.pool:
            self._shared = super()._create_client()
        return self._shared


class Transport(redis.Transport):
    """What `redis://` and `redis+socket://` mean, once `install` was called."""

    Channel = Channel


def install() -> None:
    """Make it the transport of every Redis URL in this process."""
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = f"{Transport.__module__}:{Transport.__qualname__}"
