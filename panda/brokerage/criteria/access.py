"""Whose jobs does the queue take?"""

from fnmatch import fnmatchcase

from panda.brokerage.subjects import Kind, Queue


class Access:
    """A queue may be for some virtual organisations and working groups alone; and there are owners of whom nothing is
    started anywhere. What waits for that has no queue: it takes nobody's place, and nothing is brought for it."""

    name = "access"

    def refuse(self, kind: Kind, queue: Queue) -> str | None:
        if kind.barred:
            return kind.barred
        vo, group = kind.wishes.vo, kind.wishes.working_group
        if queue.vos and vo not in queue.vos:
            return f"it is for {', '.join(sorted(queue.vos))}, the job set is of {vo or 'no virtual organisation'}"
        if queue.working_groups and not any(fnmatchcase(group, pattern) for pattern in queue.working_groups):
            return f"it is for {', '.join(queue.working_groups)}, the job set is of {group or 'no working group'}"
        return None
