"""PanDA's pilot error numbers, and the exceptions that carry them.

Numbers and names are those of the upstream pilot (`pilot/common/errorcodes.py` of pilot3), so
that monitors, retry rules and people who know PanDA read them as before. Only what this pilot
reports is listed.
"""

from __future__ import annotations

import signal
from enum import IntEnum
from typing import Dict


class ErrorCode(IntEnum):
    """Why a job failed on the node. A failed job always carries one of these."""

    NOLOCALSPACE = 1098  #: the node's disk is full
    STAGEINFAILED = 1099  #: an input could not be copied to the work folder
    NOSUCHFILE = 1103  #: an input is not where its URL says
    USERDIRTOOLARGE = 1104  #: the work folder outgrew the job's `disk_mb`
    STDOUTTOOBIG = 1106  #: the payload wrote without end to stdout or stderr
    SETUPFAILURE = 1110  #: the sandbox or the job's description cannot be used
    STAGEOUTFAILED = 1137  #: an output could not be copied to site storage
    PANDAKILL = 1144  #: the server told the pilot to kill the job
    LOOPINGJOB = 1150  #: the payload was silent: no output and no CPU for longer than it may
    MISSINGOUTPUTFILE = 1165  #: the payload did not write an output that it promised
    GETADMISMATCH = 1171  #: adler32 of an input differs from the catalogue's
    PUTADMISMATCH = 1172  #: adler32 of an output differs after the copy
    MKDIR = 1199  #: the work folder could not be made
    KILLSIGNAL = 1200  #: the payload died of a signal that has no number of its own here
    SIGTERM = 1201  #: the node's batch system (or a person) ended the pilot, or the payload died of it
    SIGQUIT = 1202
    SIGXCPU = 1204
    SIGBUS = 1206
    SIGUSR1 = 1207
    SIGINT = 1208
    PAYLOADOUTOFMEMORY = 1212  #: killed by SIGKILL, not by us: most likely the kernel, for memory
    REACHEDMAXTIME = 1213  #: wall time of the job, or of the slot, is used up
    PAYLOADEXCEEDMAXMEM = 1235  #: the payload's processes use more than the job's `memory_mb`
    FAILEDBYSERVER = 1236  #: the server took the job away
    NOUSERTARBALL = 1246  #: the sandbox could not be downloaded
    PAYLOADEXECUTIONFAILURE = 1305  #: the payload ended with an exit code other than 0
    INTERNALPILOTPROBLEM = 1319  #: a fault of the pilot itself; please report it
    PAYLOADSIGSEGV = 1328  #: the payload died of a segmentation fault
    NOREMOTESPACE = 1333  #: site storage is full
    UNKNOWNCOPYTOOL = 1323  #: no copytool knows the scheme of a URL
    RESOURCEUNAVAILABLE = 1344  #: the job needs more than this slot has
    TRANSFORMNOTFOUND = 1346  #: the command does not exist


#: Signal that ended a payload (and that the pilot did not send) -> error number.
SIGNAL_CODES: Dict[int, ErrorCode] = {
    signal.SIGKILL: ErrorCode.PAYLOADOUTOFMEMORY,
    signal.SIGSEGV: ErrorCode.PAYLOADSIGSEGV,
    signal.SIGTERM: ErrorCode.SIGTERM,
    signal.SIGQUIT: ErrorCode.SIGQUIT,
    signal.SIGXCPU: ErrorCode.SIGXCPU,
    signal.SIGBUS: ErrorCode.SIGBUS,
    signal.SIGUSR1: ErrorCode.SIGUSR1,
    signal.SIGINT: ErrorCode.SIGINT,
}


class JobFailure(Exception):
    """The job cannot go on; `code` and the sentence go into its final report."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class ServerAway(Exception):
    """No usable answer: refused, timed out, 5xx or 429. Worth asking again."""

    def __init__(self, why: str, retry_after_s: float = 0.0) -> None:
        super().__init__(why)
        self.retry_after_s = retry_after_s


class Refused(Exception):
    """The server said no, and would say so again: a 4xx with its problem document."""

    def __init__(self, status: int, code: str, detail: str, size_bytes: int = 0) -> None:
        super().__init__(f"HTTP {status} {code}: {detail}")
        self.status = status
        self.code = code
        self.detail = detail
        self.size_bytes = size_bytes  #: with `log_gap`: where to go on


class TokenRefused(Refused):
    """401 or 403: the pilot's token is not (or no longer) good here."""


class Abandoned(Exception):
    """Work for a job was given up half way because the job is being killed or forgotten."""
