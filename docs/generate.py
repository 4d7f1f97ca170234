"""Make the reference pages from the code: `python docs/generate.py` writes, `--check` compares.

What a page says of statuses, settings, permissions, commands, calls and errors is thus what the code does;
an architecture test fails when a page is behind.
"""

import ast
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

import click

import pilot.exits
from panda import errors, requirements, settings, states
from panda.api import errors as api_errors
from panda.api import openapi, reference
from panda.api.app import create_app
from panda.auth import nouns as people
from panda.auth import policy
from panda.cli import exits
from panda.cli.main import panda as command_line
from panda.dataservice import flow
from panda.dataservice import nouns as data
from panda.db.lists import Noun
from panda.db.session import begin_of, make_engine
from panda.dispatcher import nouns as fleet
from panda.dispatcher import reports
from panda.jobs import audit
from panda.jobs import nouns as jobs
from panda.requirements import reading
from panda.sites import nouns as places
from pilot.errors import ErrorCode

ROOT = Path(__file__).parents[1]
REFERENCE = Path(__file__).parent / "reference"


def member_notes(enumeration: type) -> dict[str, str]:
    """The `#:` comment of each member of an enumeration."""
    notes = {}
    for line in inspect.getsource(enumeration).splitlines():
        name, equals, rest = line.strip().partition(" = ")
        if equals and "#:" in rest:
            notes[name] = rest.partition("#:")[2].strip()
    return notes


def attribute_notes(section: type) -> dict[str, str]:
    """The docstring below each attribute of a settings section."""
    [body] = ast.parse(inspect.getsource(section)).body
    assert isinstance(body, ast.ClassDef)
    notes = {}
    for statement, following in zip(body.body, body.body[1:], strict=False):
        if isinstance(statement, ast.AnnAssign) and isinstance(following, ast.Expr):
            assert isinstance(statement.target, ast.Name)
            notes[statement.target.id] = ast.literal_eval(following.value)
    return notes


def statuses_page() -> str:
    """The table of moves."""
    lines = ["# Job statuses and their moves", "", "Made from `panda/states.py`.", ""]
    lines += ["| status | means | may become |", "|---|---|---|"]
    notes = member_notes(states.JobStatus)
    for status, targets in states.MOVES.items():
        arrows = ", ".join(f"`{target}`" for target in states.JobStatus if target in targets) or "none: final"
        lines.append(f"| `{status}` | {notes[status.name]} | {arrows} |")
    lines += ["", "`failed` is final too; only a retry reopens it, while the job rests in `jobs`.", ""]
    lines += [
        "## Stages",
        "",
        "| stage | statuses of a job that needs it next | a retry may start here, as |",
        "|---|---|---|",
    ]
    for stage, entry in states.ENTRY_STATUS.items():
        entries = ", ".join(f"`{status}`" for status in states.JobStatus if status in entry)
        retry = f"`{states.RETRY_STATUS[stage]}`" if stage in states.RETRY_STATUS else "-"
        lines.append(f"| `{stage}` | {entries} | {retry} |")
    lines += ["", "## What a parked job waits for", "", "| wait | for |", "|---|---|"]
    lines += [f"| `{wait}` | {member_notes(states.Wait)[wait.name]} |" for wait in states.Wait]
    return "\n".join(lines) + "\n"


