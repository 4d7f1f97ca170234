"""Does the queue meet what the job set requires, and the job what the queue does?"""

from panda.brokerage.subjects import Kind, Queue, values_of
from panda.requirements import read


class Requirements:
    """Both sides may require what they like, in the language of `panda.requirements`."""

    name = "requirements"

    def refuse(self, kind: Kind, queue: Queue) -> str | None:
        for whose, text in (("the job set", kind.wishes.requirements), ("the queue", queue.requirements)):
            if text:
                unmet = read(text).unmet(values_of(kind, queue))
                if unmet:
                    return f"{whose} requires {unmet}"
        return None
