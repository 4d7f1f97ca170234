"""A job's logs: a piece, the last lines, or as they are written."""

from collections.abc import Callable, Iterator

from panda.client.calls import Calls, segment
from panda.client.errors import NotFound
from panda.client.pages import one_page
from panda.client.replies import Job, JobLog

PIECE_BYTES = 1 << 20
TAIL_FIRST_BYTES = 1 << 14
FIRST_LOOK_S, LAST_LOOK_S = 0.2, 2.0


class Logs:
    """The logs of one job."""

    def __init__(self, calls: Calls, panda_id: int, job: Callable[[int], Job]) -> None:
        self._calls, self._panda_id, self._job = calls, panda_id, job

    def list(self) -> list[JobLog]:
        """What there is to read, of every attempt."""
        return one_page(self._calls, f"/v1/jobs/{self._panda_id}/logs", JobLog)

    def piece(self, name: str, attempt_nr: int, offset: int = 0, n_bytes: int = PIECE_BYTES) -> bytes:
        """At most `n_bytes` of a log from `offset` on.

        Raises:
            NotFound: this attempt wrote no such log (yet).
        """
        query = {"attempt": attempt_nr, "offset": offset, "limit": n_bytes}
        path = f"/v1/jobs/{self._panda_id}/logs/{segment(name)}"
        with self._calls.response("GET", path, query=query, headers={"Accept": "text/plain"}) as response:
            return response.read()

    def blocks(self, log: JobLog, offset: int = 0) -> Iterator[bytes]:
        """All of a log from `offset` on, a piece at a time, up to where it ends now."""
        while block := self.piece(log.name, log.attempt_nr, offset):
            yield block
            offset += len(block)

    def tail(self, log: JobLog, n_lines: int) -> tuple[bytes, int]:
        """The last `n_lines` of a log, and the offset where they end."""
        if n_lines <= 0:
            return b"", log.size_bytes
        n_bytes = TAIL_FIRST_BYTES
        while True:
            start = max(0, log.size_bytes - n_bytes)
            text = b"".join(self.blocks(log, start))
            if not start or text.rstrip(b"\n").count(b"\n") >= n_lines:
                lines = text.splitlines(keepends=True)
                return b"".join(lines[-n_lines:]), start + len(text)
            n_bytes *= 8

    def follow(self, name: str, attempt_nr: int, offset: int = 0) -> Iterator[bytes]:
        """What is written to a log from `offset` on, as it comes, until that attempt has ended.

        A log that does not exist yet is waited for.
        """
        look_s = FIRST_LOOK_S
        while True:
            job = self._job(self._panda_id)  # asked first: what was written before the end is read after it
            try:
                block = self.piece(name, attempt_nr, offset)
            except NotFound:
                block = b""
            if block:
                offset += len(block)
                look_s = FIRST_LOOK_S
                yield block
            elif job.is_ended or job.attempt_nr > attempt_nr:
                return
            else:
                self._calls.sleep(look_s)
                look_s = min(LAST_LOOK_S, look_s * 1.5)
