"""Make the reference pages from the code: `python docs/generate.py` writes, `--check` compares.

What a page says of statuses, settings and permissions is thus what the code does; an architecture test
fails when a page is behind.
"""

import ast
import inspect
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

from panda import settings, states
from panda.auth import policy

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


PAGES: dict[str, Callable[[], str]] = {
    "statuses.md": statuses_page,
    "settings.md": settings_page,
    "permissions.md": permissions_page,
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
