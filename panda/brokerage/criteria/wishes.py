"""Does the job set want to go there?"""

from fnmatch import fnmatchcase

from panda.brokerage.snapshot import Kind, Queue


class Wishes:
    """A job set may name where it goes and where it does not; `*` stands for any letters."""

    name = "wishes"

    def refuse(self, kind: Kind, queue: Queue) -> str | None:
        if kind.wishes.sites and not _is_named(queue, kind.wishes.sites):
            return f"the job set goes only to {', '.join(kind.wishes.sites)}"
        if _is_named(queue, kind.wishes.exclude):
            return f"the job set excludes {', '.join(kind.wishes.exclude)}"
        return None


def _is_named(queue: Queue, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(queue.name, pattern) or fnmatchcase(queue.site, pattern) for pattern in patterns)
