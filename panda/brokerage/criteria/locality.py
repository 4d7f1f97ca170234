"""Can the inputs get there?"""

from panda.brokerage.subjects import Kind, Queue


class Locality:
    """Every input has a replica on a storage that is online; where the bytes are already is a matter of weight."""

    name = "locality"

    def refuse(self, kind: Kind, queue: Queue) -> str | None:
        if kind.locality is None or not kind.locality.n_nowhere:
            return None
        return f"{kind.locality.n_nowhere} of its input files are on no storage that is online"
