"""The pilot's exit codes: what a factory or a batch system may read from its end."""

from __future__ import annotations

EXIT_DONE = 0  #: all that was taken is reported
EXIT_INTERNAL = 1  #: a fault of the pilot itself (Python's code for an uncaught exception)
EXIT_USAGE = 2  #: bad arguments (argparse's code)
EXIT_TOKEN_REFUSED = 3  #: 401 or 403, and no fresher token in the file
EXIT_SERVER_AWAY = 4  #: the server did not answer for as long as `--outage-s`
EXIT_REFUSED = 5  #: the server refuses to give this pilot jobs, e.g. no such queue
EXIT_DRAINED = 6  #: ended by a signal or the slot's end; what was running is reported as failed
EXIT_UNDELIVERED = 7  #: as before, but not all reports could be delivered in time; the next pilot in the folder does it
EXIT_UNFIT = 8  #: this node cannot work: Python, disk, work folder or a tool; the log names it

SERVER_HEARS_NOTHING = frozenset({EXIT_TOKEN_REFUSED, EXIT_SERVER_AWAY, EXIT_UNDELIVERED})
"""After these there is nobody to send the pilot's log to."""
