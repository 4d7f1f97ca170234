"""The payload's process: how it starts, how it is ended, and what its end means.

It runs without a shell, in its own session, in its own folder, with an environment that holds
nothing of the pilot's but PATH, LANG and what `--pass-env` names.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
from typing import Dict, Iterable, List, Tuple

from pilot import guard
from pilot.errors import SIGNAL_CODES, ErrorCode, JobFailure
from pilot.wire import PilotJob

#: In the work folder of a job with inputs: by name, the path or the URL of each (JSON).
INPUTS = "panda-inputs.json"

PLAIN_PATH = "/usr/local/bin:/usr/bin:/bin"

DEV_NULL = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

#: Python ignores SIGPIPE, and whoever started the pilot may have ignored more; a payload
#: starts with the defaults.
DEFAULT_SIGNALS = (
    signal.SIGPIPE,
    signal.SIGXFSZ,
    signal.SIGCHLD,
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
)


def environment(job: PilotJob, folder: str, base: Dict[str, str]) -> Dict[str, str]:
    """What the payload sees: a base, then the job's own `env`, then what only the pilot may say."""
    return {
        "PATH": PLAIN_PATH,
        "LANG": "C.UTF-8",
        **base,
        "HOME": folder,
        "TMPDIR": folder + "/tmp",
        **job.env,
        guard.MARK: base.get(guard.MARK, ""),
        "PANDA_ID": str(job.panda_id),
        "PANDA_ATTEMPT": str(job.attempt_nr),
        "PANDA_CORES": str(job.cores),
        **({"PANDA_INPUTS": f"{folder}/{INPUTS}"} if job.inputs else {}),
    }


def passed_on(names: Iterable[str]) -> Dict[str, str]:
    """Of the pilot's own environment, what payloads may see: PATH, LANG, and what the site names."""
    return {name: os.environ[name] for name in ("PATH", "LANG", *names) if os.environ.get(name)}


def start(job: PilotJob, folder: str, base: Dict[str, str], stdout: int, stderr: int) -> int:
    """Start the payload; to be called by the pilot's main thread only. Returns its pid.

    Raises: JobFailure (1346 no such command, 1305 it cannot be executed, 1344 no process left).
    """
    env = environment(job, folder, base)
    program = _program(job.command[0], folder, env["PATH"])
    # posix_spawn cannot change the folder, so the pilot goes there and back. It costs a third
    # of what subprocess does; other threads use absolute paths only.
    os.chdir(folder)
    try:
        return os.posix_spawn(
            program,
            job.command,
            env,
            file_actions=(
                (os.POSIX_SPAWN_DUP2, DEV_NULL, 0),
                (os.POSIX_SPAWN_DUP2, stdout, 1),
                (os.POSIX_SPAWN_DUP2, stderr, 2),
            ),
            setsid=True,
            setsigmask=(),
            setsigdef=DEFAULT_SIGNALS,
        )
    except ValueError as error:
        raise JobFailure(ErrorCode.SETUPFAILURE, f"command or environment is not valid: {error}") from error
    except OSError as error:
        raise _not_started(job.command[0], error) from error
    finally:
        os.chdir("/")


def _program(word: str, folder: str, path: str) -> str:
    """The file that the command's first word names, as a shell would find it."""
    if "/" in word:
        return os.path.join(folder, word)
    found = shutil.which(word, path=path)
    if found is None:
        raise JobFailure(ErrorCode.TRANSFORMNOTFOUND, f"command not found: {word!r} (PATH is {path})")
    return os.path.join(folder, found)


def _not_started(word: str, error: OSError) -> JobFailure:
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return JobFailure(
            ErrorCode.TRANSFORMNOTFOUND, f"command not found: {word!r} (or the interpreter in its first line)"
        )
    if error.errno == errno.ENOEXEC:
        why = "it is neither a program of this machine nor a script with a #! line"
        return JobFailure(ErrorCode.PAYLOADEXECUTIONFAILURE, f"cannot execute {word!r}: {why}")
    if error.errno in (errno.EAGAIN, errno.ENOMEM):
        return JobFailure(ErrorCode.RESOURCEUNAVAILABLE, f"the node cannot start processes: {error.strerror}")
    return JobFailure(ErrorCode.PAYLOADEXECUTIONFAILURE, f"cannot execute {word!r}: {error.strerror}")


def signal_group(pid: int, number: int) -> bool:
    """Signal the payload's process group. Returns whether anybody was there."""
    try:
        os.killpg(pid, number)
        return True
    except (ProcessLookupError, PermissionError):
        return False


def signal_each(pids: List[int], number: int) -> None:
    """Signal processes one by one; those that are gone do not matter."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            continue


def exit_code(wait_status: int) -> int:
    """Exit code, or the negative number of the signal that ended the process."""
    return -os.WTERMSIG(wait_status) if os.WIFSIGNALED(wait_status) else os.WEXITSTATUS(wait_status)


def judge(code: int) -> Tuple[ErrorCode, str]:
    """Error number and sentence for an exit code other than 0 that the pilot did not cause."""
    if code > 0:
        return ErrorCode.PAYLOADEXECUTIONFAILURE, f"payload ended with exit code {code}"
    if -code == signal.SIGXFSZ:
        return ErrorCode.USERDIRTOOLARGE, "a file of the payload outgrew the disk that was asked for (SIGXFSZ)"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    sentence = f"payload was killed by {name}"
    if -code == signal.SIGKILL:
        sentence += ", not by the pilot: the node probably ran out of memory"
    return SIGNAL_CODES.get(-code, ErrorCode.KILLSIGNAL), sentence
