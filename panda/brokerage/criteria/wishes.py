"""Does the job set want to go there?"""

from panda.brokerage.subjects import Kind, Queue


class Wishes:
    """A job set may name where it goes and where it does not; `*` stands for any letters."""

    name = "wishes"

    def refuse(self, kind: Kind, queue: Queue) -> str | None:
        wanted, unwanted = kind.wishes.wanted, kind.wishes.unwanted
        if wanted and not queue.is_named(wanted):
            return f"the job set goes only to {', '.join(wanted)}"
        if queue.is_named(unwanted):
            return f"the job set excludes {', '.join(unwanted)}"
        if queue.is_named(kind.avoid):
            return f"the job was brokered away from {', '.join(kind.avoid)}"
        return None
