"""A lane for calls, beside which streams may stay open.

A server's thread belongs to a call until its last byte is out. So the server has `threads + max_streams` of them:
streams of events have theirs (docs/decisions/0011-streams.md), and everybody else, pilots first, finds `threads`
free for calls however many streams there are. As no more calls than that run at once, they find connections too.
"""

from collections.abc import Callable, Iterable
from threading import BoundedSemaphore
from typing import Any

Wsgi = Callable[[dict[str, Any], Any], Iterable[bytes]]


def narrowed(app: Wsgi, threads: int) -> Wsgi:
    """`app`, with at most `threads` calls of it at a time; what is sent afterwards holds nobody up."""
    room = BoundedSemaphore(threads)

    def call(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        with room:
            return app(environ, start_response)

    return call
