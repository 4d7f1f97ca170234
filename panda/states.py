"""The words for where a job stands, and the moves between them.

The words and arrows are PanDA's (documentation, "Basic Concepts", Job); pilots use the
same words on the wire. Nothing here knows a database: code, documentation and tests all
read these tables.
"""

from enum import StrEnum


class JobStatus(StrEnum):
    """Where a job stands; the status of its newest attempt."""

    PENDING = "pending"  #: accepted; may wait for the job sets that it depends on
    DEFINED = "defined"  #: its inputs are bound; brokerage comes next
    ASSIGNED = "assigned"  #: has a queue; its inputs are on their way
    ACTIVATED = "activated"  #: inputs are in place; a pilot may take it
    SENT = "sent"  #: a pilot has taken it
    STARTING = "starting"  #: the pilot prepares the payload
    RUNNING = "running"  #: the payload runs
    HOLDING = "holding"  #: the payload ended; outputs are being verified
    TRANSFERRING = "transferring"  #: outputs are on their way to their destination
    FINISHED = "finished"  #: done, outputs registered
    FAILED = "failed"  #: the newest attempt failed; may be retried while it rests
    CANCELLED = "cancelled"  #: killed by a person or a rule
    CLOSED = "closed"  #: given up by the system before it ran, e.g. its parent failed


J = JobStatus

#: The arrows. A job reopens only through `retry`: failed -> pending | defined | assigned | holding.
MOVES: dict[JobStatus, frozenset[JobStatus]] = {
    J.PENDING: frozenset({J.DEFINED, J.FAILED, J.CANCELLED, J.CLOSED}),
    J.DEFINED: frozenset({J.ASSIGNED, J.FAILED, J.CANCELLED, J.CLOSED}),
    J.ASSIGNED: frozenset({J.ACTIVATED, J.DEFINED, J.FAILED, J.CANCELLED, J.CLOSED}),
    J.ACTIVATED: frozenset({J.SENT, J.DEFINED, J.FAILED, J.CANCELLED, J.CLOSED}),
    J.SENT: frozenset({J.STARTING, J.RUNNING, J.HOLDING, J.FAILED, J.CANCELLED}),
    J.STARTING: frozenset({J.RUNNING, J.HOLDING, J.FAILED, J.CANCELLED}),
    J.RUNNING: frozenset({J.HOLDING, J.FAILED, J.CANCELLED}),
    J.HOLDING: frozenset({J.TRANSFERRING, J.FINISHED, J.FAILED, J.CANCELLED}),
    J.TRANSFERRING: frozenset({J.HOLDING, J.FINISHED, J.FAILED, J.CANCELLED}),
    J.FINISHED: frozenset(),
    J.FAILED: frozenset({J.PENDING, J.DEFINED, J.ASSIGNED, J.HOLDING}),
    J.CANCELLED: frozenset(),
    J.CLOSED: frozenset(),
}

#: A job in one of these has ended. `failed` may still be reopened while its row rests in `jobs`.
FINAL = frozenset({J.FINISHED, J.FAILED, J.CANCELLED, J.CLOSED})
#: A pilot holds a lease on the job.
LEASED = frozenset({J.SENT, J.STARTING, J.RUNNING})


class Stage(StrEnum):
    """The seven links of the chain, in order. A Celery task is called a stage here."""

    DEFINE = "define"
    BROKER = "broker"
    STAGE_IN = "stage_in"
    ACTIVATE = "activate"
    DISPATCH = "dispatch"
    STAGE_OUT = "stage_out"
    ARCHIVE = "archive"


PIPELINE: tuple[Stage, ...] = tuple(Stage)

#: The status that a job has while `job_due.stage` names the stage that it needs next.
ENTRY_STATUS: dict[Stage, frozenset[JobStatus]] = {
    Stage.DEFINE: frozenset({J.PENDING}),
    Stage.BROKER: frozenset({J.DEFINED}),
    Stage.STAGE_IN: frozenset({J.ASSIGNED}),
    Stage.ACTIVATE: frozenset({J.ASSIGNED}),
    Stage.DISPATCH: frozenset({J.ACTIVATED}),
    Stage.STAGE_OUT: frozenset({J.SENT, J.STARTING, J.RUNNING, J.HOLDING, J.TRANSFERRING}),
    Stage.ARCHIVE: frozenset({J.HOLDING, J.TRANSFERRING, J.FINISHED, J.FAILED, J.CANCELLED, J.CLOSED}),
}

#: What a retry "from a stage" reopens a failed job as.
RETRY_STATUS: dict[Stage, JobStatus] = {
    Stage.DEFINE: J.PENDING,
    Stage.BROKER: J.DEFINED,
    Stage.STAGE_IN: J.ASSIGNED,
    Stage.STAGE_OUT: J.HOLDING,
}


def after(stage: Stage) -> Stage:
    """The stage that follows. Raises IndexError after `archive`."""
    return PIPELINE[PIPELINE.index(stage) + 1]


class Wait(StrEnum):
    """What a parked job waits for; each has a deadline and a handler for when it passes."""

    PARENT = "parent"  #: job sets that it depends on
    QUEUE = "queue"  #: a queue that fits; brokerage looks again at the deadline
    DATA = "data"  #: files on their way
    PILOT = "pilot"  #: a pilot that takes it
    LEASE = "lease"  #: the report of the pilot that runs it
    QUOTA = "quota"  #: its owner's quota
    OPERATOR = "operator"  #: a person (a failed or held job), or the end of the retry window


class JobSetStatus(StrEnum):
    """Where a job set stands, told by its ledger."""

    PENDING = "pending"  #: waits for its parents
    RUNNING = "running"  #: has jobs that are not final
    FINISHED = "finished"  #: every job finished
    FAILED = "failed"  #: ended, and at least one job failed
    CANCELLED = "cancelled"  #: ended, none failed, at least one cancelled or closed


class FileStatus(StrEnum):
    """A job's file, in the eyes of that job."""

    UNKNOWN = "unknown"  #: an input that no catalogue entry answers for yet
    MISSING = "missing"  #: an input known to the catalogue, not at the job's site yet
    READY = "ready"  #: an input at the site
    DEFINED = "defined"  #: an output that is to be written
    WRITTEN = "written"  #: an output that the pilot reported
    REGISTERED = "registered"  #: an output, verified, in the catalogue
    LOST = "lost"  #: an output that never came, or failed its checks


class TransferStatus(StrEnum):
    """One file on its way between two storages."""

    QUEUED = "queued"
    MOVING = "moving"
    DONE = "done"
    FAILED = "failed"


class DatasetStatus(StrEnum):
    """Whether a dataset still grows."""

    OPEN = "open"
    CLOSED = "closed"  #: nothing joins it; may be opened again
    FROZEN = "frozen"  #: closed for ever
    DELETING = "deleting"


class QueueStatus(StrEnum):
    """What a queue accepts (PanDA's SchedConfig words)."""

    ONLINE = "online"
    OFFLINE = "offline"
    TEST = "test"
    BROKEROFF = "brokeroff"


class OnParentFailure(StrEnum):
    """What a job set does when one that it depends on did not finish."""

    CANCEL = "cancel"
    RUN = "run"
    HOLD = "hold"
