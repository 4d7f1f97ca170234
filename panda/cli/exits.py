"""Exit codes. Scripts rely on them; none changes its meaning."""

OK = 0
ERROR = 1  #: anything that has no number of its own
USAGE = 2  #: the command line cannot be meant
NOT_FOUND = 3
FORBIDDEN = 4  #: no token, a bad one, or one that does not allow this
CONFLICT = 5  #: not possible in the state that the thing is in
INVALID = 6  #: a file or a request that does not validate
UNAVAILABLE = 7  #: server or network down, after retries
TIMED_OUT = 8  #: a wait ended before the jobs did
JOBS_FAILED = 9  #: waited for jobs, and not all finished
INTERRUPTED = 130  #: Ctrl-C
