"""From a job-set file to the document of POST /v1/jobsets.

The file is written for people: sizes and times with units, outputs by name, files to upload by path. What
comes out is what the server checks again; the two agree because the last step here asks the same code.

    name: skim-v7
    defaults: {cores: 4, memory: 16GB, walltime: 6h, max_attempts: 3, env: {OMP_NUM_THREADS: "4"}}
    inputs:  {AOD: {dataset: "mc26:mc26.118204.reco", match: "*.root", files_per_job: 3}}
    outputs: {SKIM: {dataset: "user.ann:skim.v7", file: "skim_${seq:06d}.root"}}
    matrix:  {syst: [nominal, up], seed: {range: [1, 100]}}
    upload:  [skim.py, "conf/*.json"]
    command: [python, skim.py, --in, "${AOD.files}", --syst, "${syst}", --out, "${SKIM.file}"]
    brokerage: {sites: ["!MERIDIAN-*"]}
    depends_on: [set: 9120]
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from panda.cli import units
from panda.cli.problems import FileProblem

API_VERSION = "panda/v1"
RESOURCES = ("cores", "memory", "disk", "walltime", "gpus", "tags")
DEFAULTS = (*RESOURCES, "priority", "max_attempts", "env", "sandbox", "direct_read")
JOB = ("command", "name", "env", "sandbox", "inputs", "outputs", *RESOURCES, "priority", "max_attempts")
TEMPLATE = ("command", "env", "job_name", "matrix", "inputs", "outputs", "count")
PLAIN = ("output_dataset", "output_storage", "share", "kind", "vo", "working_group", "on_parent_failure")
SET = ("apiVersion", "name", "defaults", "jobs", *TEMPLATE, *PLAIN, "upload", "brokerage", "depends_on")
#: PanDA's own words, for old hands.
_ALIAS = re.compile(r"(?<![%\w])%(IN|OUT|SEQ)(?!\w)")


@dataclass(frozen=True)
class Draft:
    """A job set ready to be sent, but for its upload."""

    request: dict[str, Any]
    upload: tuple[str, ...] = ()

    def with_sandbox(self, sha256: str) -> dict[str, Any]:
        """The request, its jobs unpacking this sandbox first."""
        return {**self.request, "defaults": {**self.request.get("defaults", {}), "sandbox": sha256}}


def draft(document: Mapping[str, Any]) -> Draft:
    """The request that a job-set file stands for.

    Raises:
        FileProblem: with the place in the file, and what would be right there.
    """
    only(document, SET, "")
    if document.get("apiVersion", API_VERSION) != API_VERSION:
        raise FileProblem("apiVersion", f"is {document['apiVersion']!r}; this is {API_VERSION}")
    if "name" not in document:
        raise FileProblem("name", "is missing", hint="a job set has a name: name: my-jobs, or --name my-jobs")
    request: dict[str, Any] = {"name": document["name"]}
    if "defaults" in document:
        request["defaults"] = _resources(document["defaults"], DEFAULTS, "defaults")
    if "jobs" in document:
        request["jobs"] = _jobs(document)
    else:
        request["template"], dataset = _template(document)
        if dataset:
            request["output_dataset"] = dataset
    request |= {key: document[key] for key in PLAIN if key in document}
    if "brokerage" in document:
        request["brokerage"] = _brokerage(document["brokerage"])
    if "depends_on" in document:
        request["depends_on"] = [_set_id(each) for each in listed(document["depends_on"], "depends_on")]
    upload = tuple(str(each) for each in listed(document.get("upload", []), "upload"))
    if upload and "sandbox" in request.get("defaults", {}):
        raise FileProblem("upload", "and defaults.sandbox cannot both be given")
    return Draft(request, upload)


def only(mapping: object, known: Sequence[str], where: str) -> Mapping[str, Any]:
    """`mapping`, if it is one. Raises FileProblem: it is none, or has a key that is not in `known`."""
    if not isinstance(mapping, Mapping):
        raise FileProblem(where, f"wants names with values, not {_short(mapping)}")
    for key in mapping:
        if key in known:
            continue
        raise FileProblem(f"{where}.{key}" if where else str(key), "is no key of a job set", hint=_near(key, known))
    return mapping


def listed(value: object, where: str) -> list[Any]:
    """`value` as a list; a single string is a list of one. Raises FileProblem."""
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):
        raise FileProblem(where, f"wants a list, not {_short(value)}")
    return value


def _near(key: object, known: Sequence[str]) -> str:
    from difflib import get_close_matches

    if key in DEFAULTS:
        return "it belongs under defaults:"
    near = get_close_matches(str(key).removesuffix("_mb").removesuffix("_s"), known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known are: {', '.join(known)}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _resources(found: object, known: Sequence[str], where: str) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in only(found, known, where).items():
        if key in ("memory", "disk"):
            result[f"{key}_mb"] = _measured(units.megabytes, value, f"{where}.{key}")
        elif key == "walltime":
            result["walltime_s"] = _measured(units.seconds, value, f"{where}.{key}")
        elif key == "env":
            result["env"] = _env(value, f"{where}.env")
        else:
            result[key] = value
    return result


def _measured(measure: Any, value: object, where: str) -> int:
    try:
        amount: int = measure(value)
    except ValueError as problem:
        raise FileProblem(where, str(problem)) from None
    return amount


def _env(found: object, where: str) -> dict[str, str]:
    if not isinstance(found, Mapping):
        raise FileProblem(where, f"wants names with values, not {_short(found)}")
    return {str(name): _word(value, f"{where}.{name}") for name, value in found.items()}


def _word(value: object, where: str) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        return str(value)
    raise FileProblem(where, f"wants one word, not {_short(value)}")


def _command(found: object, where: str) -> list[str]:
    if isinstance(found, str):
        shell = 'for a line of shell write [bash, -c, "…"]'
        raise FileProblem(where, "wants a list of words", hint=f"{where}: [{', '.join(found.split())}]; {shell}")
    return [_word(value, f"{where}[{number}]") for number, value in enumerate(listed(found, where))]


def _jobs(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    for key in TEMPLATE:
        if key in document:
            raise FileProblem(key, "and jobs cannot both be given", hint="jobs spells every job out")
    jobs = []
    for number, found in enumerate(listed(document["jobs"], "jobs")):
        where = f"jobs[{number}]"
        only(found, JOB, where)
        if "command" not in found:
            raise FileProblem(where, "has no command")
        job = _resources({key: value for key, value in found.items() if key != "command"}, JOB, where)
        jobs.append({"command": _command(found["command"], f"{where}.command"), **job})
    return jobs


def _template(document: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """The template, and the dataset that its outputs join ("": none is named)."""
    if "command" not in document:
        raise FileProblem("command", "is missing", hint="command: [python, fit.py], or jobs: with a list of jobs")
    outputs, dataset = _outputs(document.get("outputs", []))
    inputs = _inputs(document.get("inputs", {}))
    texts = _Texts(list(inputs), outputs)
    template: dict[str, Any] = {
        "command": [
            texts.read(word, f"command[{number}]")
            for number, word in enumerate(_command(document["command"], "command"))
        ]
    }
    if "env" in document:
        template["env"] = {
            name: texts.read(value, f"env.{name}") for name, value in _env(document["env"], "env").items()
        }
    if "job_name" in document:
        template["name"] = texts.read(_word(document["job_name"], "job_name"), "job_name")
    if "matrix" in document:
        template["matrix"] = _matrix(document["matrix"])
    if inputs:
        template["inputs"] = inputs
    if outputs:
        template["outputs"] = list(outputs.values())
    if "count" in document:
        template["count"] = document["count"]
    if dataset and "output_dataset" in document:
        raise FileProblem("output_dataset", "and a dataset under outputs cannot both be given")
    return template, dataset


def _matrix(found: object) -> dict[str, Any]:
    if not isinstance(found, Mapping):
        raise FileProblem("matrix", f"wants names with lists, not {_short(found)}")
    for name, axis in found.items():
        if name in ("include", "exclude", "from"):
            raise FileProblem(f"matrix.{name}", "is not known yet", hint="spell such jobs out under jobs:")
        is_range = isinstance(axis, Mapping) and set(axis) == {"range"}
        if not is_range and not isinstance(axis, list):
            raise FileProblem(f"matrix.{name}", "wants a list or {range: [first, last]}")
    return dict(found)


def _inputs(found: object) -> dict[str, dict[str, Any]]:
    if not isinstance(found, Mapping):
        raise FileProblem("inputs", "wants a name for each dataset, as AOD: {dataset: scope:name}")
    inputs = {}
    for name, each in found.items():
        where = f"inputs.{name}"
        described = {"dataset": each} if isinstance(each, str) else each
        only(described, ("dataset", "match", "files_per_job"), where)
        if "dataset" not in described:
            raise FileProblem(where, "has no dataset")
        inputs[str(name)] = dict(described)
        if described.get("files_per_job") == "all":
            inputs[str(name)]["files_per_job"] = 0
    return inputs


def _outputs(found: object) -> tuple[dict[str, str], str]:
    """Names of files by name of output, and the dataset that they join."""
    if isinstance(found, list):
        return {str(name): _word(name, "outputs") for name in found}, ""
    if not isinstance(found, Mapping):
        raise FileProblem("outputs", "wants names of files, or SKIM: {file: skim_${seq:06d}.root}")
    files, datasets = {}, {}
    for name, each in found.items():
        where = f"outputs.{name}"
        described = {"file": each} if isinstance(each, str) else each
        only(described, ("file", "dataset"), where)
        file = _word(described.get("file", f"{name}_${{seq:06d}}"), f"{where}.file")
        files[str(name)] = f"{name}{file}" if file.startswith(("_", ".")) else file
        if "dataset" in described:
            datasets[described["dataset"]] = where
    if len(datasets) > 1:
        raise FileProblem("outputs", "name more than one dataset; a job set fills one")
    return files, next(iter(datasets), "")


class _Texts:
    """Puts the names of outputs, and PanDA's %IN and %OUT, into the template's words."""

    def __init__(self, inputs: Sequence[str], outputs: Mapping[str, str]) -> None:
        self._inputs, self._outputs = inputs, outputs

    def read(self, text: str, where: str) -> str:
        """Raises FileProblem: an alias that stands for nothing here."""
        aliased = _ALIAS.sub(lambda found: self._meaning(found[1], where), text)
        for name, file in self._outputs.items():
            aliased = aliased.replace(f"${{{name}.file}}", file)
        return aliased

    def _meaning(self, alias: str, where: str) -> str:
        if alias == "SEQ":
            return "${seq}"
        known = self._inputs if alias == "IN" else list(self._outputs)
        if alias not in known and len(known) != 1:
            kind = "input" if alias == "IN" else "output"
            hint = f"there are several: write ${{NAME.{'files' if alias == 'IN' else 'file'}}}" if known else ""
            raise FileProblem(where, f"%{alias} stands for no {kind}", hint=hint or f"add one with --{kind}")
        name = alias if alias in known else known[0]
        return f"${{{name}.files}}" if alias == "IN" else self._outputs[name]


def _brokerage(found: object) -> dict[str, Any]:
    wishes = only(found, ("sites", "exclude", "prefer", "requirements", "test"), "brokerage")
    named = [_word(site, "brokerage.sites") for site in listed(wishes.get("sites", []), "brokerage.sites")]
    exclude = [_word(site, "brokerage.exclude") for site in listed(wishes.get("exclude", []), "brokerage.exclude")]
    exclude += [site[1:] for site in named if site.startswith("!")]
    prefer = [_word(site, "brokerage.prefer") for site in listed(wishes.get("prefer", []), "brokerage.prefer")]
    wanted = {"sites": [site for site in named if not site.startswith("!")], "exclude": exclude, "prefer": prefer}
    plain = {"requirements": wishes["requirements"]} if "requirements" in wishes else {}
    return {key: names for key, names in wanted.items() if names} | plain


def _set_id(found: object) -> int:
    value = found.get("set") if isinstance(found, Mapping) and set(found) == {"set"} else found
    text = str(value).removeprefix("set:").strip()
    if isinstance(value, bool) or not text.isdecimal():
        raise FileProblem("depends_on", f"{_short(found)} is no job set", hint="write its number: [set: 9120]")
    return int(text)
