"""Does the queue offer what the job names: software, architecture, containers, anything with a tag?"""

from panda.brokerage.subjects import Kind, Queue


class Capabilities:
    """The queue offers every tag that a job needs."""

    name = "capabilities"

    def refuse(self, kind: Kind, queue: Queue) -> str | None:
        lacking = sorted(kind.tags - queue.tags)
        return f"needs {', '.join(lacking)}, which the queue does not offer" if lacking else None
