"""TCP ports of this machine."""

import socket
from contextlib import suppress

from panda.errors import ConfigError, Unavailable


def is_free(host: str, port: int) -> bool:
    """Whether we may listen there.

    Raises:
        ConfigError: `host` is no address of this machine.
    """
    family, _, _, _, address = _address(host, port)
    with socket.socket(family, socket.SOCK_STREAM) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # the last one's connections may linger
        with suppress(OSError):
            trial.bind(address)
            trial.listen(1)
            return True
    return False


def free_pair(host: str) -> int:
    """A port that is free, and the one after it too.

    Raises:
        Unavailable: none was found.
    """
    family, _, _, _, address = _address(host, 0)
    for _ in range(100):
        with socket.socket(family, socket.SOCK_STREAM) as trial:
            trial.bind(address)
            port = int(trial.getsockname()[1])
        if port < 65535 and is_free(host, port) and is_free(host, port + 1):
            return port
    raise Unavailable(f"no two free ports beside each other on {host}")


def url(host: str, port: int) -> str:
    """Where somebody on this machine finds what listens on `host`."""
    near = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host)
    return f"http://{near or (f'[{host}]' if ':' in host else host)}:{port}"


def _address(host: str, port: int) -> tuple[int, int, int, str, tuple[object, ...]]:
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except OSError as problem:
        raise ConfigError(f"{host!r} is no address of this machine: {problem}") from problem
