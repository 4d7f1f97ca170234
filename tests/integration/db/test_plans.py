"""A plan is made once and kept. One that was made while the tables were empty must serve when they are full."""

import importlib
import pkgutil
import re

import pytest

import monitoring
import panda
import workflows
from panda.db.session import begin_of, make_engine, rows, run

#: Tables that grow with the jobs that are under way, and beyond.
HOT = ("jobs", "job_due", "ready", "leases", "job_files", "jobs_archive", "attempts", "job_events", "transfers",
       "transfer_waiters", "files", "replicas")  # fmt: skip
#: What asks about everything on purpose, and why it may.
UNBOUNDED = {
    "panda.sites.waking.WAKE_NEXT": "each chunk goes on where the last one ended: once round, after a queue changed",
    "panda.chaos.proof.STATUSES": "the proof after the faults",
    "panda.chaos.proof.LOST": "the proof after the faults",
    "panda.chaos.proof.DOUBLE_FINALS": "the proof after the faults",
    "panda.chaos.proof.ENDS": "the proof after the faults",
    "panda.chaos.proof.TIMES": "the proof after the faults",
    "panda.chaos.proof.WHY_OPEN": "the proof after the faults",
    "panda.chaos.stores.UNDER_WAY": "a fault: somebody locks some of what is under way",
    "panda.dataservice.admission.ARRIVING": "what moves right now: as much as the limits let through",
    "panda.dataservice.admission.MOVING": "what moves right now: as much as the limits let through",
    "panda.dataservice.flow.LINKS": "what moves right now, for the page of links",
    "panda.dataservice.transfers.RESEND": "Redis was erased: every transfer that was sent, once",
    "panda.jobs.counters.TIDY": "every ten minutes, and nobody waits for it",
    "panda.jobs.relaying.RESEND_WAITING": "Redis was erased: every job that was sent, once",
    "panda.jobs.restoring.LEASES": "a backup was restored: every lease, once",
    "panda.jobs.restoring.RENAME": "a backup was restored: every job, once",
    "panda.jobs.share_usage.COUNT": "every lease, to count cores; rationed by what it takes",
    "panda.jobs.share_usage.COUNT_BY_OWNER": "the same",
    "panda.jobs.quotas.history.RUNNING": "every lease, for the core hours of what runs; once a minute",
    "panda.jobs.quotas.watching.NEXT": "each chunk goes on where the last one ended: twice round, after a quota changed",
    "workflows.relay.LOOK": "EXISTS takes the head of each queue, and nothing more",
}  # fmt: skip
#: Joins of one part of a statement with another, and why they are cheap.
SMALL_PARTS = {
    "monitoring.reads.queries.ERRORS": "eight codes",
    "panda.dispatcher.reports.END": "what one request reports, twice",
    "panda.jobs.estimates.SAMPLE": "some of the kinds of jobs that are ready, with the first ones of all",
}
STATEMENT = re.compile(r"\s*(SELECT|WITH|INSERT|UPDATE|DELETE)\b")
#: The blank of a template: the statements that are made from it are constants too. (`'{}'` is JSON.)
BLANK = re.compile(r"(?<!')\{\w*\}")
#: These want all their rows before they give the first one: a LIMIT above them bounds nothing below them.
GREEDY = ("Sort", "Aggregate", "WindowAgg", "Hash", "SetOp", "ModifyTable")
#: Joins that give a row for each that they get; the others may look through any number for the next one.
PLAIN = ("Left", "Right", None)


def statements():
    """Each SQL constant of ours, also those in a dictionary. `_X` is a part that others are made of."""
    seen = set()  # a constant is asked where it stands, not where it is imported
    for module in modules():
        for name, value in vars(module).items():
            if name.isupper() and not name.startswith("_"):
                for key, sql in (value if isinstance(value, dict) else {"": value}).items():
                    if isinstance(sql, str) and STATEMENT.match(sql) and not BLANK.search(sql) and sql not in seen:
                        seen.add(sql)
                        yield f"{module.__name__}.{name}" + (f"[{key}]" if key else ""), sql


def modules():
    for package in (panda, workflows, monitoring):
        for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if ".migrations" not in found.name and not found.name.endswith((".__main__", ".wsgi")):
                yield importlib.import_module(found.name)


STATEMENTS = dict(statements())


@pytest.fixture(scope="module", params=["never counted", "counted while empty"])
def planner(postgres, request):
    """A connection whose planner knows nothing of the tables yet, or believes that they are empty."""
    name = f"plans_{request.param_index}"
    engine = make_engine(postgres.create_database(name, template="template_panda"))
    with begin_of(engine)() as connection:
        if request.param == "counted while empty":
            run(connection, "ANALYZE")
        yield connection
    engine.dispose()
    postgres.drop_database(name)