def invariants_page() -> str:
    """The promise, and the queries that ask whether it is kept."""
    lines = [
        "# The promise, and what the auditor asks", "", "Made from `panda/jobs/audit.py`.", "",
        "> After HTTP 201 a job is never lost. It reaches exactly one final state. A payload may be *started* more",
        "> than once only if its pilot went silent; then only the newest attempt may change the job's state or publish",
        "> outputs. Redis may be erased at any time: the cost is a delay, nothing else.", "",
        "Each sentence below is one query; it answers with the rows for which it is not true. Beat asks about the"
        f" {audit.RECENT_JOBS:,} newest jobs every minute, and",
        "what it finds becomes an incident with the rows named. `panda audit` asks about all jobs, and compares the",
        "logs in the spool with what the database says of them. The tests ask after every fault.", "",
        "| | is true at every commit |", "|---|---|",
        *(f"| {name} | {sentence} |" for name, (sentence, _) in audit.INVARIANTS.items()), "",
        "A job set's **ledger** is I1: `accepted = unexpanded + waiting + running + finished + failed + cancelled`.",
        "`panda status SET`, the page of a job set and `GET /v1/jobsets/{jobset_id}` show it.",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def settings_page() -> str:
    """Every setting with its default, its variable and its meaning."""
    lines = [
        "# Settings",
        "",
        "Made from `panda/settings.py`. Defaults < files named in `PANDA_CONFIG` < variables.",
        "",
    ]
    short = {place: name for name, place in settings.SHORT.items()}
    for section, made in settings.SECTIONS.items():
        lines += [f"## [{section}]", "", (inspect.getdoc(made) or "").strip(), ""]
        lines += ["| setting | variable | default | meaning |", "|---|---|---|---|"]
        notes = attribute_notes(made)
        for each in fields(made):
            variable = short.get((section, each.name), f"PANDA_{section}_{each.name}".upper())
            shown = f"`{each.default}`" if each.default != "" else "(empty)"
            lines.append(f"| `{each.name}` | `{variable}` | {shown} | {' '.join(notes[each.name].split())} |")
        lines.append("")
    return "\n".join(lines)


def permissions_page() -> str:
    """Who may do what."""
    lines = ["# Permissions", "", "Made from `panda/auth/policy.py`. What is not here is forbidden.", ""]
    lines += ["| a person may … | with anybody's | only with their own |", "|---|---|---|"]
    for action, rule in policy.TABLE.items():
        anyones, own = (", ".join(sorted(roles)) or "-" for roles in (rule.anyones, rule.own))
        lines.append(f"| {action.value} | {anyones} | {own} |")
    return "\n".join(lines) + "\n"


def cli_page() -> str:
    """The help of every command."""
    lines = ["# Commands", "", "Made from the help of `panda` and of each of its verbs.", ""]
    for path, command in _commands(command_line, "panda"):
        names = command_line.context_settings["help_option_names"]
        context = click.Context(command, info_name=path, terminal_width=100, help_option_names=names)
        told = "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
        lines += [f"## {path}", "", "```", told, "```", ""]
    lines += ["## Exit codes", "", "| code | name | means |", "|---|---|---|"]
    lines += _numbers(exits)
    lines += ["", "## Exit codes of the pilot", "", "| code | name | means |", "|---|---|---|"]
    lines += _numbers(pilot.exits)
    return "\n".join(lines) + "\n"


def _commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=path)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from _commands(below, f"{path} {name}")


def _numbers(module: ModuleType) -> list[str]:
    """Rows for the constants of a module: value, name, the `#:` comment."""
    lines = []
    for line in inspect.getsource(module).splitlines():
        if found := re.match(r"([A-Z_]+) = (\d+)(?:  #: (.*))?$", line):
            name, value, note = found.groups()
            lines.append(f"| {value} | `{name}` | {note or ''} |")
    return lines


def http_page() -> str:
    """Every call and every message, from the OpenAPI document."""
    app = create_app(begin_of(make_engine("postgresql://nobody@nowhere/none")), settings.Settings())
    made = openapi.document(app)
    lines = [
        "# HTTP",
        "",
        "Made from the OpenAPI document that every server has at `/openapi.json` (and, as a page, at",
        "`/docs`).",
    ]
    lines += [
        "",
        made["info"]["description"],
        "",
        "Codes: [errors](errors.md). Who may act on whose things: [permissions](permissions.md).",
    ]
    for tag in made["tags"]:
        lines += ["", f"## {tag['name']}", "", "| call | does | a caller who may |", "|---|---|---|"]
        for path, item in made["paths"].items():
            for method, each in item.items():
                if each["tags"] == [tag["name"]]:
                    who = each.get("x-needs-leave-to", "(everybody)")
                    lines.append(
                        f"| [`{method.upper()} {path}`](#{each['operationId'].lower()}) | {each['summary']} | {who} |"
                    )
    lines += ["", "## Calls"]
    for path, item in made["paths"].items():
        for method, each in item.items():
            lines += _call(path, method, each)
    lines += ["", "## Messages"]
    for name, schema in made["components"]["schemas"].items():
        lines += ["", f"### {name}", ""]
        lines += [_one_line(schema["description"]), ""] if schema.get("description") else []
        lines += ["| field | | type | |", "|---|---|---|---|"]
        needed = schema.get("required", ())
        for field, kind in schema.get("properties", {}).items():
            told = [
                f"`{field}`",
                "needed" if field in needed else "",
                _cell(reference.type_of(kind)),
                kind.get("description", ""),
            ]
            lines.append(f"| {' | '.join(told)} |")
    return "\n".join(lines) + "\n"


