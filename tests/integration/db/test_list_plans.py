"""A list costs no more than its window, whatever it is asked: its plans walk an index from a bound, or stop early."""

import itertools
import re
import time

import pytest

from panda.auth import nouns as people
from panda.dataservice import nouns as files
from panda.db import lists
from panda.db.lists import Noun
from panda.db.session import run
from panda.dispatcher import nouns as pilots
from panda.jobs import nouns as jobs
from panda.query import condition, read
from panda.sites import nouns as places

NOUNS = {
    noun.name: noun
    for module in (jobs, files, places, pilots, people)
    for noun in vars(module).values()
    if isinstance(noun, Noun)
}
#: A value for each field that a list may be asked for.
VALUE = {"text": "x*", "words": "x", "whole": "7", "number": "1.5", "time": "1h", "flag": "true"}
WALKS = {
    "job": ["", "owner:anna", "jobset:7", "panda_id:1,2", "status:running", "status:activated", "status:pending", "archived:yes"],
    "job set": ["", "owner:anna", "jobset:7"],
    "attempt": ["", "panda_id:7"],
    "dataset": ["", "dataset:mc:x", "jobset:7"],
    "file": ["", "dataset:mc:x", "file:7"],
    "token": ["", "owner:anna"],
    "audit row": ["", "who:anna"],
}  # fmt: skip
#: Tables that grow without end.
LARGE = ("jobs", "jobs_archive", "jobsets", "attempts", "datasets", "files", "tokens", "audit_log", "incidents", "pilots",
         "job_due", "ready", "leases", "replicas")  # fmt: skip
MANY = """
INSERT INTO shapes (cores, memory_mb, disk_mb, walltime_s) VALUES (1, 1, 1, 1);
INSERT INTO jobs (panda_id, jobset_id, seq, name, owner, share, priority, status, max_attempts, shape_id, created_at,
    changed_at, spec)
    SELECT i, i / 10000, i, 'n', 'owner-' || i %% 50, 'default', 0, CASE WHEN i > 50000 THEN 'finished' ELSE 'pending' END,
        1, 1, panda_now(), panda_now(), '{}'
    FROM generate_series(1, 100000) i;
INSERT INTO job_due (panda_id, stage, due_at) SELECT i, 'define', panda_now() FROM generate_series(1, 50000) i;
WITH gone AS (DELETE FROM jobs WHERE panda_id > 50000 RETURNING *)
    INSERT INTO jobs_archive SELECT gone.*, panda_now() FROM gone
"""


def test_every_field_of_every_noun_can_be_asked_for(begin):
    for noun in NOUNS.values():
        for field in noun.fields.values():
            word = field.words[0] if field.words else VALUE[field.kind.value]
            for text in (f"{field.name}:{word}", f"not {field.name}!={word}"):
                with begin() as connection:
                    lists.page(connection, noun, read(text, noun.fields))
        assert set(jobs.GROUPS) <= set(jobs.JOB_FIELDS)


@pytest.fixture
def empty(begin):
    """Everything counted while nothing was there: the planner believes the tables to be empty."""
    with begin() as connection:
        for table in LARGE:
            run(connection, f"ANALYZE {table}")
    return begin


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in WALKS.items() for text in texts])
def test_every_way_through_a_noun_walks_an_index(empty, name, text, monkeypatch):
    noun = NOUNS[name]
    said = []
    monkeypatch.setattr(lists, "rows", lambda _, sql, values: said.append(sql) or [])
    expression = read(text, noun.fields)
    walk = noun.walk(expression)
    order = walk.order or next(iter(noun.orders.values()))
    for descending, after in itertools.product((True, False), (None, (7,) * len(order.columns))):
        lists.scan(None, noun, expression, order=order, descending=descending, after=after, limit=10)

    for sql in said:
        with empty() as connection:
            plan = generic_plan(connection, sql)
        assert list(unbounded(plan)) == [], sql


