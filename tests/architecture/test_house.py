"""The drawn-up house, held against the code."""

import ast
import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from panda.db.session import rows
from panda.states import (
    ENTRY_STATUS,
    FINAL,
    LEASED,
    MOVES,
    PIPELINE,
    JobStatus,
    QueueStatus,
    Stage,
    TransferStatus,
    Wait,
)

ROOT = Path(__file__).parents[2]
TOP_LEVEL = {"panda", "workflows", "pilot", "monitoring", "config", "tests", "docs", "benchmarks", "examples",
             "requirements", "Procfile", "pyproject.toml", "Makefile", "README.md", "CHANGELOG.md",
             "SECURITY.md", "LICENSE", "NOTICE", ".ci", ".gitignore", ".pre-commit-config.yaml"}  # fmt: skip
#: Files that are one table or one list, where splitting would hide it.
LINES = 600


def tracked() -> list[Path]:
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git checkout")
    return [Path(line) for line in done.stdout.splitlines()]


def imported(file: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


def test_the_layers_are_kept():
    done = subprocess.run([sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"],
                          cwd=ROOT, capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_the_pilot_imports_the_standard_library_and_itself():
    for file in (ROOT / "pilot").rglob("*.py"):
        assert imported(file) <= set(sys.stdlib_module_names) | {"pilot"}, file


def test_the_top_level_holds_what_is_drawn():
    assert {path.parts[0] for path in tracked()} <= TOP_LEVEL


def test_no_file_is_too_long_to_hold_in_the_head():
    long = {
        str(path): n
        for path in tracked()
        if path.suffix == ".py" and path.parts[0] not in ("tests", "benchmarks")
        and (ROOT / path).exists() and (n := (ROOT / path).read_text(encoding="utf-8").count("\n")) > LINES
    }  # fmt: skip
    assert long == {}


def test_the_reference_pages_say_what_the_code_says():
    pages = runpy.run_path(str(ROOT / "docs" / "generate.py"))
    assert pages["stale"]() == []


def test_the_lock_files_hold_hashes_and_no_addresses():
    for file in (ROOT / "requirements").glob("*.txt"):
        text = file.read_text(encoding="utf-8")
        assert "://" not in text
        assert "--index" not in text
        assert all("--hash=" in block for block in text.split("\n\n") if "==" in block)


def test_every_dependency_that_is_named_is_locked():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = project["dependencies"] + [each for extra in project["optional-dependencies"].values() for each in extra]
    locked = {
        line.split("==")[0]
        for file in ("server", "extras")
        for line in (ROOT / f"requirements/{file}.txt").read_text().splitlines()
        if "==" in line
    }
    for requirement in named:
        name = requirement.split("[")[0].split("=")[0].split(">")[0].split("<")[0].lower()
        assert name in locked, name


def test_every_status_has_its_moves_and_every_final_one_has_none_but_retry():
    assert set(MOVES) == set(JobStatus)
    for status in FINAL - {JobStatus.FAILED}:
        assert MOVES[status] == frozenset()
    assert not MOVES[JobStatus.FAILED] & FINAL


def test_every_status_that_is_not_final_can_end_and_be_reached():
    for status in set(JobStatus) - FINAL:
        assert MOVES[status] & FINAL, status
    reached = set().union(*MOVES.values()) | {JobStatus.PENDING}
    assert reached == set(JobStatus)


def test_every_status_belongs_to_a_stage_and_every_stage_to_the_pipeline():
    assert set(ENTRY_STATUS) == set(Stage) == set(PIPELINE)
    assert set().union(*ENTRY_STATUS.values()) == set(JobStatus)
    assert ENTRY_STATUS[Stage.STAGE_OUT] >= LEASED


@pytest.mark.parametrize(
    ("table", "column", "words"),
    [
        ("jobs", "status", JobStatus),
        ("job_due", "stage", Stage),
        ("job_due", "waits_for", Wait),
        ("transfers", "status", TransferStatus),
        ("queues", "status", QueueStatus),
    ],
)
def test_the_databases_words_are_those_of_the_code(begin, table, column, words):
    sql = """SELECT pg_get_constraintdef(c.oid) AS text FROM pg_constraint c
        WHERE c.conrelid = %(table)s::regclass AND c.contype = 'c' AND pg_get_constraintdef(c.oid) LIKE %(like)s
        UNION ALL SELECT pg_get_constraintdef(c.oid) FROM pg_constraint c JOIN pg_attribute a ON a.atttypid = c.contypid
        WHERE a.attrelid = %(table)s::regclass AND a.attname = %(column)s"""
    with begin() as connection:
        [found] = rows(connection, sql, {"table": table, "column": column, "like": f"%({column} = ANY%"})

    assert {word for word in words if f"'{word}'" in found.text} == set(words)
    assert found.text.count("'::text") == len(set(words))


def test_one_clock_the_databases_and_one_function_for_it():
    """Law 16. Everything else that tells the time in SQL would escape the clock of the tests."""
    other = re.compile(r"\b(now\(\)|clock_timestamp\(\)|current_timestamp|localtimestamp)", re.IGNORECASE)
    for folder in ("panda", "workflows", "monitoring"):
        for file in (ROOT / folder).rglob("*.py"):
            if file.name != "0001_engine.py":
                text = file.read_text(encoding="utf-8").replace("panda_now()", "").replace(".utcnow()", "")
                assert not re.search(r"(?<![\w.])" + other.pattern[2:], text, re.IGNORECASE), file


def test_only_the_session_ends_transactions():
    """`connection.commit()` is SQLAlchemy's word, and says nothing here: `session.commit(connection)` does."""
    for file in tracked():
        if file.suffix == ".py" and file.parts[0] in ("panda", "workflows", "monitoring") and "db" not in file.parts:
            said = re.findall(r"\w+\.(?:commit|rollback|begin_nested)\(\)", (ROOT / file).read_text(encoding="utf-8"))
            assert not said, file


def test_the_page_of_guards_is_the_table_of_mutations():
    guards = runpy.run_path(str(ROOT / "tests" / "mutation" / "guards.py"))
    assert guards["PAGE"].read_text(encoding="utf-8") == guards["page"]()
    for mutation in guards["MUTATIONS"]:
        assert mutation.old in (ROOT / mutation.file).read_text(encoding="utf-8"), mutation.guard