def _call(path: str, method: str, each: dict[str, Any]) -> list[str]:
    lines = ["", f"### {each['operationId']}", "", f"`{method.upper()} {path}`: {each['summary']}"]
    lines += ["", _one_line(each["description"])] if each.get("description") else []
    rows = [
        f"| `{one['name']}` | {one['in']}{', needed' if one['required'] else ''} "
        f"| {_cell(reference.type_of(one['schema']))} | {one['description']} |"
        for one in each["parameters"]
    ]
    lines += ["", "| parameter | in | type | |", "|---|---|---|---|", *rows] if rows else []
    lines += ["", "```sh", reference.curl(method, path, each), "```", ""]
    body = each.get("requestBody")
    lines += [f"Takes {reference.contents(body['content'])}.", ""] if body else []
    for status, answer in each["responses"].items():
        contents = reference.contents(answer.get("content", {}))
        lines.append(
            f"- {status}: {answer['description']}" + (f", {contents}" if contents and int(status) < 400 else "")
        )
    return lines


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _first_sentences(text: str | None) -> str:
    return " ".join((text or "").partition("\n\n")[0].split())


#: Raised by Falcon, or for what nobody foresaw.
OF_THE_FRAME = {
    "internal": (500, "an error of the server; its log knows more under this request id"),
    "no_such_path": (404, "there is nothing at this path"),
    "method_not_allowed": (405, "this method is not for this path"),
    "unknown_status": (422, "unknown status …; did you mean …?"),
}
#: Faults of ours, and of files that are read at the start.
NEVER_SENT = frozenset({"forbidden_move", "unknown_section", "unknown_setting"})


def errors_page() -> str:
    """Codes of the API, of failed jobs, of pilots."""
    lines = ["# Errors", "", "Made from the code. Scripts rely on codes; sentences may change.", ""]
    lines += ["## Codes of the API", "", "| code | HTTP | says |", "|---|---|---|"]
    for code, (status, sentence) in sorted(_api_codes().items()):
        lines.append(f"| `{code}` | {'-' if code in NEVER_SENT or not status else status} | {sentence} |")
    lines += [
        "",
        "`-`: never reaches a client of the API. `invalid` is 400 where a request is not even one: no JSON, a",
        "parameter that is no number.",
        "",
        "## Codes of failed jobs",
        "",
        "`component:word`, in the job's `error_code`. `payload:N` is a payload that ended with exit code N,",
        "`pilot:N` one of the numbers below. Other words:",
        "",
        "| code | from |",
        "|---|---|",
    ]
    lines += [f"| `{code}` | `{file}` |" for code, file in sorted(_failure_codes())]
    lines += [
        "",
        "## Numbers of pilots",
        "",
        "PanDA's own. *Again*: the fault lies with a node, a storage or the system, so the next attempt opens by",
        "itself while attempts are left.",
        "",
        "| number | name | means | |",
        "|---|---|---|---|",
    ]
    notes = member_notes(ErrorCode)
    for code in sorted(ErrorCode):
        again = "again" if code in reports.SYSTEM_ERRORS else ""
        lines.append(f"| {code.value} | `{code.name}` | {notes.get(code.name, '')} | {again} |")
    return "\n".join(lines) + "\n"