@pytest.mark.parametrize("text", WALKS["job"])
def test_counts_by_whatever_jobs_have_in_common_walk_an_index(empty, text, monkeypatch):
    said = []
    monkeypatch.setattr(lists, "rows", lambda _, sql, values: said.append(sql) or [])
    for by in (*((name,) for name in jobs.GROUPS), ("cores", "memory", "attempt")):
        lists.counts(None, jobs.JOBS, read(text, jobs.JOB_FIELDS), by, window=10_000)

    for sql in said:
        with empty() as connection:
            assert list(unbounded(generic_plan(connection, sql))) == [], sql


def unbounded(plan, limited=False):
    """Scans of a large table that neither a condition nor a window ends; and sorts of more than a window."""
    limited = limited or plan["Node Type"] == "Limit"
    if not limited and "Scan" in plan["Node Type"] and is_whole(plan):
        yield f"{plan['Node Type']} of {plan['Relation Name']}"
    if plan["Node Type"] == "Sort" and any(is_whole(each) for each in plan["Plans"]):
        yield f"sort of {plan['Plans'][0].get('Relation Name')}"
    if plan["Node Type"] == "Seq Scan" and plan.get("Relation Name", "").rstrip("_0123456789") in LARGE:
        yield f"all of {plan['Relation Name']}"
    for each in plan.get("Plans", ()):
        yield from unbounded(each, limited)


def generic_plan(connection, sql):
    """The plan for whatever values."""
    for number, name in enumerate(dict.fromkeys(re.findall(r"%\((\w+)\)s", sql)), 1):
        sql = sql.replace(f"%({name})s", f"${number}")
    cursor = connection.connection.dbapi_connection.cursor()
    return cursor.execute(f"EXPLAIN (GENERIC_PLAN, FORMAT JSON) {sql}").fetchone()[0][0]["Plan"]


def is_whole(plan):
    return "Index Cond" not in plan and plan.get("Relation Name", "").rstrip("_0123456789") in LARGE


def test_one_page_of_many_jobs_looks_at_no_more_than_its_window(begin):
    with begin() as connection:
        run(connection, "SET LOCAL statement_timeout = '60s'")
        for statement in MANY.split(";"):
            run(connection, statement)
    nothing = "site:X stage:archive cores:7 name:*x*"
    for text in ("", "owner:owner-7", "owner:nobody", "status:running", nothing, f"owner:owner-7 {nothing}"):
        expression = read(text, jobs.JOB_FIELDS)
        fits = condition(expression)
        with begin() as connection:
            started = time.monotonic()
            found = lists.scan(connection, jobs.JOBS, expression, limit=100)
            took_s = time.monotonic() - started
            buffers = plan_of(connection, jobs.JOBS, expression)
        print(
            f"{text or 'all'!r}: {len(found.ids)} of 100, {took_s * 1000:.0f} ms, {buffers} pages; {len(fits.values)} values"
        )
        assert len(found.ids) == (100 if text in ("", "owner:owner-7") else 0)
        assert buffers < 10 * jobs.JOBS.window
    with begin() as connection:
        assert lists.scan(connection, jobs.JOBS, read(nothing, jobs.JOB_FIELDS), limit=1).next == (80_001,)
        assert lists.scan(connection, jobs.JOBS, read("status:running", jobs.JOB_FIELDS), limit=1).next is None
        counted = lists.counts(connection, jobs.JOBS, read("status:pending", jobs.JOB_FIELDS), ["owner"], window=40_000)
    assert (sum(n for _, n in counted.groups), counted.down_to) == (40_000, (10_001,))


def plan_of(connection, noun, expression):
    """Pages that a page of a list touches."""
    said = []
    original = lists.rows
    lists.rows = lambda _, sql, values: said.append((sql, values)) or []
    try:
        lists.scan(connection, noun, expression, limit=100)
    finally:
        lists.rows = original
    [(sql, values)] = said
    cursor = connection.connection.dbapi_connection.cursor()
    plan = cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}", values).fetchone()[0][0]["Plan"]
    return plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
