"""Two servers that do not copy between each other: said once in a process, not once for each file."""

from urllib.parse import urlsplit

from panda.dataservice.movers.base import Place
from panda.logs import Log

log = Log("panda.movers")

#: The pairs that this process spoke of.
_told: set[tuple[str, str]] = set()


def tell(source: Place, destination: Place, because: str) -> None:
    """A third-party copy was refused, and the bytes go through us."""
    pair = (urlsplit(source.root).netloc, urlsplit(destination.root).netloc)
    if pair not in _told:
        _told.add(pair)
        log.warning("third-party copy refused, the bytes go through us", source=source.root,
                    destination=destination.root, because=because)  # fmt: skip
