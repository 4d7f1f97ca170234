"""Can the inputs get there, and is that not too much?"""

from panda.brokerage.subjects import Kind, Queue
from panda.names import megabytes


class Locality:
    """Every input has a replica on a storage that is online and not in downtime. Where the bytes are already is a
    matter of weight, unless a policy lets no more than so many travel."""

    name = "locality"

    def __init__(self, *, most_mb: int = 0) -> None:
        """`most_mb`: MB of inputs that may be brought to a queue for one job; 0: any amount."""
        if isinstance(most_mb, bool) or not isinstance(most_mb, int) or most_mb < 0:
            raise ValueError("most_mb is a whole number of MB, 0 or more")
        self._most_mb = most_mb

    def refuse(self, kind: Kind, queue: Queue) -> str | None:
        if kind.locality is None:
            return None
        if n := kind.locality.n_nowhere:
            return f"{n} of its input files {'is' if n == 1 else 'are'} on no storage that is online"
        missing_mb = kind.locality.missing_mb(queue.reads)
        if self._most_mb and missing_mb > self._most_mb:
            about, most = megabytes(round(missing_mb)), megabytes(self._most_mb)
            return f"about {about} of its input would have to be brought, at most {most} may be"
        return None
