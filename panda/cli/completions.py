"""What the shell offers after a tab: my newest job sets, and names of sites and queues.

It asks the server once in five minutes, waits 300 ms for it, and keeps quiet when that was not enough.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from panda.client import Client

KEPT_S = 300.0
WITHIN_S = 0.3
N_SETS = 20

Complete = Callable[[click.Context, click.Parameter, str], list[str]]


def complete_jobs(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """`last` and my newest job sets."""
    return _fitting(["last", *_kept("sets", _my_sets)], incomplete)


def complete_queues(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Queues and sites."""
    return _fitting(_kept("queues", _queues), incomplete)


def complete_sources(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Job sets and datasets."""
    return _fitting(["last", *_kept("sets", _my_sets), *_kept("datasets", _datasets)], incomplete)


def _my_sets(client: "Client") -> list[str]:
    mine = str(client.whoami()["subject"])
    return [f"set:{jobset.jobset_id}" for jobset in client.jobsets(owner=mine, limit=N_SETS)]


def _queues(client: "Client") -> list[str]:
    found = [queue.raw for queue in client.queues()]
    return sorted({str(queue.get(name)) for queue in found for name in ("name", "site")})


def _datasets(client: "Client") -> list[str]:
    return [dataset.dataset for dataset in client.datasets.list(limit=N_SETS)]


def _fitting(words: Sequence[str], incomplete: str) -> list[str]:
    return [word for word in dict.fromkeys(words) if word.startswith(incomplete)]


def _kept(kind: str, ask: Callable[["Client"], list[str]]) -> list[str]:
    """The words of a kind, from the cache while they are new. Never raises: a shell is no place for errors."""
    import time
    from hashlib import sha256

    from panda.client import Client, ClientError
    from panda.client.environment import token_from, url_from

    try:
        url = url_from()
        who = sha256(f"{url} {token_from(os.environ, url)}".encode()).hexdigest()[:16]
        file = _folder() / f"{kind}.{who}"
        if file.is_file() and time.time() - file.stat().st_mtime < KEPT_S:
            return file.read_text(encoding="utf-8").splitlines()
        client = Client(url, token_from(os.environ, url), connect_s=WITHIN_S, read_s=WITHIN_S, tries=1)
        words = [word for word in ask(client) if word.isprintable()]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(words), encoding="utf-8")
    except (ClientError, OSError, ValueError):
        return []
    return words


def _folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "panda"