def _api_codes() -> dict[str, tuple[int | None, str]]:
    """HTTP status and sentence by code: of classes, and of `raise X(…, code=…)`."""
    found: dict[str, tuple[int | None, str]] = dict(OF_THE_FRAME)
    for module, tree in _server_modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                made = getattr(module, node.name, None)
                if isinstance(made, type) and issubclass(made, errors.PandaError) and "code" in vars(made):
                    if made is errors.PandaError:
                        continue
                    found.setdefault(str(made.code), (_status(made), _first_sentences(made.__doc__)))
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
                for code, (kind, sentence) in _raised(node).items():
                    made = getattr(module, kind, None) or getattr(errors, kind, None)
                    if isinstance(made, type) and issubclass(made, errors.PandaError):
                        found.setdefault(code, (_status(made), sentence))
    for name, status in api_errors.STATUS_BY_CODE.items():
        found[name] = (int(status), found[name][1])
    return found


def _server_modules() -> Iterator[tuple[ModuleType, ast.Module]]:
    for file in sorted((ROOT / "panda").rglob("*.py"), key=lambda file: (len(file.parts), file)):
        parts = file.relative_to(ROOT).with_suffix("").parts
        if {"cli", "client", "local", "versions", "migrations"}.isdisjoint(parts) and file.name != "wsgi.py":
            name = ".".join(parts).removesuffix(".__init__")
            yield importlib.import_module(name), ast.parse(file.read_text(encoding="utf-8"))


def _raised(call: ast.Call) -> dict[str, tuple[str, str]]:
    """Class and sentence by code, of a call that makes an error with a code of its own."""
    kind = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
    if kind == "UnknownName" and call.args and isinstance(call.args[0], ast.Constant):
        thing = str(call.args[0].value)
        return {f"unknown_{thing.replace(' ', '_')}": ("UnknownName", f"unknown {thing} …; did you mean …?")}
    for keyword in call.keywords:
        if keyword.arg == "code" and isinstance(keyword.value, ast.Constant) and call.args:
            return {str(keyword.value.value): (kind, _sentence(call.args[0]))}
    return {}


def _sentence(node: ast.expr) -> str:
    """A string with `…` for what is filled in."""
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    return str(node.value) if isinstance(node, ast.Constant) else "…"


def _status(made: type) -> int | None:
    return next((int(api_errors.STATUS[kind]) for kind in made.__mro__ if kind in api_errors.STATUS), None)


