"""From a job set's document to its jobs: plain substitution, no code.

A template's jobs are numbered; the n-th is computed from n alone, so that any slice of a million can be
expanded without the others. Numbering: copies turn fastest, then groups of input files, then the matrix
with its last variable fastest.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from panda import requirements
from panda.errors import Invalid, TooLarge, UnknownName
from panda.jobs.specs import InputTemplate, JobSetRequest, JobSpec, Range, Template
from panda.names import checked, split_did, split_file
from panda.requirements import BadRequirement
from panda.settings import Api

_PLACE = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_.-]*)(?::([^}]{0,8}))?\}")
#: A format may pad or round, nothing else: `06d`, `4`, `.3f`, `x`.
_FORMAT = re.compile(r"0?\d{0,3}(\.\d{1,2}f|[dxs])?\Z")
_NAME_PART = re.compile(r"[A-Za-z0-9._-]{1,100}\Z")

Piece = str | tuple[str, str]


class Binding(NamedTuple):
    """What an input template meant on the day of submission: files that came later do not count."""

    did: str
    match: str
    files_per_job: int
    n_files: int
    max_file_id: int
    members: tuple[str, ...] = ()
    """The datasets of a container, in the order in which they are dealt; empty: it is a dataset."""

    @property
    def datasets(self) -> tuple[str, ...]:
        """Those that have the files."""
        return tuple(self.members) or (self.did,)

    @property
    def n_groups(self) -> int:
        return math.ceil(self.n_files / self.files_per_job) if self.files_per_job else 1


class FileName(NamedTuple):
    """A file of a dataset."""

    did: str
    lfn: str


def pieces_of(text: str, known: Sequence[str], where: str) -> list[Piece]:
    """`text` cut at its placeholders: literals, and (name, format).

    Raises:
        UnknownName: a placeholder that stands for nothing.
        Invalid: a format that is not one (`bad_format`).
    """
    pieces: list[Piece] = []
    end = 0
    for found in _PLACE.finditer(text):
        pieces.append(text[end : found.start()])
        end = found.end()
        name, form = found.group(1), found.group(2) or ""
        if name is None:
            pieces.append("${")
            continue
        if name not in known:
            raise UnknownName("placeholder", name, known, where=where)
        if not _FORMAT.match(form):
            raise Invalid(f"{form!r} is no format such as 06d, 4 or .3f", where=where, code="bad_format")
        pieces.append((name, form))
    pieces.append(text[end:])
    return [piece for piece in pieces if piece]


def filled(pieces: Sequence[Piece], values: Mapping[str, Any]) -> str:
    """The text with each placeholder's value in its place."""
    return "".join(
        piece
        if isinstance(piece, str)
        else format(values[piece[0]], piece[1])
        if piece[1]
        else _plain(values[piece[0]])
        for piece in pieces
    )


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _axis(values: Any) -> Sequence[Any]:
    return range(values.range[0], values.range[1] + 1) if isinstance(values, Range) else values


def samples(axis: Sequence[Any]) -> Sequence[Any]:
    """Values that stand for all of an axis: whole numbers of a range differ in nothing but their size."""
    return (axis[0], axis[-1]) if isinstance(axis, range) and axis else axis


def size_of(template: Template, bindings: Mapping[str, Binding]) -> int:
    """How many jobs a template makes; cheap however many that are."""
    n_groups = max((binding.n_groups for binding in bindings.values()), default=1)
    return math.prod(len(_axis(values)) for values in template.matrix.values()) * n_groups * template.count


def bytes_of_a_job(template: Template) -> int:
    """How large one job of a template can get, in bytes of JSON, roughly."""
    text = msgspec.json.encode(msgspec.structs.replace(template, matrix={}))
    longest = sum(
        max((len(str(value)) for value in samples(_axis(axis))), default=0) for axis in template.matrix.values()
    )
    return len(text) + text.count(b"${") * longest


