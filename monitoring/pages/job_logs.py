"""What a job wrote: which log the page shows, and which lines of it."""

from collections.abc import Sequence

from sqlalchemy.engine import Connection

from monitoring.reads.blocks import Block, Reader
from monitoring.reads.queries import Facts
from monitoring.show import logtext
from panda.errors import PandaError
from panda.jobs.spool import MAX_CHUNK_BYTES, Spool
from panda.states import JobStatus

TAIL_BYTES, TAIL_LINES = 65_536, 200
#: Lines that stand before the first error when somebody jumps to it.
BEFORE_ERROR = 20
FIRST_LOGS = ("payload.stdout", "payload.stderr", "pilot.log")

#: A line, and its number if it is known.
Line = tuple[int | None, str]


def first_log(facts: Facts, logs: Sequence[Facts]) -> str | None:
    """stdout; of a failed job stderr if it says anything; else whatever there is."""
    newest = {row["name"]: row["size_bytes"] for row in logs}
    if facts["status"] == JobStatus.FAILED and newest.get("payload.stderr"):
        return "payload.stderr"
    return next((name for name in FIRST_LOGS if newest.get(name)), next(iter(newest), None))


def shown(
    reader: Reader, spool: Spool, panda_id: int, name: str, attempt_nr: int | None, *, find: str = "",
    at_error: bool = False,
) -> Block[Facts]:  # fmt: skip
    """The newest lines; those that hold `find`; or those from the first error on. The latter look at the last 4 MB."""
    n_bytes = MAX_CHUNK_BYTES if find or at_error else TAIL_BYTES

    def read(connection: Connection) -> Facts:
        found = spool.read_log(connection, panda_id, name, attempt_nr=attempt_nr, offset=-n_bytes, limit=n_bytes)
        is_whole = found.offset == 0
        numbered = _numbered(found.content, is_whole)
        if find:
            wanted = find.casefold()
            numbered = [(k, line) for k, line in numbered if wanted in line.casefold()]
        errors = [k for k, (_, line) in enumerate(numbered) if logtext.is_error(line)]
        start = max(0, len(numbered) - TAIL_LINES)
        if at_error:
            start = max(0, errors[0] - BEFORE_ERROR) if errors else len(numbered)
        lines = numbered[start : start + TAIL_LINES]
        return {
            "name": name,
            "attempt_nr": found.attempt_nr,
            "size_bytes": found.size_bytes,
            "is_whole": is_whole and len(numbered) <= TAIL_LINES,
            "find": find,
            "at_error": at_error,
            "n_found": len(numbered),
            "n_errors": len(errors),
            "is_first_here": is_whole and (not errors or errors[0] >= start),
            "lines": [line for _, line in lines],
            "numbers": [number for number, _ in lines],
        }

    try:
        return reader.block(read)
    except PandaError as problem:
        return Block(trouble=str(problem))


def _numbered(content: bytes, is_whole: bool) -> list[Line]:
    """Lines; without their beginning the first one is no whole line, and none has a number."""
    lines = content.decode("utf-8", "replace").splitlines()
    if not is_whole:
        lines = lines[1:]
    return [(k if is_whole else None, line[:2000]) for k, line in enumerate(lines, 1)]
