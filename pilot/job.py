"""One attempt of a job on this node: from the server's message to the final report.

The slot's loop moves a job through its phases; `prepare` and `close` do slow work and run in
a crew's thread, everything else in the loop's thread.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import threading
import time
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Callable, Dict, List, Optional, Set, Tuple

from pilot import __version__, copytools, limits, payload
from pilot.cgroups import Cgroups, Group
from pilot.client import Client
from pilot.copytools import Stored
from pilot.errors import Abandoned, ErrorCode, JobFailure
from pilot.folders import Folder
from pilot.logs import Attempt, FileLog, Log, PilotLog, Shipper
from pilot.results import Results
from pilot.sandbox import Sandboxes
from pilot.usage import Usage
from pilot.wire import Output, PilotJob

UNEVENTFUL_S = 10.0
"""A shorter job that finished, moved no file and wrote nothing ships no pilot.log: its final
report already says all of it, and an upload would cost more than the job."""


WORTH_KEEPING_S = 10.0
"""The result of a longer job, or of one with outputs, is written to disk before it is reported; a
shorter one costs less to run again than to write down."""


class Phase(Enum):
    """Where a job stands on this node."""

    QUEUED = "queued"  #: waits for free cores and memory
    PREPARING = "preparing"  #: sandbox and inputs are on their way
    RUNNING = "running"  #: the payload runs
    CLOSING = "closing"  #: outputs and logs are on their way
    REPORTED = "reported"  #: the final report waits for the server's answer


@dataclass(frozen=True)
class End:
    """How a job ends: status on the wire, PanDA's error number (0: none), a sentence."""

    status: str
    code: int = 0
    message: str = ""


@dataclass(frozen=True)
class Terms:
    """What holds for all jobs of this pilot."""

    log_cap_bytes: int
    outage_s: float
    margin: float = 1.0
    """Payloads may use so many times what their job asked for (memory, disk, wall time)."""
    silence_s: float = 0.0
    """A payload without output and without CPU for so long is ended; 0: it may sleep."""
    n_processes: int = 0
    """The most processes of one payload, where the kernel can keep it; 0: no limit."""
    base: Dict[str, str] = field(default_factory=dict)
    """What every payload's environment starts with."""
    cgroups: Optional[Cgroups] = None