class Expansion:
    """A template made ready: how many jobs, and the n-th of them."""

    def __init__(self, template: Template, bindings: Mapping[str, Binding]) -> None:
        self._template = template
        self._bindings = bindings
        self._axes = {name: _axis(values) for name, values in template.matrix.items()}
        for name, axis in self._axes.items():
            if len(axis) == 0:
                raise Invalid("has no values", where=f"template.matrix.{name}", code="empty_matrix")
        self.n_groups = max((binding.n_groups for binding in bindings.values()), default=1)
        self.n_jobs = size_of(template, bindings)
        dealt = [f"{name}.files" for name, binding in bindings.items() if binding.files_per_job]
        self._known = [*self._axes, *dealt, "seq"]
        self._command = [pieces_of(w, self._known, f"template.command[{i}]") for i, w in enumerate(template.command)]
        self._env = {k: pieces_of(v, self._known, f"template.env.{k}") for k, v in template.env.items()}
        self._name = pieces_of(template.name, self._known, "template.name")
        self._outputs = [pieces_of(o, self._known, f"template.outputs[{i}]") for i, o in enumerate(template.outputs)]
        self._check_groups()
        self._check_formats()
        self._check_outputs()

    def _check_groups(self) -> None:
        sizes = {binding.n_groups for binding in self._bindings.values() if binding.files_per_job}
        if len(sizes) > 1:
            raise Invalid(f"inputs make {sorted(sizes)} groups; they must agree", where="template.inputs")
        if len({binding.did for binding in self._bindings.values()}) < len(self._bindings):
            raise Invalid("two of them are one dataset", where="template.inputs", code="input_not_unique")

    def _check_outputs(self) -> None:
        """What is written under one name twice would be lost; what is no name would fail after the 201."""
        for number, pieces in enumerate(self._outputs):
            where = f"template.outputs[{number}]"
            used = {piece[0] for piece in pieces if not isinstance(piece, str)}
            if self.n_jobs > 1 and "seq" not in used:
                raise Invalid("each job needs a name of its own: add ${seq}", where=where, code="output_not_unique")
            for name in used - {"seq"}:
                if name not in self._axes:
                    raise Invalid(f"${{{name}}} cannot be part of a name", where=where, code="bad_name")
                for value in samples(self._axes[name]):
                    if not _NAME_PART.match(_plain(value)):
                        raise Invalid(f"{value!r} cannot be part of a name", where=where, code="bad_name")
        for seq in {0, self.n_jobs - 1}:
            names = self.job(seq, lambda _input, _group: []).outputs
            for number, name in enumerate(names):
                checked(name, f"template.outputs[{number}]")
            if len(set(names)) < len(names):
                raise Invalid("two outputs have one name", where="template.outputs", code="output_not_unique")

    def _check_formats(self) -> None:
        """Every value must take its format: `${x:06d}` is nothing for a word."""
        texts = [*self._command, *self._env.values(), self._name, *self._outputs]
        for name, form in {piece for pieces in texts for piece in pieces if not isinstance(piece, str) and piece[1]}:
            for value in samples(self._axes.get(name, (0,))):
                try:
                    format(value, form)
                except (ValueError, TypeError, OverflowError):
                    raise Invalid(
                        f"{value!r} cannot be written as {form!r}", where="template", code="bad_format"
                    ) from None

    def groups_of(self, first: int, last: int) -> tuple[int, int]:
        """The groups of input files that jobs `first` to `last` need, as (from, to), both included."""
        low, high = first // self._template.count, last // self._template.count
        if low // self.n_groups != high // self.n_groups:
            return 0, self.n_groups - 1
        return low % self.n_groups, high % self.n_groups

    def job(self, seq: int, files: Callable[[str, int], list[FileName]]) -> JobSpec:
        """Job number `seq`. `files(input, group)` names the files of a group."""
        rest, _copy = divmod(seq, self._template.count)
        combination, group = divmod(rest, self.n_groups)
        values: dict[str, Any] = {"seq": seq}
        for name in reversed(self._axes):
            combination, position = divmod(combination, len(self._axes[name]))
            values[name] = self._axes[name][position]
        inputs: list[str] = []
        for name, binding in self._bindings.items():
            if not binding.files_per_job:
                inputs.append(binding.did)
                continue
            found = files(name, group)
            values[f"{name}.files"] = [each.lfn for each in found]
            inputs += [f"{each.did}/{each.lfn}" for each in found]
        template = self._template
        return JobSpec(
            command=list(self._words(values)),
            name=filled(self._name, values),
            env={key: filled(pieces, values) for key, pieces in self._env.items()},
            inputs=inputs,
            outputs=[filled(pieces, values) for pieces in self._outputs],
            cores=template.cores,
            memory_mb=template.memory_mb,
            disk_mb=template.disk_mb,
            walltime_s=template.walltime_s,
            gpus=template.gpus,
            tags=template.tags,
        )

    def _words(self, values: Mapping[str, Any]) -> Iterator[str]:
        for pieces in self._command:
            if len(pieces) == 1 and not isinstance(pieces[0], str) and isinstance(values[pieces[0][0]], list):
                yield from values[pieces[0][0]]
            else:
                yield filled(pieces, values)


