"""What a client may submit: a job set, spelt out or as a template.

Decoded strictly: an unknown field or a wrong type is an error, and nothing is stored.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from panda.words import Command, Env, FileRef, Name, PandaId, Positive, Request, Sha256


class Resources(Request, kw_only=True):
    """What a job needs; unset values come from the set's `defaults`, then from ours."""

    cores: Annotated[int, Meta(ge=1, le=4_096)] | None = None
    memory_mb: Positive | None = None
    disk_mb: Positive | None = None
    walltime_s: Positive | None = None
    """On cores of power 10 (HS23): where they are slower it gets as much more."""
    gpus: Annotated[int, Meta(ge=0, le=1_024)] | None = None
    tags: Annotated[list[Name], Meta(max_length=20)] | None = None


class Defaults(Resources, kw_only=True):
    """Values for every job of the set that says nothing else."""

    priority: Annotated[int, Meta(ge=-10_000, le=10_000)] = 0
    max_attempts: Annotated[int, Meta(ge=1, le=50)] = 3
    env: Env = {}
    sandbox: Sha256 | None = None
    direct_read: bool = False
    """Where a queue allows it, jobs get the addresses of their inputs (in the file that PANDA_INPUTS names) instead of
    copies."""


class JobSpec(Resources, kw_only=True):
    """One job, spelt out."""

    command: Command
    name: Annotated[str, Meta(max_length=250)] = ""
    env: Env = {}
    sandbox: Sha256 | None = None
    inputs: Annotated[list[FileRef], Meta(max_length=10_000)] = []
    """`scope:dataset/lfn`, or `scope:dataset` for all files that it has when the job is defined."""
    outputs: Annotated[list[Name], Meta(max_length=1_000)] = []
    """Names of files that the payload writes into its work folder; they join `output_dataset`."""
    priority: Annotated[int, Meta(ge=-10_000, le=10_000)] | None = None
    max_attempts: Annotated[int, Meta(ge=1, le=50)] | None = None


class Range(Request, kw_only=True):
    """Whole numbers from `first` to `last`, both included."""

    range: Annotated[list[Annotated[int, Meta(ge=-(2**53), le=2**53)]], Meta(min_length=2, max_length=2)]


class InputTemplate(Request, kw_only=True):
    """Files of a dataset, dealt out to jobs in order of name."""

    dataset: Name
    files_per_job: Annotated[int, Meta(ge=0, le=10_000)] = 1
    """0: every file in each job, as the dataset stands when the job is defined (after its parents)."""
    match: Annotated[str, Meta(max_length=250)] = "*"
    """Shell pattern over the names."""


Scalar = str | int | float | bool


class Template(Resources, kw_only=True):
    """One job for each combination of `matrix` values x group of input files.

    `${name}` in `command`, `env`, `name` and `outputs` stands for a matrix value, `${seq}` for the
    job's number in the set (from 0; `${seq:06d}` pads), `${INPUT.files}` for the names of its input
    files (a word of its own in `command` becomes as many words), `$${` for a plain `${`.
    """

    command: Command
    name: Annotated[str, Meta(max_length=250)] = ""
    env: Env = {}
    matrix: dict[Name, list[Scalar] | Range] = {}
    inputs: dict[Name, InputTemplate] = {}
    outputs: Annotated[list[Name], Meta(max_length=1_000)] = []
    count: Annotated[int, Meta(ge=1, le=2**31)] = 1
    """Copies of each combination."""


class Brokerage(Request, kw_only=True):
    """Where jobs of the set may go. Names of sites, queues and clouds; with `*`, which stands for any letters, they are
    patterns."""

    sites: Annotated[list[Name], Meta(max_length=1_000)] = []
    """Only there; with `!` before a name: not there."""
    exclude: Annotated[list[Name], Meta(max_length=1_000)] = []
    prefer: Annotated[list[Name], Meta(max_length=1_000)] = []
    """Rather there than elsewhere."""
    requirements: str = ""
    """What a queue must be, as in `queue.memory_mb >= 2 * job.memory_mb and "avx2" in queue.tags`."""
    test: bool = False
    """These jobs try queues: they go to those in test, too."""


class JobSetRequest(Request, kw_only=True):
    """POST /v1/jobsets. Either `jobs` or `template`."""

    name: Name
    jobs: list[JobSpec] | None = None
    template: Template | None = None
    defaults: Defaults = msgspec.field(default_factory=Defaults)
    output_dataset: Name | None = None
    """`scope:name`; made if it does not exist. Without it, `user.<owner>:<jobset id>.<name>`."""
    output_storage: Name | None = None
    """Storage that outputs are shipped to; without it they stay at the site that made them."""
    share: Name = "default"
    kind: Name = "analysis"
    """`analysis`, `production` or another word: it picks the policy of brokerage."""
    vo: Annotated[str, Meta(max_length=250)] = ""
    """Virtual organisation and working group that the jobs are done for; some queues are for some alone."""
    working_group: Annotated[str, Meta(max_length=250)] = ""
    depends_on: Annotated[list[PandaId], Meta(max_length=100)] = []
    on_parent_failure: Literal["cancel", "run", "hold"] = "cancel"
    brokerage: Brokerage = msgspec.field(default_factory=Brokerage)