def _failure_codes() -> set[tuple[str, str]]:
    """Third argument of every `Failure(…)`, with its file."""
    found = set()
    for folder in ("panda", "workflows"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                is_failure = isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Failure"
                if is_failure and len(node.args) > 2 and isinstance(node.args[2], ast.Constant | ast.JoinedStr):
                    found.add((_code(node.args[2]), str(file.relative_to(ROOT))))
    return found


def _code(node: ast.Constant | ast.JoinedStr) -> str:
    """`define:no_input`, or `STAGE:word` where the stage is filled in."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    return f"STAGE{_sentence(node).removeprefix('…')}"


def requirements_page() -> str:
    """The language of requirements, and its names."""
    grammar = inspect.getdoc(reading) or ""
    lines = ["# Requirements", "", "Made from `panda/requirements`. What they are for: [brokerage](../explanation/"
             "brokerage.md#requirements).", "", "```text", grammar.partition("\n\n")[2], "```", ""]  # fmt: skip
    limits = (
        f"At most {requirements.MAX_LENGTH:,} characters, {requirements.MAX_DEPTH} levels of brackets and "
        f"{requirements.MAX_NODES} parts. `and` binds more than `or`; `+ - * /` go from left to right; what comes "
        "after a part that settles the answer is not asked. A division by 0 is never met. In `like`, `*` stands for "
        "anything."
    )
    lines += [limits, "", "| name | is | |", "|---|---|---|"]
    lines += [f"| `{name}` | {known.type} | {known.about} |" for name, known in requirements.NAMES.items()]
    return "\n".join(lines) + "\n"


#: Noun -> path of its page, of its API, and its command. What is nowhere is `-`.
LISTED: tuple[tuple[Noun, str, str, str], ...] = (
    (jobs.JOBS, "/jobs", "/v1/jobs", "panda jobs"),
    (jobs.JOBSETS, "/jobsets", "/v1/jobsets", "panda sets"),
    (jobs.ATTEMPTS, "-", "/v1/attempts", "panda attempts"),
    (jobs.ACTIONS, "/jobs/actions", "/v1/actions", "panda actions"),
    (data.DATASETS, "/datasets", "/v1/datasets", "panda datasets"),
    (data.FILES, "/files", "/v1/files", "panda files"),
    (flow.TRANSFERS, "/transfers", "/v1/transfers", "panda transfers"),
    (places.QUEUES, "/queues", "/v1/queues", "panda queues"),
    (places.SITES, "-", "/v1/sites", "panda sites"),
    (places.STORAGES, "-", "/v1/storages", "panda storages"),
    (places.DOWNTIMES, "-", "/v1/downtimes", "panda downtimes"),
    (places.VERSIONS, "-", "/v1/site-versions", "panda sites history"),
    (places.ACTS, "-", "/v1/site-rule-acts", "panda sites rules --acts"),
    (fleet.PILOTS, "/pilots", "/v1/pilots", "panda pilots"),
    (fleet.NODES, "-", "/v1/nodes", "panda nodes"),
    (people.USERS, "/users", "/v1/users", "panda users"),
    (people.TOKENS, "/tokens", "/v1/tokens", "panda token list"),
    (people.INCIDENTS, "/incidents", "/v1/incidents", "panda incidents"),
    (people.AUDIT, "/audit", "/v1/audit", "panda audit-log"),
)


def filters_page() -> str:
    """What every noun may be filtered and sorted by, and where."""
    lines = ["# Filters", ""]
    lines += ["Made from the lists of `panda`. How to write one: [find things](../how-to/find-things.md).", ""]
    lines += ["| noun | page | API | command | orders |", "|---|---|---|---|---|"]
    for noun, page, api, command in LISTED:
        orders = ", ".join(f"`{'-' if order.newest_first else ''}{name}`" for name, order in noun.orders.items())
        shown = "-" if page == "-" else f"`{page}`"
        lines.append(f"| [{noun.name}](#{noun.name.replace(' ', '-')}) | {shown} | `{api}` | `{command}` | {orders} |")
    lines += [
        "",
        "The first order is the usual one; each can be had the other way. *index*: equality goes straight",
        "to the rows; *row*: each row of the window is looked at; *probe*: and one look into another table for each.",
    ]
    for noun, *_ in LISTED:
        lines += ["", f"## {noun.name}", "", "| field | also | is | asking costs | |", "|---|---|---|---|---|"]
        for field in noun.fields.values():
            also = ", ".join(f"`{alias}`" for alias in field.aliases)
            kind = "one of " + ", ".join(f"`{word}`" for word in field.words) if field.words else str(field.kind)
            kind += ", or `none`" if field.is_nullable else ""
            lines.append(f"| `{field.name}` | {also} | {kind} | {field.cost} | {_cell(field.about)} |")
    return "\n".join(lines) + "\n"


PAGES: dict[str, Callable[[], str]] = {
    "filters.md": filters_page,
    "requirements.md": requirements_page,
    "invariants.md": invariants_page,
    "statuses.md": statuses_page,
    "settings.md": settings_page,
    "permissions.md": permissions_page,
    "cli.md": cli_page,
    "http-api.md": http_page,
    "errors.md": errors_page,
}


def stale() -> list[str]:
    """Names of the pages that do not say what the code says."""
    return [
        name
        for name, page in PAGES.items()
        if not (REFERENCE / name).exists() or (REFERENCE / name).read_text(encoding="utf-8") != page()
    ]


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(f"stale: {', '.join(stale())}; run python docs/generate.py" if stale() else 0)
    for name, page in PAGES.items():
        (REFERENCE / name).write_text(page(), encoding="utf-8")