def check(request: JobSetRequest, limits: Api) -> None:
    """Everything about a submission that can be told without the database.

    Raises:
        Invalid, TooLarge: with `where` it stands.
    """
    checked(request.name, "name")
    checked(request.share, "share")
    _check_wishes(request)
    if (request.jobs is None) == (request.template is None):
        raise Invalid("give either jobs or template", where="jobs", code="jobs_or_template")
    if request.output_dataset is not None:
        split_did(request.output_dataset, "output_dataset")
    if len(set(request.depends_on)) < len(request.depends_on):
        raise Invalid("names one job set twice", where="depends_on")
    if request.jobs is not None:
        _check_jobs(request.jobs, limits)
    elif request.template is not None:
        _check_template(request.template)


def _check_wishes(request: JobSetRequest) -> None:
    checked(request.kind, "kind")
    for word, where in ((request.vo, "vo"), (request.working_group, "working_group")):
        if word:
            checked(word, where)
    for number, name in enumerate(request.brokerage.sites):
        if name == "!":
            raise Invalid("a name follows '!'", where=f"brokerage.sites[{number}]", code="bad_name")
    if request.brokerage.requirements:
        try:
            requirements.read(request.brokerage.requirements)
        except BadRequirement as problem:
            raise Invalid(str(problem), where="brokerage.requirements", code=problem.code) from None


def _check_template(template: Template) -> None:
    for name, each in template.inputs.items():
        checked(name, f"template.inputs.{name}")
        split_did(each.dataset, f"template.inputs.{name}.dataset")
    for name in template.matrix:
        if not re.match(r"[A-Za-z_][A-Za-z0-9_-]*\Z", name) or name == "seq":
            raise Invalid("is no name of a variable", where=f"template.matrix.{name}", code="bad_name")


def _check_jobs(jobs: Sequence[JobSpec], limits: Api) -> None:
    if not jobs:
        raise Invalid("is empty", where="jobs", code="no_jobs")
    if len(jobs) > limits.max_explicit_jobs:
        raise TooLarge(f"{len(jobs)} jobs are spelt out; the limit is {limits.max_explicit_jobs}: use a template")
    seen: set[str] = set()
    for number, job in enumerate(jobs):
        for position, lfn in enumerate(job.outputs):
            where = f"jobs[{number}].outputs[{position}]"
            checked(lfn, where)
            if lfn in seen:
                raise Invalid(f"{lfn!r} is an output of this set already", where=where, code="output_not_unique")
            seen.add(lfn)
        names: set[str] = set()
        for position, reference in enumerate(job.inputs):
            where = f"jobs[{number}].inputs[{position}]"
            name = split_file(reference, where)[2] or reference
            if name in names:
                raise Invalid(f"two inputs are called {name!r}", where=where, code="input_not_unique")
            names.add(name)


def bound(template: InputTemplate, n_files: int, max_file_id: int, members: Sequence[str] = ()) -> Binding:
    """The binding of an input template to its dataset as it stands now."""
    return Binding(template.dataset, template.match, template.files_per_job, n_files, max_file_id, tuple(members))
