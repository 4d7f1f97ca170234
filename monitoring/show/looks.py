"""How things look: a colour, a glyph and a word for each status, and numbers as people read them.

Colour is never alone: wherever a status stands, its glyph and its word stand too.
"""

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from panda.states import FINAL, JobStatus, Stage

J = JobStatus


class Look(NamedTuple):
    """`colour` is the name of a CSS class (`c-<colour>`) and of a custom property (`--<colour>`)."""

    colour: str
    glyph: str


JOB: dict[str, Look] = {
    J.PENDING: Look("waiting", "○"),
    J.DEFINED: Look("defined", "◔"),
    J.ASSIGNED: Look("assigned", "◑"),
    J.ACTIVATED: Look("activated", "◕"),
    J.SENT: Look("sent", "▷"),
    J.STARTING: Look("starting", "▷"),
    J.RUNNING: Look("running", "▶"),
    J.HOLDING: Look("holding", "◆"),
    J.TRANSFERRING: Look("transferring", "⇄"),
    J.FINISHED: Look("finished", "✓"),
    J.FAILED: Look("failed", "✕"),
    J.CANCELLED: Look("cancelled", "⊘"),
    J.CLOSED: Look("cancelled", "⊖"),
}
#: What each status means, for those who see it for the first time; as panda/states.py has it.
MEANING: dict[str, str] = {
    J.PENDING: "accepted; may wait for the job sets that it depends on",
    J.DEFINED: "its inputs are bound; brokerage comes next",
    J.ASSIGNED: "has a queue; its inputs are on their way",
    J.ACTIVATED: "inputs are in place; a pilot may take it",
    J.SENT: "a pilot has taken it",
    J.STARTING: "the pilot prepares the payload",
    J.RUNNING: "the payload runs",
    J.HOLDING: "the payload ended; outputs are being verified",
    J.TRANSFERRING: "outputs are on their way to their destination",
    J.FINISHED: "done, outputs registered",
    J.FAILED: "the newest attempt failed; may be retried while it rests",
    J.CANCELLED: "killed by a person or a rule",
    J.CLOSED: "given up by the system before it ran, e.g. its parent failed",
}
JOBSET: dict[str, Look] = {
    "pending": JOB[J.PENDING],
    "running": JOB[J.RUNNING],
    "finished": JOB[J.FINISHED],
    "failed": JOB[J.FAILED],
    "cancelled": JOB[J.CANCELLED],
}
QUEUE: dict[str, Look] = {
    "online": Look("finished", "✓"),
    "test": Look("holding", "◐"),
    "brokeroff": Look("cancelled", "⊘"),
    "offline": Look("cancelled", "⊖"),
}
FILE: dict[str, Look] = {
    "unknown": Look("waiting", "?"),
    "missing": Look("holding", "◌"),
    "ready": Look("finished", "✓"),
    "defined": Look("defined", "○"),
    "written": Look("transferring", "⇄"),
    "registered": Look("finished", "✓"),
    "lost": Look("failed", "✕"),
}
HEALTH: dict[str, Look] = {
    "ok": Look("finished", "●"),
    "warn": Look("holding", "■"),
    "down": Look("failed", "✕"),
    "unknown": Look("waiting", "○"),
}
LEVEL: dict[str, Look] = {
    "critical": Look("failed", "✕"),
    "error": Look("failed", "✕"),
    "warning": Look("holding", "■"),
    "info": Look("assigned", "●"),
}
TRANSFER: dict[str, Look] = {
    "queued": Look("waiting", "○"),
    "moving": Look("transferring", "●"),
    "done": Look("finished", "✓"),
    "failed": Look("failed", "✕"),
}
UNKNOWN = "\N{EN DASH}"
NEUTRAL = Look("waiting", "•")

#: The statuses that a job has while a stage is its next one, or holds it.
STATUSES_OF: dict[Stage, tuple[JobStatus, ...]] = {
    Stage.DEFINE: (J.PENDING,),
    Stage.BROKER: (J.DEFINED,),
    Stage.STAGE_IN: (J.ASSIGNED,),
    Stage.ACTIVATE: (J.ACTIVATED,),
    Stage.DISPATCH: (J.SENT, J.STARTING, J.RUNNING),
    Stage.STAGE_OUT: (J.HOLDING, J.TRANSFERRING),
    Stage.ARCHIVE: tuple(status for status in J if status in FINAL),
}
STAGE_OF: dict[str, Stage] = {status: stage for stage, found in STATUSES_OF.items() for status in found}
STAGE_TITLE: dict[str, str] = {
    Stage.DEFINE: "Define",
    Stage.BROKER: "Broker",
    Stage.STAGE_IN: "Stage-in",
    Stage.ACTIVATE: "Activate",
    Stage.DISPATCH: "Dispatch & run",
    Stage.STAGE_OUT: "Stage-out",
    Stage.ARCHIVE: "Archive",
}
STAGE_COLOUR: dict[str, str] = {
    Stage.DEFINE: "waiting",
    Stage.BROKER: "defined",
    Stage.STAGE_IN: "assigned",
    Stage.ACTIVATE: "activated",
    Stage.DISPATCH: "running",
    Stage.STAGE_OUT: "transferring",
    Stage.ARCHIVE: "finished",
}
#: Statuses of jobs that are on their way, from the bottom of the chart to its top.
ACTIVE: tuple[JobStatus, ...] = (
    J.RUNNING, J.STARTING, J.SENT, J.HOLDING, J.TRANSFERRING, J.ACTIVATED, J.ASSIGNED, J.DEFINED, J.PENDING,
)  # fmt: skip