@pytest.fixture(scope="module")
def first_columns(planner):
    """By name of an index: the column, or the expression, that it begins with."""
    found = rows(
        planner,
        "SELECT c.relname AS index, trim('()' FROM pg_get_indexdef(c.oid, 1, true)) AS first"
        " FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid",
    )
    return {row.index: row.first for row in found}


@pytest.mark.parametrize("name", STATEMENTS)
def test_no_statement_walks_a_table_however_empty_it_was(planner, first_columns, name):
    if name in UNBOUNDED:
        pytest.skip(UNBOUNDED[name])
    for sql in filter(str.strip, STATEMENTS[name].split(";")):
        plan = generic_plan(planner, sql)

        assert list(walks(plan, first_columns)) == []


def test_no_statement_starts_processes_to_help_it(planner):
    """A scan that is switched off and cannot be avoided looks so dear that two helpers for three rows seem cheap."""
    statements = [(name, sql) for name, whole in STATEMENTS.items() for sql in filter(str.strip, whole.split(";"))]

    assert [name for name, sql in statements if "Gather" in str(generic_plan(planner, sql))] == []


def test_no_statement_compares_each_row_of_one_part_with_each_of_another(planner):
    """Parts (`WITH`) have no index, and no join of ours makes one: so one of the two has to be small."""
    statements = [(name, sql) for name, whole in STATEMENTS.items() for sql in filter(str.strip, whole.split(";"))]

    assert {name for name, sql in statements if any(products(generic_plan(planner, sql)))} <= SMALL_PARTS.keys()


def test_weeks_of_counts_cost_a_look_for_each_bin(planner):
    assert list(whole_indexes(generic_plan(planner, STATEMENTS["monitoring.reads.queries.LONG_HISTORY"]))) == []


def products(plan):
    """Joins of one part with another, row by row."""
    parts = plan.get("Plans", [])
    if plan["Node Type"] == "Nested Loop" and [part["Node Type"] for part in parts] == ["CTE Scan", "CTE Scan"]:
        yield plan.get("Join Filter")
    for part in parts:
        yield from products(part)


def whole_indexes(plan):
    if "Index" in plan["Node Type"] and "Index Cond" not in plan:
        yield plan["Index Name"]
    for part in plan.get("Plans", ()):
        yield from whole_indexes(part)


def test_what_may_walk_is_a_statement_of_ours():
    assert UNBOUNDED.keys() <= STATEMENTS.keys()


def walks(plan, first_columns, is_limited=False):
    """Scans of hot tables that neither a condition nor a LIMIT bounds."""
    node = plan["Node Type"]
    is_hot = "Scan" in node and plan.get("Relation Name", "").rstrip("_0123456789") in HOT
    if is_hot and not is_bounded(plan, first_columns, is_limited):
        yield f"{node} of {plan['Relation Name']} by {plan.get('Index Name')}"
    is_limited = node == "Limit" or (is_limited and node not in GREEDY and plan.get("Join Type") in PLAIN)
    for each in plan.get("Plans", ()):
        is_part = each["Parent Relationship"] not in ("InitPlan", "SubPlan")
        yield from walks(each, first_columns, is_limited and is_part)


def is_bounded(scan, first_columns, is_limited):
    """A condition on the column that an index begins with: `=` or `= ANY`, or both ends of a range; one end, or
    none, if a LIMIT takes the first rows that come. A queue may be taken from its head whatever is skipped there."""
    index = scan.get("Index Name")
    if index is None:
        return False
    on_first = rf"(?<![.\w])\(?{re.escape(first_columns[index])}\b[^=<>]*? "
    condition = scan.get("Index Cond", "")
    if re.search(on_first + "= ", condition):
        return True
    if re.search(on_first + ">=? ", condition) and re.search(on_first + "<=? ", condition):
        return True
    return is_limited and ("Filter" not in scan or is_queue(index))


def is_queue(index):
    """The relay's, the sweeper's and the movers' queues: walking them from their head is what they are for."""
    return index.startswith(("job_due_", "transfers_")) and not index.endswith("_pkey")


def generic_plan(connection, sql):
    """The plan for whatever values. The types of bare marks are what PostgreSQL finds."""
    names = dict.fromkeys(re.findall(r"%\((\w+)\)s", sql))
    text = sql.replace("%%", "%")
    for number, name in enumerate(names, 1):
        text = text.replace(f"%({name})s", f"${number}")
    cursor = connection.connection.dbapi_connection.cursor()
    with connection.begin_nested():  # the other statements are asked even if this one has a mistake
        cursor.execute(f"EXPLAIN (GENERIC_PLAN, FORMAT JSON) {text}")
        return cursor.fetchone()[0][0]["Plan"]