class Job:
    """See above. `end` is set as soon as it is clear how the job ends."""

    def __init__(self, order: PilotJob, terms: Terms, path: str, client: Client, results: Results) -> None:
        self.order = order
        self.terms = terms
        self.key = (order.panda_id, order.attempt_nr)
        self.phase = Phase.QUEUED
        self.path = path
        self.folder: Optional[Folder] = None
        self.log = PilotLog()
        self.end: Optional[End] = None
        self.report: Dict[str, Any] = {}
        self.halt = threading.Event()  #: no more copies
        self.forgotten = threading.Event()  #: nor uploads of logs, nor reports

        self.pid = 0
        self.sessions: Set[int] = set()  #: of its processes, as the watchdog saw them
        self.started_at = 0.0  #: monotonic seconds, as all times here
        self.ended_at = 0.0
        self.kill_at: Optional[float] = None  #: when SIGKILL follows SIGTERM
        self.exit_code: Optional[int] = None
        self.usage = Usage()
        self.group: Optional[Group] = None
        self.disk_seen_at = 0.0
        self.is_kept = False  #: what is known of it is on disk, should the pilot die

        self._results = results
        self.is_answered = False  #: the server knows how it ended
        self._keeping = threading.Lock()
        self._is_settled = False  #: payload and outputs are done with
        self._are_logs_away = True
        self._stored: List[Stored] = []
        self.shipper = Shipper(client, Attempt(order.panda_id, order.attempt_nr, order.token), self.forgotten)

    @property
    def needs_preparing(self) -> bool:
        """There is slow work to do before the payload can start."""
        return bool(self.order.sandbox or self.order.inputs)

    # ---- before the payload -------------------------------------------------------------------

    @property
    def streams(self) -> List[FileLog]:
        """stdout and stderr of the payload, once it is started."""
        return self.folder.streams if self.folder else []

    @property
    def _logs(self) -> List[Log]:
        return [*self.streams, self.log]

    def settle(self, make: Callable[[str], Folder]) -> None:
        """Get a work folder. Raises: JobFailure 1199."""
        try:
            self.folder = make(self.path)
        except OSError as error:
            raise JobFailure(ErrorCode.MKDIR, f"cannot make the work folder {self.path}: {error.strerror}") from error

    def fill(self, sandboxes: Sandboxes) -> None:
        """Bring sandbox and inputs.

        Raises: JobFailure, Abandoned, TokenRefused.
        """
        if self.order.sandbox:
            self.log.line(f"sandbox {self.order.sandbox}", notable=True)
            sandboxes.unpack(self.order.sandbox, self.path, self.halt)
        for wanted in self.order.inputs:
            began_at = time.monotonic()
            path = self._inside(wanted.lfn)
            if wanted.direct and wanted.url:
                self.log.line(f"input {wanted.lfn}: read where it lies", notable=True)
                continue
            try:
                os.makedirs(os.path.dirname(path), exist_ok=True)
                if os.path.lexists(path):  # an input wins over a file of the same name in the sandbox
                    os.unlink(path)
            except OSError as error:
                raise JobFailure(
                    ErrorCode.STAGEINFAILED, f"no place for input {wanted.lfn}: {error.strerror}"
                ) from error
            copied = copytools.stage_in(wanted, path, self.halt)
            self.log.line(
                f"input {wanted.lfn}: {copied.size_bytes} bytes, adler32 {copied.adler32},"
                f" {time.monotonic() - began_at:.3f} s",
                notable=True,
            )

        if self.order.inputs:
            self._tell_places()

    def _tell_places(self) -> None:
        """Write down for the payload where each input is: the file that PANDA_INPUTS names."""
        places = {
            wanted.lfn: copytools.address_of(wanted.url) if wanted.direct and wanted.url else self._inside(wanted.lfn)
            for wanted in self.order.inputs
        }
        try:
            with open(os.path.join(self.path, payload.INPUTS), "w", encoding="utf-8") as file:
                json.dump(places, file)
        except OSError as error:
            raise JobFailure(ErrorCode.STAGEINFAILED, f"no place for {payload.INPUTS}: {error.strerror}") from error

    def _inside(self, lfn: str) -> str:
        """The path of a file of the job. A name that leads elsewhere is refused."""
        if lfn.startswith("/") or "\0" in lfn or {"", ".", ".."} & set(lfn.split("/")):
            raise JobFailure(ErrorCode.SETUPFAILURE, f"file name {lfn!r} leads out of the work folder")
        path = os.path.join(self.path, lfn)
        parent = os.path.dirname(path)
        root = os.path.realpath(self.path)
        if not (os.path.realpath(parent) + "/").startswith(root + "/"):
            raise JobFailure(ErrorCode.SETUPFAILURE, f"file name {lfn!r} leads out of the work folder")
        return path

    # ---- the payload --------------------------------------------------------------------------

    def launch(self) -> None:
        """Start the payload. Raises: JobFailure."""
        assert self.folder is not None
        try:
            self.folder.open_streams(self.terms.log_cap_bytes)
        except OSError as error:
            raise JobFailure(ErrorCode.SETUPFAILURE, f"cannot open the payload's logs: {error.strerror}") from error
        self.log.line(f"pilot {__version__} starts {self.order.command[0]!r} in {self.path}")
        stdout, stderr = self.streams
        self.pid = payload.start(self.order, self.path, self.terms.base, stdout.descriptor, stderr.descriptor)
        self.sessions = {self.pid}
        self.phase = Phase.RUNNING
        self.started_at = self.disk_seen_at = self.usage.lively_at = time.monotonic()
        self._confine()
        self.log.line(f"payload runs as process {self.pid}")

    def _confine(self) -> None:
        """Give the payload the limits that the kernel keeps. Those come right after its start, because
        a process that is spawned (and not forked) cannot set them for itself."""
        order, terms = self.order, self.terms
        limits.set_for(self.pid, int(order.disk_mb * terms.margin * 10**6), terms.n_processes)
        if terms.cgroups is not None:
            self.group = terms.cgroups.make(
                f"job-{order.panda_id}.{order.attempt_nr}",
                # A little beyond the watchdog's limit, so that its kinder word (SIGTERM first) comes first.
                memory_bytes=int(order.memory_mb * terms.margin * 1.1 * 10**6),
                cores=order.cores,
                n_processes=terms.n_processes,
            )
            if self.group is not None:
                with contextlib.suppress(OSError):  # it ended already
                    self.group.add(self.pid)

    def condemn(self, end: End) -> None:
        """Decide the end, once; a second reason changes nothing."""
        if self.end is None:
            self.end = end
            self.log.line(f"{end.status}: {end.message}", notable=True)
        self.halt.set()

    def ended(self, wait_status: int, cpu_s: float, max_rss_bytes: int) -> None:
        """The payload's process is gone."""
        self.ended_at = time.monotonic()
        self.phase = Phase.CLOSING
        self.kill_at = None
        self.exit_code = payload.exit_code(wait_status)
        self.usage.cpu_s = cpu_s
        self.usage.peak_rss_mb = max(self.usage.peak_rss_mb, -(-max_rss_bytes // 10**6))
        self.log.line(f"payload ended: exit code {self.exit_code}, cpu {cpu_s:.2f} s")
        if self.end is None and self.group is not None and self.group.was_out_of_memory():
            sentence = f"the kernel killed the payload: more memory than the {self.order.memory_mb} MB asked for"
            self.condemn(End("failed", ErrorCode.PAYLOADEXCEEDMAXMEM, sentence))
        if self.end is None and self.exit_code != 0:
            code, message = payload.judge(self.exit_code)
            self.condemn(End("failed", code, message))

    # ---- after the payload --------------------------------------------------------------------

    @property
    def needs_closing(self) -> bool:
        """There is slow work to do after the payload: outputs, logs, or simply a long life."""
        return bool(
            self.order.outputs
            or self.log.is_notable
            or self.ended_at - self.started_at > UNEVENTFUL_S
            or self.folder is None
            or self.needs_preparing
            or not self.folder.is_untouched()
        )

    def close(self) -> None:
        """Ship outputs and logs, and write the final report. Raises: Abandoned, TokenRefused."""
        if self.end is None:
            try:
                too_large = self.check_disk()
                if too_large is not None:
                    raise too_large
                for output in self.order.outputs:
                    self._stage_out(output)
            except JobFailure as failure:
                self.condemn(End("failed", failure.code, failure.message))
            except Abandoned:
                if self.end is None:
                    raise
        for stream in self.streams:
            try:
                stream.finish()
            except OSError as error:
                self.log.line(f"{stream.name}: {error.strerror}", notable=True)
        self._is_settled = True
        if self.is_kept or self.order.outputs or self.ended_at - self.started_at > WORTH_KEEPING_S:
            self.keep()
        if self.log.is_notable or any(log.size_bytes() for log in self.streams):
            self._are_logs_away = self.shipper.ship_all(
                self._logs, self.terms.outage_s, lambda text: self.log.line(text, notable=True)
            )
        self.conclude()

    def keep(self) -> None:
        """Write to disk how it ended, or would have ended if the pilot died now: the next pilot in
        this work folder delivers that."""
        with self._keeping:
            if self.is_answered or self.forgotten.is_set():
                return
            self.is_kept = True
            end = self.end or End("finished")
            if self.end is None and not self._is_settled:
                end = End("failed", ErrorCode.SIGTERM, "the pilot died while it worked on the job")
            self._results.keep(self._report(end), self.path, self.log.text())

    def ship_growth(self) -> None:
        """Send what the logs have grown by; what fails now is sent with the next, or at the end.

        Raises: as `Shipper.ship`, and OSError if the job has just been cleared up."""
        for log in self._logs:
            self.shipper.ship(log)

    def conclude(self) -> None:
        """Write the final report, from what is known."""
        self._is_settled = True
        self.end = self.end or End("finished")
        self.report = self._report(self.end)

    def _report(self, end: End) -> Dict[str, Any]:
        report = self.short_report(end.status)
        if end.code:
            report["error_code"] = int(end.code)
        if end.message:
            report["error_message"] = end.message[:2000]
        if self.exit_code is not None:
            report["exit_code"] = self.exit_code
        if self.started_at:
            report["wall_s"] = round((self.ended_at or time.monotonic()) - self.started_at, 3)
        if self.usage.cpu_s is not None:
            report["cpu_s"] = round(self.usage.cpu_s, 3)
        if self.usage.peak_rss_mb:
            report["max_rss_mb"] = self.usage.peak_rss_mb
        if end.status == "finished" and self._stored:
            report["outputs"] = [stored.told() for stored in self._stored]
        shipped = [{"name": log.name, "size_bytes": log.shipped_bytes} for log in self._logs if log.shipped_bytes]
        if shipped:
            report["logs"] = shipped
        return report

    def _stage_out(self, output: Output) -> None:
        lfn = output.lfn
        path = self._inside(lfn)
        try:
            is_file = stat.S_ISREG(os.stat(path).st_mode)
        except OSError:
            is_file = False
        if not is_file:
            raise JobFailure(ErrorCode.MISSINGOUTPUTFILE, f"the payload did not write its output {lfn}")
        began_at = time.monotonic()
        stored = copytools.stage_out(output, path, self.halt, lambda text: self.log.line(text, notable=True))
        self._stored.append(stored)
        self.log.line(
            f"output {lfn}: {stored.size_bytes} bytes, adler32 {stored.adler32}, {time.monotonic() - began_at:.3f} s"
            + (f", on {stored.storage}" if stored.storage else ""),
            notable=True,
        )

    def check_disk(self) -> Optional[JobFailure]:
        """What is wrong with the size of the work folder."""
        used_mb = self.folder.used_bytes() / 10**6 if self.folder else 0
        self.usage.disk_mb = int(used_mb)
        if used_mb <= self.order.disk_mb * self.terms.margin:
            return None
        return JobFailure(
            ErrorCode.USERDIRTOOLARGE,
            f"the work folder holds {used_mb:.0f} MB, {self.order.disk_mb} MB were asked for",
        )

    def clear_up(self) -> None:
        """Remove the work folder, once nobody reads the logs in it; logs that the server could not
        take stay for the next pilot, beside the result."""
        if self.group is not None:
            self.group.remove()
        if self.folder is not None and (self._are_logs_away or not self.is_kept):
            with self.shipper.lock:
                self.folder.remove()

    # ---- words for the server -----------------------------------------------------------------

    def short_report(self, status: str) -> Dict[str, Any]:
        """A `Report` with what every report has."""
        return {
            "panda_id": self.order.panda_id,
            "attempt_nr": self.order.attempt_nr,
            "token": self.order.token,
            "status": status,
        }

    def beat(self) -> Dict[str, Any]:
        """A `Beat`."""
        beat: Dict[str, Any] = {
            "panda_id": self.order.panda_id,
            "attempt_nr": self.order.attempt_nr,
            "token": self.order.token,
        }
        if self.usage.cpu_s is not None:
            beat["cpu_s"] = round(self.usage.cpu_s, 3)
        if self.phase is Phase.RUNNING:
            beat.update(self.usage.sample(time.monotonic() - self.started_at))
        return beat


Key = Tuple[int, int]
"""(panda_id, attempt_nr)"""