def count(n: float | None) -> str:
    """`31,482`; from 100,000 on `118k`; nothing known: an en dash."""
    if n is None:
        return UNKNOWN
    if abs(n) >= 99_999_500:
        return f"{n / 1e6:,.0f}M"
    if abs(n) >= 999_500:
        return f"{n / 1e6:.1f}M"
    if abs(n) >= 99_950:
        return f"{n / 1e3:.0f}k"
    return f"{n:,.0f}"


def percent(share: float | None) -> str:
    """`0.048` as `4.8%`."""
    return UNKNOWN if share is None else f"{share * 100:.1f}%"


def duration(seconds: float | None) -> str:
    """`2 h 54 min`, `14 min 20 s`, `5.1 s`, `40 ms`, `< 1 ms`: two units at most."""
    if seconds is None:
        return UNKNOWN
    seconds = max(0.0, float(seconds))
    if seconds == 0:
        return "0 s"
    if seconds < 1:
        return "< 1 ms" if seconds < 0.0005 else f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for size, unit, below, small in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // below
            return f"{whole // size} {unit} {rest} {small}" if rest else f"{whole // size} {unit}"
    return f"{whole} s"


def about(seconds: float | None) -> str:
    """An estimate: `about 12 min`, one unit."""
    if seconds is None:
        return UNKNOWN
    whole = duration(max(1.0, round(seconds))).split(" ")
    return f"about {whole[0].partition('.')[0]} {whole[1]}"


def hours(seconds: float | None) -> str:
    """Time that machines worked: `14 min 20 s`, from an hour on in hours alone: `2.9 h`, `31,482 h`."""
    if seconds is None or seconds < 3_600:
        return duration(seconds) if seconds else (UNKNOWN if seconds is None else "0 h")
    return f"{seconds / 3600:.1f} h" if seconds < 360_000 else f"{count(seconds / 3600)} h"


def between(start: datetime | None, end: datetime | None) -> float | None:
    """Seconds from one instant to another; None when either is unknown."""
    return None if start is None or end is None else (end - start).total_seconds()


def size(n_bytes: float | None) -> str:
    """Bytes in decimal units, as storage people count: `2.04 GB`."""
    if n_bytes is None:
        return UNKNOWN
    value, units = float(n_bytes), ["B", "kB", "MB", "GB", "TB", "PB"]
    while value >= 1000 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return f"{value:.0f} {units[0]}" if units[0] == "B" or value >= 100 else f"{value:.3g} {units[0]}"


def megabytes(n_mb: float | None) -> str:
    """MB (10^6 bytes) as people read them."""
    return size(None if n_mb is None else n_mb * 1e6)


def moment(at: datetime | None, now: datetime | None = None) -> str:
    """`16:44:12` if it is today, else `22 Nov 16:44`; UTC."""
    if at is None:
        return UNKNOWN
    at = at.astimezone(UTC)
    same_day = (now or datetime.now(UTC)).astimezone(UTC).date() == at.date()
    return at.strftime("%H:%M:%S") if same_day else f"{at.day} {at.strftime('%b %H:%M')}"


def short(at: datetime, now: datetime) -> str:
    """`16:44` if it is today, else `22 Nov`; UTC."""
    at, now = at.astimezone(UTC), now.astimezone(UTC)
    return at.strftime("%H:%M") if at.date() == now.date() else f"{at.day} {at.strftime('%b')}"


def ago(at: datetime | None, now: datetime) -> str:
    """`40 min ago`, one unit; `in 2 h` for what is yet to come."""
    if at is None:
        return UNKNOWN
    seconds = (now - at).total_seconds()
    short = duration(round(abs(seconds)) or 1).split(" ")
    told = f"{short[0].partition('.')[0]} {short[1]}"
    if abs(seconds) < 1:
        return "now"
    return f"in {told}" if seconds < 0 else f"{told} ago"


def hour_of(at: datetime, now: datetime) -> str:
    """The hour that began then, of what is counted by the hour: `09-10 h`, `22 Nov 09-10 h`; UTC."""
    at = at.astimezone(UTC)
    day = "" if at.date() == now.astimezone(UTC).date() else f"{at.day} {at.strftime('%b')} "
    return f"{day}{at.hour:02}-{at.hour + 1:02} h"


def several(n: float | None, word: str, words: str = "") -> str:
    """`1 job`, `1,200 jobs`; `words`: of more than one, if it is not the word with an s."""
    return f"{count(n)} {word if n == 1 else words or word + 's'}"


def iso(at: datetime) -> str:
    """For `<time datetime>`."""
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def span(hours: float) -> str:
    """The period of a chart: `3 h`, `7 d`."""
    delta = timedelta(hours=hours)
    return f"{delta.days} d" if delta.days > 1 else f"{hours:g} h"
