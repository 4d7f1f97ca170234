"""Does the job set want to go there?"""

from collections.abc import Sequence

from panda.brokerage.subjects import Kind, Queue

#: Names that a reason spells out.
SHOWN = 5


class Wishes:
    """A job set may name where it goes and where it does not; `*` stands for any letters."""

    name = "wishes"

    def refuse(self, kind: Kind, queue: Queue) -> str | None:
        wanted, unwanted = kind.wishes.wanted, kind.wishes.unwanted
        if wanted and not queue.is_named(wanted):
            return f"the job set goes only to {_some(wanted)}"
        if queue.is_named(unwanted):
            return f"the job set excludes {_some(unwanted)}"
        if queue.is_named(kind.avoid):
            return f"the job was brokered away from {_some(kind.avoid)}"
        return None


def _some(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
