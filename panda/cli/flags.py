"""The flags of `panda submit` as a job-set document: whatever can be said in a file can be said here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

#: What `--output SCOPE:NAME` without a file name calls the file.
OUTPUT_FILE = "{name}_${{seq:06d}}"


@dataclass(frozen=True)
class Flags:
    """What stood on the command line; unset ones are None or empty."""

    name: str | None = None
    inputs: Sequence[str] = ()
    files_per_job: str | None = None
    outputs: Sequence[str] = ()
    output_storage: str | None = None
    cores: int | None = None
    memory: str | None = None
    disk: str | None = None
    walltime: str | None = None
    gpus: int | None = None
    tags: Sequence[str] = ()
    priority: int | None = None
    max_attempts: int | None = None
    direct_read: bool = False
    env: Sequence[str] = ()
    sites: Sequence[str] = ()
    prefer: Sequence[str] = ()
    requirements: str | None = None
    kind: str | None = None
    vo: str | None = None
    working_group: str | None = None
    upload: Sequence[str] = ()
    count: int | None = None
    share: str | None = None
    after: Sequence[str] = ()
    command: Sequence[str] = ()


def document_of(flags: Flags) -> dict[str, Any]:
    """The part of a job-set document that the flags say. Raises click.UsageError."""
    defaults = _set(
        cores=flags.cores,
        memory=flags.memory,
        disk=flags.disk,
        walltime=flags.walltime,
        gpus=flags.gpus,
        tags=list(flags.tags),
        priority=flags.priority,
        max_attempts=flags.max_attempts,
        direct_read=flags.direct_read or None,
        env=dict(_pair(each, "--env") for each in flags.env),
    )
    return _set(
        name=flags.name,
        defaults=defaults,
        inputs=_inputs(flags.inputs, flags.files_per_job),
        outputs=_outputs(flags.outputs),
        output_storage=flags.output_storage,
        count=flags.count,
        share=flags.share,
        kind=flags.kind,
        vo=flags.vo,
        working_group=flags.working_group,
        upload=list(flags.upload),
        command=list(flags.command),
        brokerage=_set(sites=list(flags.sites), prefer=list(flags.prefer), requirements=flags.requirements),
        depends_on=list(flags.after),
    )


def laid_over(document: Mapping[str, Any], flags: Mapping[str, Any]) -> dict[str, Any]:
    """`document` with what the flags say; mappings are joined, all else is replaced."""
    joined = dict(document)
    for key, value in flags.items():
        below = joined.get(key)
        joined[key] = {**below, **value} if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return joined


def variables_of(pairs: Sequence[str]) -> dict[str, Any]:
    """`--set name=value`, the value read as YAML reads a plain word. Raises click.UsageError."""
    from panda.cli.documents import plain_value

    return {name: plain_value(text) for name, text in (_pair(each, "--set") for each in pairs)}


def _set(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value not in (None, [], {}, ())}


def _pair(text: str, option: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise click.UsageError(f"{option} {text!r}: write name=value")
    return name, value


def _names(kind: str, n: int) -> list[str]:
    """IN, IN2, IN3 …"""
    return [kind if number == 1 else f"{kind}{number}" for number in range(1, n + 1)]


def _inputs(texts: Sequence[str], files_per_job: str | None) -> dict[str, Any]:
    """`SCOPE:NAME` or `SCOPE:NAME/PATTERN`."""
    inputs: dict[str, Any] = {}
    for name, text in zip(_names("IN", len(texts)), texts, strict=True):
        dataset, _, pattern = text.partition("/")
        inputs[name] = _set(dataset=dataset, match=pattern or None)
        if files_per_job is not None:
            inputs[name]["files_per_job"] = _whole(files_per_job)
    if files_per_job is not None and not texts:
        raise click.UsageError("--files-per-job wants an --input")
    return inputs


def _whole(text: str) -> int | str:
    if text != "all" and not text.isdecimal():
        raise click.UsageError(f"--files-per-job {text!r}: write a number, or all")
    return text if text == "all" else int(text)


def _outputs(texts: Sequence[str]) -> dict[str, Any]:
    """`FILE`, `SCOPE:NAME` or `SCOPE:NAME/FILE`."""
    outputs: dict[str, Any] = {}
    for name, text in zip(_names("OUT", len(texts)), texts, strict=True):
        dataset, _, file = text.partition("/") if ":" in text.partition("${")[0] else ("", "", text)
        file = file.replace("%SEQ", "${seq:06d}") or OUTPUT_FILE.format(name=name.lower())
        outputs[name] = _set(dataset=dataset or None, file=file)
    return outputs
