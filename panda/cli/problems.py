"""What a command can end in besides success: one shape, whoever raised it."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass

import click

from panda.cli import exits


class CommandProblem(Exception):
    """A command cannot do what it was asked, and says why."""

    def __init__(self, message: str, *, code: str, exit_code: int, hint: str = "") -> None:
        super().__init__(message)
        self.message, self.code, self.exit_code, self.hint = message, code, exit_code, hint


class FileProblem(CommandProblem):
    """A job-set file says something that cannot be meant; nothing was sent."""

    def __init__(self, where: str, message: str, *, hint: str = "", code: str = "bad_file") -> None:
        sentence = f"{where}: {message}" if where else message
        super().__init__(sentence, code=code, exit_code=exits.INVALID, hint=hint)
        self.where = where


@dataclass(frozen=True)
class Told:
    """A problem as it is told to people and to programs."""

    exit_code: int
    code: str
    message: str
    hint: str = ""
    request_id: str = ""


def told(problem: Exception) -> Told | None:
    """What to say of `problem`; None: it is a bug of ours and wants its traceback."""
    if isinstance(problem, CommandProblem):
        return Told(problem.exit_code, problem.code, problem.message, problem.hint)
    if isinstance(problem, click.UsageError):
        hint = f"panda {_path(problem)}--help".replace("panda panda", "panda") if problem.ctx else "panda --help"
        return Told(exits.USAGE, "usage", problem.format_message(), f"see: {hint}")
    if isinstance(problem, click.ClickException):
        return Told(exits.ERROR, "error", problem.format_message())
    if isinstance(problem, OSError):
        return Told(exits.ERROR, "os_error", sentence_of(problem))
    return _of_the_client(problem) or _of_the_server_side(problem)


def sentence_of(problem: OSError) -> str:
    """Which file or folder, and what is wrong with it."""
    return f"{problem.filename}: {problem.strerror}" if problem.filename and problem.strerror else str(problem)


def _path(problem: click.UsageError) -> str:
    return f"{problem.ctx.command_path} " if problem.ctx else ""


def _of_the_client(problem: Exception) -> Told | None:
    errors = sys.modules.get("panda.client.errors")
    if errors is None or not isinstance(problem, errors.ClientError):
        return None
    kinds = {
        errors.NotFound: exits.NOT_FOUND,
        errors.Unauthenticated: exits.FORBIDDEN,
        errors.Forbidden: exits.FORBIDDEN,
        errors.Conflict: exits.CONFLICT,
        errors.Invalid: exits.INVALID,
        errors.Unavailable: exits.UNAVAILABLE,
        errors.WaitTimeout: exits.TIMED_OUT,
    }
    exit_code = _of_kind(problem, kinds)
    code = "may_be_done" if problem.may_be_done else problem.code
    hint = str(problem.problem.get("hint") or "") or HINTS.get(code) or HINTS_BY_STATUS.get(problem.status, "")
    return Told(exit_code, problem.code, problem.message, hint, problem.request_id)


def _of_the_server_side(problem: Exception) -> Told | None:
    errors = sys.modules.get("panda.errors")
    if errors is None or not isinstance(problem, errors.PandaError):
        return None
    kinds = {
        errors.NotFound: exits.NOT_FOUND,
        errors.Conflict: exits.CONFLICT,
        errors.Invalid: exits.INVALID,
        errors.TooLarge: exits.INVALID,
        errors.Unavailable: exits.UNAVAILABLE,
    }
    return Told(_of_kind(problem, kinds), problem.code, str(problem))


def _of_kind(problem: Exception, kinds: Mapping[type[Exception], int]) -> int:
    return next((code for kind, code in kinds.items() if isinstance(problem, kind)), exits.ERROR)


#: What helps, by code, where the server says nothing of its own.
HINTS = {
    "unauthenticated": "`panda login`, or set PANDA_TOKEN or PANDA_TOKEN_FILE; see `panda config list --origin`",
    "redirected": "name that address in PANDA_URL if it is the server",
    "not_json": "is PANDA_URL right? for example PANDA_URL=http://127.0.0.1:25080",
    "no_server": "is the address right (`panda config list --origin`)? `panda up` starts a server on this machine",
    "bad_url": "for example PANDA_URL=http://127.0.0.1:25080",
    "lost_reply": "nothing was changed; the same command may be given again",
    "may_be_done": "look with `panda status` before you try again",
}
#: The same, by HTTP status.
HINTS_BY_STATUS = {503: "`panda health` tells which part is down; the same command may work later"}
